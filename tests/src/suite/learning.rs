//! Training is right, or refused by name.

use super::training::{INPUTS, OUTPUTS, Trained, random};
use crate::kit::{
    Alone, Bare, Bias, Columns, Derived, Idle, LIMIT, Noisy, Pupil, answer, assert_close, drain, in_dtype,
    new_builder, noise, numbers,
};
use crate::subject::{Learner, Learning};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{
    Backend, BatchEvent, Chain, DType, DeviceLoss, Fit, HostTensor, Meter, Observer, PoolId, SubmitError,
    Training, Unrun,
};
use skep_toolkit::blocks::Nop;
use skep_toolkit::{AdamW, Block, BlockError, Optimizer, RestoreError, Schedule, Sgd, StepError};
use std::sync::{Arc, Mutex};
use std::time::Instant;

fn sgd(rate: f64) -> Optimizer {
    Optimizer::sgd(Sgd::default().learning_rate(rate))
}

fn pupil<L: Learner>(dtype: DType, bias: Bias, optimizer: Optimizer) -> Alone<L> {
    let block = Block::of("pupil", Pupil { dtype, bias }).unwrap().with_parameters(|_| Ok(noise(&[4], 5)));
    Alone::new(block.with_optimizer(optimizer).unwrap())
}

fn filled(rows: usize, value: f32, dtype: DType) -> HostTensor {
    in_dtype(&HostTensor::from_f32(&[rows, 4], &vec![value; 4 * rows]).unwrap(), dtype)
}

