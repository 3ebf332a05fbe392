//! Learning through the runtime: the gradients are the right ones, a batch is one step, and a state carries
//! everything that the next step depends on.

use crate::kit::{Columns, LIMIT, answer, drain, gated, new_builder, pool_of};
use crate::subject::{Learner, Learning};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served, TaskPool};
use skep_runtime_core::{Backend, BlockState, Device, Reload, RunningRuntime};
use std::sync::Arc;

pub(super) const INPUTS: usize = 4;
pub(super) const OUTPUTS: usize = 3;

/// The largest difference between two lists of numbers, by absolute value.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub(super) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A served block.
pub(super) struct Trained<D: Device> {
    device: Arc<D>,
    block: Served<D>,
    pub(super) runtime: RunningRuntime<D>,
}

impl<D: Device> Trained<D> {
    pub(super) fn new<L: Learner<Device = D>>(seed: u64, learning: Learning) -> Self {
        let (mut builder, _) = new_builder(L::device(), 1);
        let device = Arc::clone(builder.device());
        let block = builder.serve(L::ffn("ffn", seed, learning), ServeOptions::default()).unwrap();
        Self { device, block, runtime: builder.start().unwrap() }
    }

    fn tensor(&self, width: usize, values: &[f32]) -> D::Tensor {
        Columns::shaped(&*self.device, &[values.len() / width, width], values)
    }

    fn backward_pool(&self) -> &TaskPool<D> {
        self.block.backward.as_ref().expect("block can be called backward")
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let ticket = self.block.forward.submit(vec![self.tensor(INPUTS, x)]).unwrap();
        Columns::read(&*self.device, &answer(ticket).unwrap()[0])
    }

    fn backward(&self, x: &[f32], gradient: &[f32]) -> Vec<f32> {
        let inputs = vec![self.tensor(INPUTS, x), self.tensor(OUTPUTS, gradient)];
        Columns::read(&*self.device, &answer(self.backward_pool().submit(inputs).unwrap()).unwrap()[0])
    }

    /// `sum(y * gradient)`, in f64, because differences of it are taken.
    fn loss(&self, x: &[f32], gradient: &[f32]) -> f64 {
        self.forward(x).iter().zip(gradient).map(|(y, g)| f64::from(*y) * f64::from(*g)).sum()
    }

    pub(super) fn state(&self) -> BlockState {
        self.runtime.handle().state("ffn").unwrap()
    }

    /// One step towards `target` on the squared error. Returns the loss before it.
    pub(super) fn step_towards(&self, x: &[f32], target: &[f32]) -> f32 {
        let y = self.forward(x);
        let gradient: Vec<f32> = y.iter().zip(target).map(|(y, t)| 2.0 * (y - t)).collect();
        self.backward(x, &gradient);
        y.iter().zip(target).map(|(y, t)| (y - t) * (y - t)).sum()
    }
}

/// A block that leaves the device for another one, between two steps, goes on as if it had stayed.
pub fn a_trained_block_comes_back_as_it_left<L: Learner>() {
    let stays = Trained::new::<L>(1, Learning::AdamW);
    let (builder, _) = new_builder(L::device(), 1);
    let mut builder = builder.budget(150);
    let device = Arc::clone(builder.device());
    let [block, other] = ["ffn", "other"].map(|name| {
        let ffn = Reload::new(move || Ok(L::ffn(name, 1, Learning::AdamW))).bytes(100);
        builder.serve_reloadable(ffn, ServeOptions::default()).unwrap()
    });
    let goes = Trained { device, block, runtime: builder.start().unwrap() };
    let (x, target) = (random(2, 8 * INPUTS), random(3, 8 * OUTPUTS));
    for step in 0..4 {
        let [expected, got] = [&stays, &goes].map(|trained| trained.step_towards(&x, &target));
        assert!((expected - got).abs() <= 1e-6 * expected, "step {step}: {expected} and {got}");
        let task = vec![goes.tensor(INPUTS, &x)];
        answer(other.forward.submit(task).unwrap()).unwrap();
    }
    assert_eq!(goes.runtime.handle().budget().unwrap().on_device, 1);
    assert!(distance(&parameters(&goes.state()), &parameters(&stays.state())) < 1e-6);
    drain(stays.runtime);
    drain(goes.runtime);
}

/// All parameters one after the other.
fn parameters(state: &BlockState) -> Vec<f32> {
    state.parameters.values().flat_map(|tensor| tensor.to_f32().expect("parameters are f32")).collect()
}

