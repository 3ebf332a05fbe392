//! Blocks that compute nothing, to measure what the runtime itself costs.

use super::spec::{Signature, Spec, check_sizes};
use crate::config::{Config, ConfigError};
use skep_runtime_core::{DType, TensorSpec};
use std::thread;
use std::time::Duration;

/// `x` `[batch, size]` to `y`, which is `x`, both f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nop {
    /// Features of `x`.
    pub size: usize,
}

/// The same as [`Nop`], after a time in which the device thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopDelay {
    /// Features of `x`.
    pub size: usize,
    /// The least time that each pass takes; a setting in seconds, 0.1 unless set.
    pub delay: Duration,
}

impl NopDelay {
    /// Sleeps for the delay.
    pub fn sleep(&self) {
        if !self.delay.is_zero() {
            thread::sleep(self.delay);
        }
    }
}

impl Spec for Nop {
    const KIND: &'static str = "nop";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["size"])?;
        Ok(Self { size: config.required("size")? })
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        signature(self.size)
    }
}

impl Spec for NopDelay {
    const KIND: &'static str = "nop_delay";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["size", "delay"])?;
        let seconds = config.or("delay", 0.1)?;
        let delay = Duration::try_from_secs_f64(seconds)
            .map_err(|_| ConfigError::invalid("delay", seconds, "a number of seconds"))?;
        Ok(Self { size: config.required("size")?, delay })
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        signature(self.size)
    }
}

fn signature(size: usize) -> Result<Signature, ConfigError> {
    check_sizes(&[("size", size)])?;
    let rows = |name| vec![TensorSpec::rows(name, DType::F32, &[size])];
    Signature::new(rows("x"), rows("y"))
}
