//! Blocks that compute nothing, to measure what the runtime itself costs.

use crate::block::CandleBlock;
use candle_core::Tensor;
use skep_runtime_core::{DType, TensorSpec};
use skep_toolkit::{Config, ConfigError, check_sizes, schema};
use std::time::Duration;

/// `x` `[batch, size]` to `y`, which is `x`, both f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nop {
    /// Features of `x`.
    pub size: usize,
}

impl Nop {
    /// Reads `size`.
    ///
    /// # Errors
    ///
    /// When a setting is missing, unknown or of another type.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["size"])?;
        Ok(Self { size: config.required("size")? })
    }

    /// The block of this name.
    ///
    /// # Errors
    ///
    /// When the size is 0.
    pub fn block(self, name: impl Into<String>) -> Result<CandleBlock, ConfigError> {
        NopDelay { size: self.size, delay: Duration::ZERO }.block(name)
    }
}

/// The same as [`Nop`], after a time in which the device thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopDelay {
    /// Features of `x`.
    pub size: usize,
    /// How long each pass takes at least.
    pub delay: Duration,
}

impl NopDelay {
    /// Reads `size` and `delay`, in seconds (0.1 unless given).
    ///
    /// # Errors
    ///
    /// When a setting is missing, unknown or of another type, or the delay is negative.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["size", "delay"])?;
        let seconds = config.or("delay", 0.1)?;
        let delay = Duration::try_from_secs_f64(seconds)
            .map_err(|_| ConfigError::invalid("delay", seconds, "a number of seconds"))?;
        Ok(Self { size: config.required("size")?, delay })
    }

    /// The block of this name.
    ///
    /// # Errors
    ///
    /// When the size is 0.
    pub fn block(self, name: impl Into<String>) -> Result<CandleBlock, ConfigError> {
        let Self { size, delay } = self;
        check_sizes(&[("size", size)])?;
        let inputs = schema(vec![TensorSpec::rows("x", DType::F32, &[size])])?;
        let outputs = schema(vec![TensorSpec::rows("y", DType::F32, &[size])])?;
        let block = CandleBlock::new(name, inputs, move |_| {
            Ok(Box::new(move |inputs: &[Tensor]| {
                if !delay.is_zero() {
                    std::thread::sleep(delay);
                }
                Ok(inputs.to_vec())
            }))
        });
        Ok(block.with_outputs(outputs))
    }
}
