//! What a backend brings to the suite.

use skep_runtime_core::{Backend, Device};

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
    /// A block from `x` `[batch, 4]` through 8 features and a smooth activation to `y` `[batch, 3]`, all
    /// f32, with parameters drawn from `seed`.
    fn ffn(name: &str, seed: u64, learning: Learning) -> impl Backend<Self::Device>;
}
