//! Dropout whose mask the caller chooses: a backward pass runs the forward again, and must drop the same
//! features.

use crate::block::CandleBlock;
use crate::layers::linear;
use candle_core::Tensor;
use candle_nn::Module;
use skep_runtime_core::{DType, TensorSpec};
use skep_toolkit::{Config, ConfigError, check_sizes, schema};

/// `x` `[batch, input]` and `mask` `[batch, hidden]` to `y` `[batch, output]`, all f32:
/// `y = fc2(fc1(x) * mask / (1 - probability))`.
///
/// The mask holds 1 for a feature that is kept and 0 for one that is dropped. Parameters: `fc1` from `input`
/// to `hidden`, `fc2` from `hidden` to `output`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetDropout {
    /// Features of `x`.
    pub input: usize,
    /// Features of the mask.
    pub hidden: usize,
    /// Features of `y`.
    pub output: usize,
    /// The share of features that masks drop, at least 0 and below 1.
    pub probability: f64,
}

impl DetDropout {
    /// Reads `input`, `hidden` (twice the input unless given), `output` (the input unless given) and
    /// `probability` (0.2 unless given).
    ///
    /// # Errors
    ///
    /// When a setting is missing, unknown or of another type.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["input", "hidden", "output", "probability"])?;
        let input: usize = config.required("input")?;
        Ok(Self {
            input,
            hidden: config.or("hidden", input.saturating_mul(2))?,
            output: config.or("output", input)?,
            probability: config.or("probability", 0.2)?,
        })
    }

    /// The block of this name.
    ///
    /// # Errors
    ///
    /// When a size is 0, or the probability is not in `0..1`.
    pub fn block(self, name: impl Into<String>) -> Result<CandleBlock, ConfigError> {
        let Self { input, hidden, output, probability } = self;
        check_sizes(&[("input", input), ("hidden", hidden), ("output", output)])?;
        if !(0.0..1.0).contains(&probability) {
            return Err(ConfigError::invalid("probability", probability, "at least 0 and below 1"));
        }
        let inputs = schema(vec![
            TensorSpec::rows("x", DType::F32, &[input]),
            TensorSpec::rows("mask", DType::F32, &[hidden]),
        ])?;
        let outputs = schema(vec![TensorSpec::rows("y", DType::F32, &[output])])?;
        let block = CandleBlock::new(name, inputs, move |vb| {
            let fc1 = linear(input, hidden, &vb.pp("fc1"))?;
            let fc2 = linear(hidden, output, &vb.pp("fc2"))?;
            Ok(Box::new(move |inputs: &[Tensor]| {
                let kept = (fc1.forward(&inputs[0])? * &inputs[1])?;
                Ok(vec![fc2.forward(&(kept * (1.0 / (1.0 - probability)))?)?])
            }))
        });
        Ok(block.with_outputs(outputs))
    }
}