/// Gradients of inputs and parameters equal central differences of the loss to 2e-3 in the maximum norm:
/// what a step of 1e-2 leaves of a smooth function, and of f32, at values around 1.
pub fn gradients_are_those_of_finite_differences<L: Learner>() {
    const STEP: f32 = 1e-2;
    let trained = Trained::new::<L>(1, Learning::Sgd { rate: 1.0 });
    let (x, gradient) = (random(2, 2 * INPUTS), random(3, 2 * OUTPUTS));
    let before = trained.state();
    let of_inputs = trained.backward(&x, &gradient);
    let after = trained.state();
    // The step was the gradient.
    let of_parameters: Vec<f32> =
        parameters(&before).iter().zip(parameters(&after)).map(|(before, after)| before - after).collect();
    trained.runtime.handle().restore("ffn", before.clone()).unwrap();

    let slope = |loss: &dyn Fn(f32) -> f64| (loss(STEP) - loss(-STEP)) / (2.0 * f64::from(STEP));
    #[expect(clippy::cast_possible_truncation, reason = "compared to f32")]
    let by_inputs: Vec<f32> = (0..x.len())
        .map(|i| {
            slope(&|by| {
                let mut moved = x.clone();
                moved[i] += by;
                trained.loss(&moved, &gradient)
            }) as f32
        })
        .collect();
    assert!(distance(&of_inputs, &by_inputs) < 2e-3, "{of_inputs:?} {by_inputs:?}");

    let mut at = 0;
    for (name, tensor) in &before.parameters {
        let values = tensor.to_f32().unwrap();
        for i in 0..values.len() {
            let difference = slope(&|by| {
                let mut state = before.clone();
                let mut moved = values.clone();
                moved[i] += by;
                let moved = skep_runtime_core::HostTensor::from_f32(tensor.dims(), &moved).unwrap();
                state.parameters.insert(name.clone(), moved);
                trained.runtime.handle().restore("ffn", state).unwrap();
                trained.loss(&x, &gradient)
            });
            let error = (f64::from(of_parameters[at]) - difference).abs();
            assert!(error < 2e-3, "`{name}` at {i}: {} and {difference}", of_parameters[at]);
            at += 1;
        }
    }
    drain(trained.runtime);
}

