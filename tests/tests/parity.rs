//! What one backend computes, the other computes too: from the same weights and the same inputs, forward, backward
//! and ten steps of training, and from each other's files.
//!
//! tch on the device that `SKEP_DEVICE` names, candle on the host's processor. All in f32. The norm is the largest
//! absolute difference of two elements; elements are around 1.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_runtime_core::{Backend, BlockState, Device, Fit};
use skep_tests::Learner;
use skep_tests::backends::{Candle, Tch};
use skep_tests::kit::{Columns, Figure, figures};
use skep_toolkit::checkpoint::{CheckpointDir, encode};
use skep_toolkit::{AdamW, Config, Optimizer, Schedule};
use std::fs;

const OUTPUTS: f32 = 1e-5;
const GRADIENTS: f32 = 1e-4;
const PARAMETERS: f32 = 1e-4;
const STEPS: u64 = 10;

/// A kind of block, and the dims of what it takes and gives.
struct Case {
    kind: &'static str,
    settings: &'static str,
    input: &'static [usize],
    output: &'static [usize],
    /// `AdamW`'s.
    eps: f64,
}

const FFN: Case = Case {
    kind: "ffn",
    settings: "input=16, hidden=64, output=8",
    input: &[8, 16],
    output: &[8, 8],
    eps: 1e-8,
};

const TRANSFORMER: Case = Case {
    kind: "transformer",
    settings: "size=32, heads=4, hidden=64, max_positions=12",
    input: &[8, 12, 32],
    output: &[8, 12, 32],
    // The bias of the keys moves all scores of a row alike, which softmax does not see: its gradient is 0 but for
    // rounding, which is each backend's own. AdamW divides a gradient by its size; with 1e-8, which is less than
    // that rounding, it would make steps of it, and the two backends would be compared in nothing else.
    eps: 1e-6,
};

/// Everything that the next step can depend on is in use.
fn optimizer(eps: f64) -> Optimizer {
    let schedule = Schedule::WarmupLinear { warmup: 3, total: 40 };
    Optimizer::adamw(AdamW::default().eps(eps)).with_schedule(schedule).with_max_norm(1.0)
}

fn random(seed: u64, dims: &[usize]) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..dims.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// One backend's block on its device.
struct Loaded<D, B> {
    device: D,
    block: B,
    case: &'static Case,
}

fn loaded<L: Learner>(
    case: &'static Case,
    source: impl std::fmt::Display,
) -> Loaded<L::Device, impl Backend<L::Device>> {
    let config: Config = format!("{}, {source}", case.settings).parse().unwrap();
    let (device, mut block) = (L::device(), L::block(case.kind, "block", &config, Some(optimizer(case.eps))));
    block.load(&device).unwrap();
    Loaded { device, block, case }
}

impl<D: Device, B: Backend<D>> Loaded<D, B> {
    /// On the device, where a block wants its tensors.
    fn placed(&self, seed: u64, dims: &[usize]) -> D::Tensor {
        self.device.gather(&[Columns::shaped(&self.device, dims, &random(seed, dims))]).unwrap()
    }

    fn forward(&mut self, seed: u64) -> Vec<f32> {
        let x = self.placed(seed, self.case.input);
        Columns::read(&self.device, &self.block.forward(&[x]).unwrap()[0])
    }

    /// One step; the gradients of its inputs.
    fn step(&mut self, seed: u64) -> Vec<f32> {
        let (x, gradient) = (self.placed(seed, self.case.input), self.placed(seed + 1000, self.case.output));
        Columns::read(&self.device, &self.block.backward(&[x], &[gradient]).unwrap()[0])
    }

    fn state(&self) -> BlockState {
        self.block.state().unwrap()
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // Unlike `max`, this keeps what is not a number.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |a, b| if b <= a { a } else { b })
}

/// Between all parameters of the same names.
fn parameter_distance(a: &BlockState, b: &BlockState) -> f32 {
    let all = |state: &BlockState| -> Vec<f32> {
        state.parameters.values().flat_map(|tensor| tensor.to_f32().unwrap()).collect()
    };
    assert!(a.parameters.keys().eq(b.parameters.keys()));
    distance(&all(a), &all(b))
}

fn backends_agree(case: &'static Case) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    let drawn = loaded::<Candle>(case, "seed=5").state();
    assert_eq!(drawn.parameters, loaded::<Tch>(case, "seed=5").state().parameters, "the same seed");
    let mut parameters = BlockState::default();
    parameters.parameters = drawn.parameters;
    fs::write(&file, encode(&parameters).unwrap()).unwrap();

    let weights = format!("weights={}", file.display());
    let (mut candle, mut tch) = (loaded::<Candle>(case, &weights), loaded::<Tch>(case, &weights));
    let start = candle.state();
    let outputs = distance(&candle.forward(1), &tch.forward(1));
    let mut gradients = 0.0_f32;
    for step in 0..STEPS {
        gradients = gradients.max(distance(&candle.step(step), &tch.step(step)));
    }
    let end = candle.state();
    assert!(parameter_distance(&start, &end) > 50.0 * PARAMETERS, "the steps were no steps");
    figures(
        case.kind,
        &[
            Figure { what: "outputs", difference: outputs, limit: OUTPUTS },
            Figure { what: "gradients of inputs", difference: gradients, limit: GRADIENTS },
            Figure {
                what: "parameters after 10 AdamW steps",
                difference: parameter_distance(&end, &tch.state()),
                limit: PARAMETERS,
            },
        ],
    );
}

/// `From` trains and saves; `To` reads the file and takes the same further steps as `From`.
fn checkpoints_cross<From: Learner, To: Learner>(direction: &str, case: &'static Case) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = CheckpointDir::new(folder.path(), "block", 1).unwrap();
    let (mut from, mut to) = (loaded::<From>(case, "seed=5"), loaded::<To>(case, "seed=6"));
    for step in 0..STEPS / 2 {
        from.step(step);
    }
    checkpoints.save(&from.state()).unwrap();
    let (_, saved) = checkpoints.load().unwrap().found.unwrap();
    to.block.restore(&saved, Fit::Exact).unwrap();
    assert_eq!(to.state(), from.state(), "what was read is what was written, to the bit");
    for step in STEPS / 2..STEPS {
        from.step(step);
        to.step(step);
    }
    let after = Figure {
        what: "parameters after 5 further steps",
        difference: parameter_distance(&from.state(), &to.state()),
        limit: PARAMETERS,
    };
    assert_ne!(saved.parameters, from.state().parameters);
    figures(&format!("{} through a checkpoint, {direction}", case.kind), &[after]);
}

#[test]
fn ffn() {
    backends_agree(&FFN);
}

#[test]
fn transformer() {
    backends_agree(&TRANSFORMER);
}

#[test]
fn checkpoints_of_candle_go_on_in_tch() {
    checkpoints_cross::<Candle, Tch>("candle to tch", &FFN);
    checkpoints_cross::<Candle, Tch>("candle to tch", &TRANSFORMER);
}

#[test]
fn checkpoints_of_tch_go_on_in_candle() {
    checkpoints_cross::<Tch, Candle>("tch to candle", &FFN);
    checkpoints_cross::<Tch, Candle>("tch to candle", &TRANSFORMER);
}
