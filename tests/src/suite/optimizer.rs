//! Optimizers beside the same formulas written out for one number after the other, in f64.

use crate::kit::{Adder, Alone, Two, assert_close, noise, numbers};
use crate::subject::Learner;
use skep_runtime_core::{Backend, Fit, HostTensor};
use skep_toolkit::{AdamW, Block, Optimizer, Schedule, Sgd};
use std::slice::from_ref;

/// A block of one parameter `w` `[4]` whose gradient is the gradient of the output.
fn adder<L: Learner>(optimizer: Optimizer) -> Alone<L> {
    Alone::new(Block::of("adder", Adder).unwrap().with_seed(11).with_optimizer(optimizer).unwrap())
}

fn weights<L: Learner>(block: &Alone<L>) -> Vec<f32> {
    numbers(&block.state().parameters["w"])
}

fn gradient(step: u32) -> HostTensor {
    noise(&[1, 4], step)
}

fn train<L: Learner>(block: &mut Alone<L>, steps: std::ops::Range<u32>) {
    for step in steps {
        block.backward(&[noise(&[1, 4], 0)], &[gradient(step)]).unwrap();
    }
}

/// Follows each weight through the steps with `rule(weight, gradient, step from 1, memory)`.
fn follow(start: &[f32], steps: u32, rule: impl Fn(&mut f64, f64, i32, &mut [f64; 2])) -> Vec<f32> {
    let follow_one = |(i, &start): (usize, &f32)| {
        let (mut weight, mut memory) = (f64::from(start), [0.0; 2]);
        for step in 0..steps {
            let gradient = f64::from(numbers(&gradient(step))[i]);
            rule(&mut weight, gradient, i32::try_from(step).unwrap() + 1, &mut memory);
        }
        #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
        {
            weight as f32
        }
    };
    start.iter().enumerate().map(follow_one).collect()
}

/// Loshchilov and Hutter's algorithm.
pub fn adamw_follows_the_published_formula<L: Learner>() {
    let rule = AdamW::default().learning_rate(0.05).beta1(0.8).beta2(0.95).eps(1e-6).weight_decay(0.1);
    let mut block = adder::<L>(Optimizer::adamw(rule));
    let start = weights(&block);
    train(&mut block, 0..20);
    let expected = follow(&start, 20, |w, g, t, [m, v]| {
        *w -= 0.05 * 0.1 * *w;
        *m = 0.8 * *m + 0.2 * g;
        *v = 0.95 * *v + 0.05 * g * g;
        *w -= 0.05 * (*m / (1.0 - 0.8f64.powi(t))) / ((*v / (1.0 - 0.95f64.powi(t))).sqrt() + 1e-6);
    });
    assert_close(&weights(&block), &expected, 1e-5);
}

/// With momentum and decay.
pub fn sgd_follows_its_formula<L: Learner>() {
    let rule = Sgd::default().learning_rate(0.1).momentum(0.9).weight_decay(0.05);
    let mut block = adder::<L>(Optimizer::sgd(rule));
    let start = weights(&block);
    train(&mut block, 0..20);
    let expected = follow(&start, 20, |w, g, _, [m, _]| {
        *m = 0.9 * *m + g + 0.05 * *w;
        *w -= 0.1 * *m;
    });
    assert_close(&weights(&block), &expected, 1e-4);
}

/// Up, down, and no further.
pub fn the_schedule_scales_each_step<L: Learner>() {
    let schedule = Schedule::WarmupLinear { warmup: 3, total: 8 };
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(0.5)).with_schedule(schedule);
    let mut block = adder::<L>(sgd);
    let start = weights(&block);
    train(&mut block, 0..12);
    let factors = [1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0];
    let expected = follow(&start, 12, |w, g, t, _| *w -= 0.5 * factors[usize::try_from(t).unwrap() - 1] * g);
    assert_close(&weights(&block), &expected, 1e-5);
}

/// A small one is left as it is.
pub fn a_large_gradient_is_scaled_down_to_the_norm<L: Learner>() {
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(1.0)).with_max_norm(2.0);
    let mut block = adder::<L>(sgd);
    let step = |block: &mut Alone<L>, gradient: [f32; 4]| {
        let before = weights(block);
        let gradient = HostTensor::from_f32(&[1, 4], &gradient).unwrap();
        block.backward(&[noise(&[1, 4], 0)], &[gradient]).unwrap();
        before.iter().zip(weights(block)).map(|(before, after)| before - after).collect::<Vec<_>>()
    };
    // The norm is 10: a fifth of it is left.
    assert_close(&step(&mut block, [1.0, 7.0, 5.0, 5.0]), &[0.2, 1.4, 1.0, 1.0], 1e-5);
    assert_close(&step(&mut block, [1.0, 0.0, -1.0, 0.5]), &[1.0, 0.0, -1.0, 0.5], 1e-6);
}

/// Not over each by itself.
pub fn the_norm_goes_over_all_parameters<L: Learner>() {
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(1.0)).with_max_norm(1.0);
    let mut block = Alone::<L>::new(Block::of("two", Two).unwrap().with_optimizer(sgd).unwrap());
    let one = HostTensor::from_f32(&[1, 1], &[1.0]).unwrap();
    block.backward(from_ref(&one), from_ref(&one)).unwrap();
    let state = block.state();
    assert_close(&numbers(&state.parameters["a"]), &[-0.6], 1e-5);
    assert_close(&numbers(&state.parameters["b"]), &[-0.8], 1e-5);
}

/// To the bit.
pub fn training_goes_on_after_a_restart_as_if_there_had_been_none<L: Learner>() {
    let optimizers = [
        Optimizer::adamw(AdamW::default()).with_schedule(Schedule::WarmupLinear { warmup: 4, total: 30 }),
        Optimizer::sgd(Sgd::default().momentum(0.9)),
    ];
    for optimizer in optimizers {
        let mut uninterrupted = adder::<L>(optimizer.clone());
        train(&mut uninterrupted, 0..7);
        let mut restarted = adder::<L>(optimizer.clone());
        restarted.block.restore(&uninterrupted.state(), Fit::Exact).unwrap();
        train(&mut uninterrupted, 7..12);
        train(&mut restarted, 7..12);
        assert_eq!(restarted.state(), uninterrupted.state());
    }
}
