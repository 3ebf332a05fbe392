//! Gradients beside central differences, and what a backward pass leaves behind.

use crate::kit::{Alone, Columns, Odd, assert_close, noise, numbers, rows_of};
use crate::subject::Learner;
use skep_runtime_core::{Backend, DType, Fit, HostTensor};
use skep_toolkit::blocks::{Activation, DetDropout, Ffn, Nop, NopDelay, Transformer};
use skep_toolkit::{AdamW, Block, BlockError, Optimizer, Sgd, StepError};
use std::slice::from_ref;
use std::time::Duration;

/// `sum(outputs * weights)` in f64, so that the difference of two of them keeps its digits.
fn weighed<L: Learner>(block: &mut Alone<L>, inputs: &[HostTensor], weights: &HostTensor) -> f64 {
    let outputs = block.forward(inputs).unwrap();
    let pairs = numbers(&outputs[0]).into_iter().zip(numbers(weights));
    pairs.map(|(y, w)| f64::from(y) * f64::from(w)).sum()
}

/// The central difference for each of some elements of `at`, which `loss_at` writes back.
fn check(got: &[f32], at: &HostTensor, mut loss_at: impl FnMut(HostTensor) -> f64) {
    const STEP: f32 = 5e-3;
    let start = numbers(at);
    // Every third element keeps large tensors quick, and meets every row and column.
    for i in (0..start.len()).step_by(3) {
        let moved = |by: f32| {
            let mut moved = start.clone();
            moved[i] += by;
            HostTensor::from_f32(at.dims(), &moved).unwrap()
        };
        let difference = (loss_at(moved(STEP)) - loss_at(moved(-STEP))) / f64::from(2.0 * STEP);
        let error = (f64::from(got[i]) - difference).abs();
        assert!(error <= 2e-3 + 5e-3 * difference.abs(), "element {i} is {}, expected {difference}", got[i]);
    }
}

/// Compares the gradients of all inputs and, through one step of gradient descent, of all parameters.
fn check_block<L: Learner>(make: impl Fn() -> Block<L::Library>, inputs: &[HostTensor], outputs: &[usize]) {
    let weights = noise(outputs, 99);
    let mut block = Alone::<L>::new(make());
    let of_inputs = block.backward(inputs, from_ref(&weights)).unwrap();
    for (i, gradient) in of_inputs.iter().enumerate() {
        assert_eq!(gradient.dims(), inputs[i].dims());
        check(&numbers(gradient), &inputs[i], |moved| {
            let mut inputs = inputs.to_vec();
            inputs[i] = moved;
            weighed(&mut block, &inputs, &weights)
        });
    }

    // With a learning rate of 1, the step is the gradient.
    let before = block.state();
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(1.0));
    let mut stepped = Alone::<L>::new(make().with_optimizer(sgd.clone()).unwrap());
    stepped.backward(inputs, from_ref(&weights)).unwrap();
    let after = stepped.state();
    for (name, value) in &before.parameters {
        let moved = numbers(&after.parameters[name]);
        let gradient: Vec<f32> =
            numbers(value).iter().zip(moved).map(|(value, moved)| value - moved).collect();
        check(&gradient, value, |moved| {
            let mut state = before.clone();
            state.parameters.insert(name.clone(), moved);
            block.block.restore(&state, Fit::Exact).unwrap();
            weighed(&mut block, inputs, &weights)
        });
        block.block.restore(&before, Fit::Exact).unwrap();
    }
}

/// Two linear layers.
pub fn of_an_ffn<L: Learner>() {
    let ffn = Ffn { input: 5, hidden: 7, output: 3, activation: Activation::Gelu };
    check_block::<L>(|| Block::of("ffn", ffn).unwrap(), &[noise(&[4, 5], 1)], &[4, 3]);
}

/// Attention and norms.
pub fn of_a_transformer<L: Learner>() {
    let layer = Transformer { size: 8, heads: 2, hidden: 12, max_positions: 6, activation: Activation::Gelu };
    check_block::<L>(|| Block::of("layer", layer).unwrap(), &[noise(&[2, 5, 8], 1)], &[2, 5, 8]);
}

/// Dropout by a mask, which is an input.
pub fn of_det_dropout<L: Learner>() {
    let dropout = DetDropout { input: 4, hidden: 6, output: 3, probability: 0.25 };
    let mask: Vec<f32> =
        numbers(&noise(&[5, 6], 2)).into_iter().map(|v| if v >= -0.5 { 1.0 } else { 0.0 }).collect();
    let mask = HostTensor::from_f32(&[5, 6], &mask).unwrap();
    check_block::<L>(|| Block::of("dropout", dropout).unwrap(), &[noise(&[5, 4], 1), mask], &[5, 3]);
}

/// What computes nothing changes nothing, either way.
pub fn nop_passes_inputs_and_gradients_on<L: Learner>() {
    let x = noise(&[2, 3], 1);
    let gradient = noise(&[2, 3], 2);
    let delay = NopDelay { size: 3, delay: Duration::from_micros(1) };
    for block in [Block::of("nop", Nop { size: 3 }).unwrap(), Block::of("nop_delay", delay).unwrap()] {
        let mut block = Alone::<L>::new(block);
        assert_eq!(block.forward(from_ref(&x)).unwrap()[0], x);
        assert_eq!(block.backward(from_ref(&x), from_ref(&gradient)).unwrap()[0], gradient);
    }
}

