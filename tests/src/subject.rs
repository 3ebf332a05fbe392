//! What a backend brings to the suite.

use crate::kit::{Adder, Bare, CutOff, Derived, Idle, Noisy, Normed, Odd, Pupil, Two};
use skep_runtime_core::{DType, Device, TensorOps};
use skep_toolkit::blocks::{DetDropout, Ffn, Nop, NopDelay, Transformer};
use skep_toolkit::{AdamW, Block, Computes, Config, Kinds, Library, Optimizer, Registry, Schedule, Sgd};

/// A backend under test.
pub trait Subject: 'static {
    /// Its device.
    type Device: Device;

    /// A fresh device.
    fn device() -> Self::Device;
}

/// How a block under test learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Learning {
    /// Not at all: there is no optimizer.
    Off,
    /// `p = p - rate * gradient`.
    Sgd {
        /// The learning rate.
        rate: f64,
    },
    /// `AdamW` with a warm-up, a decay and a limit on the gradients' norm, so that the next step depends on
    /// everything that an optimizer can remember.
    AdamW,
}

/// A backend with blocks that can be called backward.
pub trait Learner: Subject {
    /// Its tensor library, with the blocks that all backends have, and those that only the suite has.
    type Library: Library<Device = Self::Device>
        + Kinds
        + Computes<Ffn>
        + Computes<Transformer>
        + Computes<Nop>
        + Computes<NopDelay>
        + Computes<DetDropout>
        + Computes<Adder>
        + Computes<Two>
        + Computes<Odd>
        + Computes<Pupil>
        + Computes<CutOff>
        + Computes<Derived>
        + Computes<Idle>
        + Computes<Normed>
        + Computes<Noisy>
        + Computes<Bare>;

    /// The element types that its tensors can have.
    const DTYPES: &'static [DType];

    /// Returns the host's processor, with so many threads for one operation and so many bytes for one tensor.
    fn cpu(threads: Option<usize>, max_bytes: Option<usize>) -> Self::Device;

    /// Returns a view of a matrix, with its dims the other way round.
    fn transposed(matrix: &<Self::Device as TensorOps>::Tensor) -> <Self::Device as TensorOps>::Tensor;

    /// Makes the block of a kind that backends have by default.
    ///
    /// # Panics
    ///
    /// Panics if there is no such kind, or the settings do not fit it.
    fn block(kind: &str, name: &str, config: &Config, optimizer: Option<Optimizer>) -> Block<Self::Library> {
        let block = Registry::with_defaults().build(kind, name, config).unwrap();
        match optimizer {
            Some(optimizer) => block.with_optimizer(optimizer).unwrap(),
            None => block,
        }
    }

    /// Makes a block from `x` `[batch, 4]` through 8 features and a smooth activation to `y` `[batch, 3]`, all
    /// f32, with parameters drawn from `seed`.
    fn ffn(name: &str, seed: u64, learning: Learning) -> Block<Self::Library> {
        let config = Config::new().with("input", 4).with("hidden", 8).with("output", 3).with("seed", seed);
        Self::block("ffn", name, &config, learning.optimizer())
    }
}

impl Learning {
    fn optimizer(self) -> Option<Optimizer> {
        match self {
            Self::Off => None,
            Self::Sgd { rate } => Some(Optimizer::sgd(Sgd::default().learning_rate(rate))),
            Self::AdamW => {
                let rule = AdamW::default().learning_rate(0.05);
                let schedule = Schedule::WarmupLinear { warmup: 4, total: 40 };
                Some(Optimizer::adamw(rule).with_schedule(schedule).with_max_norm(1.0))
            }
        }
    }
}