/// Rows that run in one batch with others get the outputs that they get alone, to 1e-5 in the maximum norm.
pub fn batched_equals_single<L: Learner>() {
    let (mut builder, _) = new_builder(L::device(), 0);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gate");
    let gate_pool = pool_of(&mut builder, block, PoolOptions::default());
    let block = builder.serve(L::ffn("ffn", 1, Learning::Off), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let held = gate_pool.submit(vec![Columns::shaped(&*device, &[1, 1], &[0.0])]).unwrap();
    gate.entered();
    let tasks: Vec<_> = (0..20usize)
        .map(|i| {
            let x = random(i as u64, (1 + i % 3) * INPUTS);
            let input = Columns::shaped(&*device, &[1 + i % 3, INPUTS], &x);
            (block.forward.submit(vec![input]).unwrap(), x)
        })
        .collect();
    gate.open();
    answer(held).unwrap();
    let mut alone = L::ffn("alone", 1, Learning::Off);
    alone.load(&device).unwrap();
    for (ticket, x) in tasks {
        let y = Columns::read(&*device, &answer(ticket).unwrap()[0]);
        let input = device.gather(&[Columns::shaped(&*device, &[x.len() / INPUTS, INPUTS], &x)]).unwrap();
        let expected = Columns::read(&*device, &alone.forward(&[input]).unwrap()[0]);
        assert!(distance(&y, &expected) < 1e-5, "{y:?} {expected:?}");
    }
    drain(runtime);
}

/// A batch of several tasks is one step of the optimizer, with the gradients of an unbatched call: inputs'
/// gradients and parameters equal to 1e-6 in the maximum norm.
pub fn a_batch_is_one_step<L: Learner>() {
    for learning in [Learning::Sgd { rate: 0.1 }, Learning::AdamW] {
        let (mut builder, _) = new_builder(L::device(), 1);
        let device = Arc::clone(builder.device());
        let patient = PoolOptions::default().min_rows(3).max_delay(Some(LIMIT));
        let options = ServeOptions::default().backward(patient);
        let block = builder.serve(L::ffn("ffn", 5, learning), options).unwrap();
        let runtime = builder.start().unwrap();
        let (x, gradient) = (random(6, 3 * INPUTS), random(7, 3 * OUTPUTS));
        let pool = block.backward.as_ref().unwrap();
        let rows = x.chunks(INPUTS).zip(gradient.chunks(OUTPUTS));
        let tickets: Vec<_> = rows
            .map(|(x, gradient)| {
                let x = Columns::shaped(&*device, &[1, INPUTS], x);
                pool.submit(vec![x, Columns::shaped(&*device, &[1, OUTPUTS], gradient)]).unwrap()
            })
            .collect();
        let of_inputs: Vec<f32> = tickets
            .into_iter()
            .flat_map(|ticket| Columns::read(&*device, &answer(ticket).unwrap()[0]))
            .collect();

        let mut alone = L::ffn("alone", 5, learning);
        alone.load(&device).unwrap();
        let on_device =
            |width, values| device.gather(&[Columns::shaped(&*device, &[3, width], values)]).unwrap();
        let expected = alone.backward(&[on_device(INPUTS, &x)], &[on_device(OUTPUTS, &gradient)]).unwrap();
        assert!(distance(&of_inputs, &Columns::read(&*device, &expected[0])) < 1e-6);
        let (stepped, expected) = (runtime.handle().state("ffn").unwrap(), alone.state().unwrap());
        assert!(distance(&parameters(&stepped), &parameters(&expected)) < 1e-6, "{learning:?}");
        assert_eq!(stepped.scalars, expected.scalars);
        drain(runtime);
    }
}

/// Inference changes nothing, and without an optimizer training does not either.
pub fn only_an_optimizer_changes_parameters<L: Learner>() {
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let before = trained.state();
    trained.forward(&random(2, INPUTS));
    assert_eq!(trained.state(), before);
    drain(trained.runtime);

    let trained = Trained::new::<L>(1, Learning::Off);
    let before = trained.state();
    let (x, gradient) = (random(2, INPUTS), random(3, OUTPUTS));
    let first = trained.backward(&x, &gradient);
    assert_eq!(trained.backward(&x, &gradient), first, "gradients do not pile up");
    assert_eq!(trained.state(), before);
    drain(trained.runtime);
}

/// Training that goes on from a state has the losses that it had without the break: after going back, and
/// in another runtime that started elsewhere.
pub fn training_continues_from_a_state<L: Learner>() {
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let (x, target) = (random(2, 8 * INPUTS), random(3, 8 * OUTPUTS));
    let losses = |trained: &Trained<L::Device>, steps: usize| -> Vec<f32> {
        (0..steps).map(|_| trained.step_towards(&x, &target)).collect()
    };
    let first = losses(&trained, 10);
    let saved = trained.state();
    let expected = losses(&trained, 10);
    assert!(first[0] > expected[9], "the block learns: {first:?} {expected:?}");

    trained.runtime.handle().restore("ffn", saved.clone()).unwrap();
    assert_eq!(trained.state(), saved, "what is restored is what comes out again");
    assert!(distance(&losses(&trained, 10), &expected) < 1e-6, "after going back");
    drain(trained.runtime);

    let restarted = Trained::new::<L>(99, Learning::AdamW);
    restarted.runtime.handle().restore("ffn", saved).unwrap();
    assert!(distance(&losses(&restarted, 10), &expected) < 1e-6, "after a restart");
    drain(restarted.runtime);
}

/// A state that does not fit is refused and changes nothing; one with a part missing says which.
pub fn states_that_do_not_fit_are_told<L: Learner>() {
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let before = trained.state();
    let name = before.parameters.keys().next().unwrap().clone();
    let mut wrong = Trained::new::<L>(2, Learning::AdamW).state();
    wrong.parameters.insert(name.clone(), skep_runtime_core::HostTensor::from_f32(&[1], &[0.0]).unwrap());
    assert!(trained.runtime.handle().restore("ffn", wrong).is_err());
    assert_eq!(trained.state(), before);

    let mut partial = before.clone();
    partial.parameters.remove(&name);
    let refused = trained.runtime.handle().restore("ffn", partial.clone()).unwrap_err();
    let refused = skep_runtime_core::Chain(&refused).to_string();
    assert!(refused.contains(&format!("it lacks [{name:?}]")), "{refused}");
    assert_eq!(trained.runtime.handle().restore_partial("ffn", partial).unwrap().missing, [name]);
    assert_eq!(trained.state(), before);
    drain(trained.runtime);
}