/// Where the mask drops everything, the last bias is left.
pub fn dropped_features_do_not_reach_the_output<L: Learner>() {
    let dropout = DetDropout { input: 4, hidden: 6, output: 3, probability: 0.5 };
    let mut block = Alone::<L>::new(Block::of("dropout", dropout).unwrap());
    let nothing = HostTensor::from_f32(&[2, 6], &[0.0; 12]).unwrap();
    let outputs = block.forward(&[noise(&[2, 4], 1), nothing]).unwrap();
    let bias = &numbers(&block.state().parameters["fc2.bias"]);
    assert_close(&numbers(&outputs[0]), &[bias.as_slice(), bias].concat(), 0.0);
}

/// Rows do not see each other, forward or backward.
pub fn a_batch_gives_the_gradients_of_its_rows_alone<L: Learner>() {
    let layer = Transformer { size: 8, heads: 4, hidden: 16, max_positions: 6, activation: Activation::Relu };
    let mut block = Alone::<L>::new(Block::of("layer", layer).unwrap());
    let (x, gradient) = (noise(&[3, 4, 8], 1), noise(&[3, 4, 8], 2));
    let together = block.backward(from_ref(&x), from_ref(&gradient)).unwrap();
    let outputs = block.forward(from_ref(&x)).unwrap();
    for row in 0..3 {
        let alone = |t: &HostTensor| rows_of(t, row..row + 1);
        let gradients = block.backward(&[alone(&x)], &[alone(&gradient)]).unwrap();
        assert_close(&numbers(&gradients[0]), &numbers(&alone(&together[0])), 1e-5);
        let output = block.forward(&[alone(&x)]).unwrap();
        assert_close(&numbers(&output[0]), &numbers(&alone(&outputs[0])), 1e-5);
    }
}

/// The same gradients come again, and the parameters are what they were.
pub fn without_an_optimizer_nothing_changes<L: Learner>() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Gelu };
    let mut block = Alone::<L>::new(Block::of("ffn", ffn).unwrap());
    let before = block.state();
    let first = block.backward(&[noise(&[4, 2], 1)], &[noise(&[4, 2], 2)]).unwrap();
    let second = block.backward(&[noise(&[4, 2], 1)], &[noise(&[4, 2], 2)]).unwrap();
    assert_eq!(first[0], second[0]);
    assert_eq!(block.state(), before);
}

/// Inputs that no output depends on, and integers, get zeros of their own element type.
pub fn inputs_without_a_gradient_get_zeros<L: Learner>() {
    let mut block = Alone::<L>::new(Block::of("odd", Odd).unwrap());
    let ids = HostTensor::from_u32(&[1, 1], &[5]).unwrap();
    let inputs = [noise(&[1, 2], 1), noise(&[1, 3], 2), ids.clone()];
    let gradients = block.backward(&inputs, &[noise(&[1, 2], 3), ids]).unwrap();
    let twice: Vec<f32> = numbers(&noise(&[1, 2], 3)).iter().map(|v| 2.0 * v).collect();
    assert_close(&numbers(&gradients[0]), &twice, 0.0);
    assert_eq!(numbers(&gradients[1]), [0.0; 3]);
    assert_eq!(gradients[2], HostTensor::zeros(DType::U32, &[1, 1]).unwrap());
}

/// A gradient too few, and one of other dims.
pub fn wrong_gradients_are_refused<L: Learner>() {
    let mut block = Alone::<L>::new(Block::of("nop", Nop { size: 2 }).unwrap());
    let x = noise(&[3, 2], 1);
    let error = block.backward(from_ref(&x), &[]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::WrongGradients { expected: 1, got: 0 }));
    let error = block.backward(&[x], &[noise(&[2, 2], 1)]).unwrap_err();
    assert_eq!(error.to_string(), "gradient 0 has dims [2, 2], expected [3, 2]");
}

/// The step is not taken.
pub fn a_gradient_that_is_not_a_number_does_not_touch_the_parameters<L: Learner>() {
    let ffn = Ffn { input: 2, hidden: 3, output: 1, activation: Activation::Gelu };
    let adamw = Optimizer::adamw(AdamW::default());
    let mut block = Alone::<L>::new(Block::of("ffn", ffn).unwrap().with_optimizer(adamw).unwrap());
    let before = block.state();
    let poison = HostTensor::from_f32(&[1, 1], &[f32::NAN]).unwrap();
    let error = block.backward(&[noise(&[1, 2], 1)], &[poison]).unwrap_err();
    assert!(matches!(StepError::find(&*error), Some(StepError::GradientNotFinite { .. })), "{error}");
    assert_eq!(block.state(), before);
    assert_eq!(block.block.training().unwrap().refused, 1, "it is counted");
}

/// `load` comes first.
pub fn a_block_that_is_not_loaded_says_so<L: Learner>() {
    let mut block = Block::<L::Library>::of("nop", Nop { size: 2 }).unwrap();
    let error = block.forward(&[Columns::shaped(&L::device(), &[1, 2], &[0.5, 1.0])]).err().unwrap();
    assert_eq!(error.downcast_ref(), Some(&BlockError::NotLoaded));
    assert!(block.state().is_err());
}

/// It says so beforehand, too.
pub fn a_block_for_inference_refuses_a_backward_pass<L: Learner>() {
    let nop = Block::of("nop", Nop { size: 2 }).unwrap();
    let mut block = Alone::<L>::new(nop.inference_only());
    assert!(!block.block.info().backward);
    let error = block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 1)]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::InferenceOnly));
}
