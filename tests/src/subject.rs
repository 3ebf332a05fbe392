//! The part of the suite that a backend brings.

use skep_runtime_core::{Backend, Device};
use skep_toolkit::{AdamW, Config, Optimizer, Schedule, Sgd};

/// A backend under test.
pub trait Subject: 'static {
    /// Its device.
    type Device: Device;

    /// Makes a fresh device.
    fn device() -> Self::Device;
}

/// The way in which a block under test learns.
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
    /// Makes the block of a kind that backends have by default.
    ///
    /// # Panics
    ///
    /// Panics if there is no such kind, or the settings do not fit it.
    fn block(
        kind: &str,
        name: &str,
        config: Config,
        optimizer: Option<Optimizer>,
    ) -> impl Backend<Self::Device>;

    /// Makes a block from `x` `[batch, 4]` through 8 features and a smooth activation to `y` `[batch, 3]`, all f32,
    /// with parameters drawn from `seed`.
    fn ffn(name: &str, seed: u64, learning: Learning) -> impl Backend<Self::Device> {
        let config = Config::new().with("input", 4).with("hidden", 8).with("output", 3).with("seed", seed);
        Self::block("ffn", name, config, learning.optimizer())
    }
}

impl Learning {
    fn optimizer(self) -> Option<Optimizer> {
        match self {
            Self::Off => None,
            Self::Sgd { rate } => Some(Optimizer::sgd(Sgd { learning_rate: rate, ..Sgd::default() })),
            Self::AdamW => {
                let rule = AdamW { learning_rate: 0.05, ..AdamW::default() };
                let schedule = Schedule::WarmupLinear { warmup: 4, total: 40 };
                Some(Optimizer::adamw(rule).with_schedule(schedule).with_max_norm(1.0))
            }
        }
    }
}