/// When the block is made, by the setting's name.
pub fn settings_of_an_optimizer_are_checked<L: Learner>() {
    let nan = AdamW::default().learning_rate(f64::NAN);
    for (optimizer, expected) in [
        (Optimizer::adamw(nan), "`learning_rate` is `NaN`, expected a finite number, at least 0"),
        (Optimizer::adamw(AdamW::default().beta1(1.0)), "`beta1` is `1`"),
        (Optimizer::adamw(AdamW::default().eps(0.0)), "`eps` is `0`"),
        (Optimizer::sgd(Sgd::default().weight_decay(-1.0)), "`weight_decay` is `-1`"),
        (sgd(0.1).with_max_norm(-1.0), "`max_norm` is `-1`, expected a finite number above 0"),
        (sgd(0.1).with_max_norm(f64::NAN), "`max_norm` is `NaN`"),
    ] {
        let ffn = L::ffn("ffn", 1, Learning::Off);
        let message = ffn.with_optimizer(optimizer).err().unwrap().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

/// In each element type: nothing has changed, and the next step is taken.
pub fn a_step_that_would_destroy_a_parameter_is_not_taken<L: Learner>() {
    for (dtype, rate, gradient) in [
        // 65,504 is the largest number of half precision; the master copy would hold the result.
        (DType::F16, 4000.0, 30.0),
        (DType::F32, 1e30, 1e10),
        (DType::BF16, 1e30, 1e10),
    ] {
        let mut block = pupil::<L>(dtype, Bias::Own, sgd(rate));
        let before = block.state();
        let x = filled(1, 1.0, dtype);
        let error = block.backward(std::slice::from_ref(&x), &[filled(1, gradient, dtype)]).unwrap_err();
        let expected = StepError::WouldNotBeFinite { parameter: "b".to_owned() };
        assert_eq!(StepError::find(&*error), Some(&expected), "{dtype}: {error}");
        assert_eq!(block.state(), before, "{dtype}");
        block.backward(&[x], &[filled(1, 0.0, dtype)]).unwrap();
        let training = block.block.training().unwrap();
        assert_eq!((training.steps, training.refused), (1, 1));
    }
    // What AdamW remembers of a gradient is its square.
    let mut block = pupil::<L>(DType::F32, Bias::Own, Optimizer::adamw(AdamW::default()));
    let before = block.state();
    let error = block.backward(&[filled(1, 1.0, DType::F32)], &[filled(1, 1e30, DType::F32)]).unwrap_err();
    assert!(matches!(StepError::find(&*error), Some(StepError::WouldNotBeFinite { .. })), "{error}");
    assert_eq!(block.state(), before);
    // Clipped, the same gradient is a step like others: its norm is a number in f64.
    let mut block = pupil::<L>(DType::F32, Bias::Own, sgd(1.0).with_max_norm(1.0));
    block.backward(&[filled(1, 0.0, DType::F32)], &[filled(1, 1e30, DType::F32)]).unwrap();
    let training = block.block.training().unwrap();
    assert!((training.gradient_norm / 2e30 - 1.0).abs() < 1e-6, "{training:?}");
}

/// A parameter of half precision follows gradients that are too small for its own numbers.
pub fn small_steps_of_half_precision_add_up<L: Learner>() {
    for dtype in [DType::F16, DType::BF16] {
        let mut block = pupil::<L>(dtype, Bias::Own, sgd(1e-4));
        let before = block.state().parameters["b"].clone();
        for _ in 0..200 {
            block.backward(&[filled(1, 0.0, dtype)], &[filled(1, 1.0, dtype)]).unwrap();
        }
        let after = block.state();
        let moved: Vec<f32> = numbers(&noise(&[4], 5)).iter().map(|v| v - 0.02).collect();
        assert_close(&numbers(&after.optimizer["master.b"]), &moved, 1e-2);
        assert_ne!(after.parameters["b"], before, "{dtype}");
    }
}

/// Each parameter counts its own steps, and a saved state has them. States of earlier versions have one number for all.
pub fn steps_are_counted_for_each_parameter<L: Learner>() {
    let adamw = || Optimizer::adamw(AdamW::default().learning_rate(0.01).weight_decay(0.0));
    let new = || {
        let block = Block::of("pupil", Pupil { dtype: DType::F32, bias: Bias::Late }).unwrap();
        let block = block.with_parameters(|_| Ok(noise(&[4], 5))).with_optimizer(adamw()).unwrap();
        Alone::<L>::new(block.allow_unused_parameters())
    };
    let mut block = new();
    let step = |block: &mut Alone<L>, rows| {
        block.backward(&[filled(rows, 1.0, DType::F32)], &[filled(rows, 0.5, DType::F32)]).unwrap();
    };
    for _ in 0..50 {
        step(&mut block, 1);
    }
    let before = block.state();
    assert_eq!((&*before.scalars["step.w"], &*before.scalars["step.b"]), ("50", "0"));
    let mut restarted = new();
    restarted.block.restore(&before, Fit::Exact).unwrap();
    for block in [&mut block, &mut restarted] {
        step(block, 2);
        let after = block.state();
        assert_eq!((&*after.scalars["step.w"], &*after.scalars["step.b"]), ("51", "1"));
        // The first step of AdamW is as long as the learning rate.
        let first: Vec<f32> = numbers(&before.parameters["b"]).iter().map(|v| v - 0.01).collect();
        assert_close(&numbers(&after.parameters["b"]), &first, 1e-6);
    }
    let mut old = before;
    old.scalars.retain(|name, _| name == "step");
    let mut restarted = new();
    restarted.block.restore(&old, Fit::Exact).unwrap();
    assert_eq!(restarted.state().scalars["step.b"], "50");
}

/// What layers derive of a parameter when they are made follows it: after a step, and after a restore.
pub fn derived_parameters_are_never_out_of_date<L: Learner>() {
    let block = || {
        let block = Block::of("derived", Derived).unwrap().with_parameters(|_| Ok(noise(&[4], 5)));
        Alone::<L>::new(block.with_optimizer(sgd(0.5)).unwrap())
    };
    let (mut trained, mut restored) = (block(), block());
    let one = filled(1, 1.0, DType::F32);
    let output = |block: &mut Alone<L>| numbers(&block.forward(std::slice::from_ref(&one)).unwrap()[0]);
    let mut expected: Vec<f32> = numbers(&noise(&[4], 5)).iter().map(|w| 2.0 * w).collect();
    assert_close(&output(&mut trained), &expected, 1e-6);
    for _ in 0..3 {
        let of_inputs = trained.backward(std::slice::from_ref(&one), std::slice::from_ref(&one)).unwrap();
        assert_close(&numbers(&of_inputs[0]), &expected, 1e-6);
        // The gradient of w is 2, the step 1, and twice that comes out.
        for y in &mut expected {
            *y -= 2.0;
        }
        assert_close(&output(&mut trained), &expected, 1e-5);
    }
    restored.block.restore(&trained.state(), Fit::Exact).unwrap();
    assert_close(&output(&mut restored), &expected, 1e-5);
}

/// By their names, and nothing is stepped; unless that is asked for.
pub fn parameters_without_a_gradient_are_named<L: Learner>() {
    let new = || {
        Block::of("idle", Idle)
            .unwrap()
            .with_parameters(|name| Ok(noise(if name == "idle" { &[2] } else { &[4] }, 5)))
    };
    let one = filled(1, 1.0, DType::F32);
    let mut block = Alone::<L>::new(new().with_optimizer(sgd(0.1)).unwrap());
    let before = block.state();
    for _ in 0..2 {
        let error = block.backward(std::slice::from_ref(&one), std::slice::from_ref(&one)).unwrap_err();
        let expected = StepError::NoGradient { parameters: vec!["idle".to_owned()] };
        assert_eq!(error.downcast_ref(), Some(&expected));
        assert!(error.to_string().starts_with("parameters `idle` got no gradient"), "{error}");
        assert_eq!(block.state(), before);
    }
    let mut block = Alone::<L>::new(new().with_optimizer(sgd(0.1)).unwrap().allow_unused_parameters());
    block.backward(std::slice::from_ref(&one), std::slice::from_ref(&one)).unwrap();
    let after = block.state();
    assert_eq!(after.parameters["idle"], before.parameters["idle"]);
    assert_ne!(after.parameters["w"], before.parameters["w"]);
}

/// It is the caller's from then on.
pub fn an_answer_stays_as_it_is<L: Learner>() {
    let mut block = Alone::<L>::new(Block::of("bare", Bare).unwrap().with_optimizer(sgd(0.5)).unwrap());
    for rows in [1, 3] {
        let x = filled(rows, 0.0, DType::F32);
        let answers = block.outputs(std::slice::from_ref(&x));
        let before = block.read(&answers);
        let state = block.state();
        block.backward(std::slice::from_ref(&x), &[filled(rows, 1.0, DType::F32)]).unwrap();
        assert_eq!(block.read(&answers), before, "after a step");
        assert_ne!(numbers(&block.forward(&[x]).unwrap()[0]), numbers(&before[0]));
        block.block.restore(&state, Fit::Exact).unwrap();
        assert_eq!(block.read(&answers), before, "after a restore");
    }
}

/// At submit, to the caller whose it is; the others' batch goes on.
pub fn gradients_that_are_not_finite_are_refused<L: Learner>() {
    let (mut builder, _) = new_builder(L::device(), 1);
    let device = Arc::clone(builder.device());
    let served = builder.serve(L::ffn("ffn", 1, Learning::AdamW), ServeOptions::default()).unwrap();
    let unchecked = PoolOptions::default().finite_inputs(Some(false));
    let options = ServeOptions::default().backward(unchecked);
    let careless = builder.serve(L::ffn("careless", 1, Learning::AdamW), options).unwrap();
    let runtime = builder.start().unwrap();
    let task = |x: f32, gradient: f32| {
        let x = Columns::shaped(&*device, &[1, INPUTS], &[x; INPUTS]);
        vec![x, Columns::shaped(&*device, &[1, OUTPUTS], &[gradient; OUTPUTS])]
    };
    let pool = served.backward.as_ref().unwrap();
    for (x, gradient, input) in [(1.0, f32::NAN, "grad.y"), (f32::INFINITY, 1.0, "x")] {
        let refused = pool.submit(task(x, gradient)).err().unwrap();
        assert!(
            matches!(&refused.error, SubmitError::NotFinite { input: named } if named == input),
            "{refused}"
        );
    }
    answer(pool.submit(task(1.0, 1.0)).unwrap()).unwrap();
    assert!(
        served.forward.submit(vec![Columns::shaped(&*device, &[1, INPUTS], &[f32::NAN; INPUTS])]).is_ok()
    );
    // Without the check, the step is not taken, and the error names a parameter.
    let failed =
        answer(careless.backward.as_ref().unwrap().submit(task(1.0, f32::NAN)).unwrap()).err().unwrap();
    let message = Chain(&failed).to_string();
    assert!(message.contains("gradient of `fc1.bias` is infinite or not a number"), "{message}");
    drain(runtime);
}

/// In a batch of several tasks, a gradient that is finite and too large is its own task's fault: that one gets the error,
/// and the others' step is taken without it.
pub fn a_gradient_that_is_too_large_fails_its_own_task<L: Learner>() {
    let (mut builder, _) = new_builder(L::device(), 1);
    let device = Arc::clone(builder.device());
    let patient = PoolOptions::default().min_rows(4).max_delay(Some(LIMIT));
    let block = || {
        let block = Block::<L::Library>::of("pupil", Pupil { dtype: DType::F32, bias: Bias::Own }).unwrap();
        block.with_parameters(|_| Ok(noise(&[4], 5))).with_optimizer(sgd(0.5)).unwrap()
    };
    let served = builder.serve(block(), ServeOptions::default().backward(patient)).unwrap();
    let runtime = builder.start().unwrap();
    let pool = served.backward.as_ref().unwrap();
    // By `x`, of which the gradient of `w` is the product with that of the output.
    let tasks = [1.0, 1e30, 2.0, 3.0].map(|x: f32| {
        let gradient = if x > 1e20 { 1e30 } else { 0.25 };
        let row = |value: f32| Columns::shaped(&*device, &[1, 4], &[value; 4]);
        pool.submit(vec![row(x), row(gradient)]).unwrap()
    });
    for (at, task) in tasks.into_iter().enumerate() {
        match answer(task) {
            Ok(_) => assert_ne!(at, 1),
            Err(error) => {
                assert_eq!(at, 1);
                let message = Chain(&error).to_string();
                let expected =
                    "batch failed: block `pupil` failed because of this task: gradient of `w` is infinite";
                assert!(message.starts_with(expected), "{message}");
            }
        }
    }
    let state = runtime.handle().state("pupil").unwrap();
    drain(runtime);
    assert_eq!(state.scalars["step"], "1");
    let mut expected = Alone::<L>::new(block());
    let rows = |values: [f32; 3]| {
        let values: Vec<f32> = values.into_iter().flat_map(|value| [value; 4]).collect();
        HostTensor::from_f32(&[3, 4], &values).unwrap()
    };
    expected.backward(&[rows([1.0, 2.0, 3.0])], &[rows([0.25; 3])]).unwrap();
    assert_eq!(expected.state().parameters, state.parameters);
}

/// It would count steps that change nothing.
pub fn an_optimizer_without_parameters_is_refused<L: Learner>() {
    let block = Block::of("nop", Nop { size: 2 }).unwrap().with_optimizer(sgd(0.1)).unwrap();
    let error = Alone::<L>::load(block).err().unwrap();
    assert_eq!(error.downcast_ref(), Some(&BlockError::NothingToTrain));
}

/// Numbers that the layers' element type cannot hold, and whole ones for others.
pub fn parameters_are_not_converted_to_what_they_are_not<L: Learner>() {
    let load = |dtype, value: HostTensor| {
        let block = Block::of("pupil", Pupil { dtype, bias: Bias::Own }).unwrap();
        let error = Alone::<L>::load(block.with_parameters(move |_| Ok(value.clone()))).err();
        error.map(|error| Chain(&*error).to_string())
    };
    let large = || HostTensor::from_f32(&[4], &[1.0, 2.0, 3.0, 1e5]).unwrap();
    assert_eq!(load(DType::BF16, large()), None);
    let message = load(DType::F16, large()).unwrap();
    assert!(message.contains("has numbers that are too large for f16"), "{message}");
    let doubles = HostTensor::from_elements(&[4], &[0.0, 0.0, 0.0, 1e300_f64]).unwrap();
    assert!(load(DType::F32, doubles).unwrap().contains("too large for f32"));
    let infinite = HostTensor::from_f32(&[4], &[0.0, 0.0, 0.0, f32::NEG_INFINITY]).unwrap();
    assert_eq!(load(DType::F16, infinite), None, "a mask may be");
    let whole = HostTensor::from_i64(&[4], &[1, 2, 3, 4]).unwrap();
    assert!(load(DType::F32, whole).unwrap().contains("is i64, expected f32: no conversion"));
}

/// Half of the elements are dropped in a training step, others in each; none in inference; and a training that goes on from
/// a state drops those that it would have.
pub fn dropout_goes_on_after_a_restart<L: Learner>() {
    let new = |seed| {
        let block = Block::of("noisy", Noisy).unwrap().with_seed(seed).with_optimizer(sgd(0.1)).unwrap();
        Alone::<L>::new(block)
    };
    let (x, ones) = (filled(64, 1.0, DType::F32), filled(64, 1.0, DType::F32));
    let mut whole = new(1);
    let inference = whole.forward(std::slice::from_ref(&x)).unwrap();
    let w = numbers(&whole.state().parameters["w"]);
    assert_close(&numbers(&inference[0])[..4], &w, 0.0);
    // The gradient of an element that is kept is `2 w`, and of others 0.
    let dropped = |of_inputs: &[HostTensor]| {
        numbers(&of_inputs[0]).iter().map(|gradient| *gradient == 0.0).collect::<Vec<_>>()
    };
    let step = |block: &mut Alone<L>| {
        dropped(&block.backward(std::slice::from_ref(&x), std::slice::from_ref(&ones)).unwrap())
    };
    let first: Vec<_> = (0..3).map(|_| step(&mut whole)).collect();
    let share = first.iter().flatten().filter(|dropped| **dropped).count() as f64 / (3.0 * 256.0);
    assert!((0.4..0.6).contains(&share), "{share}");
    assert!(first[0] != first[1] && first[1] != first[2]);
    let saved = whole.state();
    let next: Vec<_> = (0..3).map(|_| step(&mut whole)).collect();
    // Also one that would have begun with other numbers.
    for seed in [1, 9] {
        let mut restarted = new(seed);
        restarted.block.restore(&saved, Fit::Exact).unwrap();
        assert_eq!((0..3).map(|_| step(&mut restarted)).collect::<Vec<_>>(), next);
        assert_eq!(restarted.state(), whole.state());
    }
    // A step that is refused and taken again drops the same.
    let mut again = new(1);
    again.block.restore(&saved, Fit::Exact).unwrap();
    let poison = filled(64, f32::NAN, DType::F32);
    again.backward(std::slice::from_ref(&x), &[poison]).unwrap_err();
    assert_eq!(step(&mut again), next[0]);
    assert_ne!(step(&mut new(2)), first[0]);
}

/// With both names, whichever way round; what is saved says whose it is, and what was saved before that shows it.
pub fn a_state_of_another_optimizer_is_refused<L: Learner>() {
    let step = |optimizer| {
        let mut block = pupil::<L>(DType::F32, Bias::Own, optimizer);
        block.backward(&[filled(1, 1.0, DType::F32)], &[filled(1, 0.5, DType::F32)]).unwrap();
        block
    };
    let adamw = || Optimizer::adamw(AdamW::default());
    let momentum = || Optimizer::sgd(Sgd::default().momentum(0.9));
    for (from, to, got, expected) in [
        (adamw(), momentum(), "adamw", "sgd"),
        (momentum(), adamw(), "sgd", "adamw"),
        (sgd(0.1), adamw(), "sgd", "adamw"),
    ] {
        let has_memory = from != sgd(0.1);
        let (state, mut block) = (step(from).state(), step(to));
        let before = block.state();
        let error = block.block.restore(&state, Fit::Exact).unwrap_err();
        let other = RestoreError::OtherOptimizer { expected: expected.to_owned(), got: got.to_owned() };
        assert_eq!(error.downcast_ref(), Some(&other));
        assert_eq!(block.state(), before);
        if has_memory {
            let mut old = state.clone();
            old.scalars.remove("optimizer");
            assert_eq!(block.block.restore(&old, Fit::Exact).unwrap_err().downcast_ref(), Some(&other));
        }
        let unmatched = block.block.restore(&state, Fit::Partial).unwrap();
        assert!(unmatched.missing.contains(&"step".to_owned()), "{unmatched:?}");
        assert_eq!(block.state().parameters, state.parameters);
    }
    // A block that only serves takes the parameters of any training.
    let serving = Block::of("pupil", Pupil { dtype: DType::F32, bias: Bias::Own }).unwrap();
    let mut serving = Alone::<L>::new(serving.with_parameters(|_| Ok(noise(&[4], 6))));
    serving.block.restore(&step(adamw()).state(), Fit::Exact).unwrap();
}

/// Remembers how each backward pass left the training.
#[derive(Default)]
struct Follower(Mutex<Vec<Option<Training>>>);

impl Observer for Follower {
    fn started(&self, _: &str, _: Instant) {}
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {}
    fn batch(&self, event: &BatchEvent<'_>) {
        self.0.lock().unwrap().push(event.training);
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {}
    fn lost(&self, _: &DeviceLoss) {}
    fn stopped(&self, _: Instant) {}
}

/// Step, learning rate, norm and clipped share, in the events of backward passes.
pub fn training_can_be_followed<L: Learner>() {
    let (builder, _) = new_builder(L::device(), 1);
    let follower = Arc::new(Follower::default());
    let mut builder = builder.observer(Arc::clone(&follower) as Arc<_>);
    let device = Arc::clone(builder.device());
    let optimizer = sgd(0.5).with_schedule(Schedule::Step { every: 1, factor: 0.5 }).with_max_norm(3.0);
    let block = Block::<L::Library>::of("pupil", Pupil { dtype: DType::F32, bias: Bias::Own }).unwrap();
    let block = block.with_parameters(|_| Ok(noise(&[4], 5))).with_optimizer(optimizer).unwrap();
    let served = builder.serve(block, ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let zeros = || Columns::shaped(&*device, &[1, 4], &[0.0; 4]);
    answer(served.forward.submit(vec![zeros()]).unwrap()).unwrap();
    for gradient in [1.0, 2.0] {
        let gradient = Columns::shaped(&*device, &[1, 4], &[gradient; 4]);
        answer(served.backward.as_ref().unwrap().submit(vec![zeros(), gradient]).unwrap()).unwrap();
    }
    drain(runtime);
    let heard = follower.0.lock().unwrap().clone();
    let figures: Vec<_> = heard
        .iter()
        .map(|training| {
            training.map(|t| {
                (t.steps, t.clipped, t.refused, t.learning_rate.to_string(), t.gradient_norm.to_string())
            })
        })
        .collect();
    let expected = [
        None,
        Some((1, 0, 0, "0.5".to_owned(), "2".to_owned())),
        Some((2, 1, 0, "0.25".to_owned(), "4".to_owned())),
    ];
    assert_eq!(figures, expected);
    assert!((heard[2].unwrap().clipped_share() - 0.5).abs() < 1e-9);
}

/// What it gives is checked when it is used.
pub fn a_schedule_of_an_application_s_own<L: Learner>() {
    let schedule = Schedule::custom("odd", |step| if step < 2 { 0.5 } else { f64::NAN });
    let mut block = pupil::<L>(DType::F32, Bias::Own, sgd(1.0).with_schedule(schedule));
    let step =
        |block: &mut Alone<L>| block.backward(&[filled(1, 0.0, DType::F32)], &[filled(1, 1.0, DType::F32)]);
    step(&mut block).unwrap();
    step(&mut block).unwrap();
    let halves: Vec<f32> = numbers(&noise(&[4], 5)).iter().map(|v| v - 1.0).collect();
    let before = block.state();
    assert_close(&numbers(&before.parameters["b"]), &halves, 1e-6);
    let error = step(&mut block).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(StepError::Factor { step: 2, .. })), "{error}");
    assert!(error.to_string().contains("odd"), "{error}");
    assert_eq!(block.state(), before);
}

/// They are saved, and come back.
pub fn an_application_s_notes_are_part_of_the_state<L: Learner>() {
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let handle = trained.runtime.handle();
    handle.note("ffn", "position", Some("17".to_owned())).unwrap();
    handle.note("ffn", "gone", Some("x".to_owned())).unwrap();
    handle.note("ffn", "gone", None).unwrap();
    let state = trained.state();
    assert_eq!(state.scalars.get("note.position").map(String::as_str), Some("17"));
    assert!(!state.scalars.contains_key("note.gone"));
    let other = Trained::new::<L>(2, Learning::AdamW);
    other.runtime.handle().restore("ffn", state.clone()).unwrap();
    assert_eq!(other.state(), state);
    drain(trained.runtime);
    drain(other.runtime);
}

/// They follow the gradients of the inputs, and are those of the parameters before the step.
pub fn a_backward_pass_gives_its_outputs_when_asked<L: Learner>() {
    let (mut builder, _) = new_builder(L::device(), 1);
    let device = Arc::clone(builder.device());
    let asked = L::ffn("ffn", 1, Learning::Sgd { rate: 0.5 }).with_backward_outputs();
    let served = builder.serve(asked, ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let x = || Columns::shaped(&*device, &[2, INPUTS], &random(2, 2 * INPUTS));
    let gradient = Columns::shaped(&*device, &[2, OUTPUTS], &random(3, 2 * OUTPUTS));
    let before = Columns::read(&*device, &answer(served.forward.submit(vec![x()]).unwrap()).unwrap()[0]);
    let back = answer(served.backward.as_ref().unwrap().submit(vec![x(), gradient]).unwrap()).unwrap();
    assert_eq!(back.len(), 2);
    assert_eq!(Columns::dims(&*device, &back[0]), [2, INPUTS]);
    assert_close(&Columns::read(&*device, &back[1]), &before, 1e-6);
    let after = Columns::read(&*device, &answer(served.forward.submit(vec![x()]).unwrap()).unwrap()[0]);
    assert_ne!(after, before);
    drain(runtime);
}
