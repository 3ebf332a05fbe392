//! Two linear layers with an activation between them: what an expert of a mixture usually is.

use super::{Activation, activate};
use crate::block::TchBlock;
use crate::layers::linear;
use skep_runtime_core::{DType, TensorSpec};
use skep_toolkit::{Config, ConfigError, check_sizes, schema};
use tch::Tensor;

/// `x` `[batch, input]` to `y` `[batch, output]`, both f32.
///
/// Parameters: `fc1` from `input` to `hidden`, `fc2` from `hidden` to `output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ffn {
    /// Features of `x`.
    pub input: usize,
    /// Features between the layers.
    pub hidden: usize,
    /// Features of `y`.
    pub output: usize,
    /// Between the layers.
    pub activation: Activation,
}

impl Ffn {
    /// Reads `input`, `hidden` (four times the input unless given), `output` (the input unless given) and
    /// `activation` (`gelu` unless given).
    ///
    /// # Errors
    ///
    /// When a setting is missing, unknown or of another type.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["input", "hidden", "output", "activation"])?;
        let input: usize = config.required("input")?;
        Ok(Self {
            input,
            hidden: config.or("hidden", input.saturating_mul(4))?,
            output: config.or("output", input)?,
            activation: config.or("activation", Activation::default())?,
        })
    }

    /// The block of this name.
    ///
    /// # Errors
    ///
    /// When a size is 0.
    pub fn block(self, name: impl Into<String>) -> Result<TchBlock, ConfigError> {
        let Self { input, hidden, output, activation } = self;
        check_sizes(&[("input", input), ("hidden", hidden), ("output", output)])?;
        let inputs = schema(vec![TensorSpec::rows("x", DType::F32, &[input])])?;
        let outputs = schema(vec![TensorSpec::rows("y", DType::F32, &[output])])?;
        let block = TchBlock::new(name, inputs, move |vb| {
            let fc1 = linear(input, hidden, &vb.pp("fc1"))?;
            let fc2 = linear(hidden, output, &vb.pp("fc2"))?;
            Ok(Box::new(move |inputs: &[Tensor]| {
                Ok(vec![fc2.forward(&activate(activation, &fc1.forward(&inputs[0])?)?)?])
            }))
        });
        Ok(block.with_outputs(outputs))
    }
}
