//! Two linear layers with an activation between them: what an expert of a mixture usually is.

use super::activation::Activation;
use super::spec::{Signature, Spec, check_sizes};
use crate::config::{Config, ConfigError};
use skep_runtime_core::{DType, TensorSpec};

/// `x` `[batch, input]` to `y` `[batch, output]`, both f32.
///
/// Parameters: `fc1` from `input` to `hidden`, `fc2` from `hidden` to `output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ffn {
    /// Features of `x`.
    pub input: usize,
    /// Features between the layers. Four times the input unless set.
    pub hidden: usize,
    /// Features of `y`. Those of the input unless set.
    pub output: usize,
    /// Between the layers. `gelu` unless set.
    pub activation: Activation,
}

impl Spec for Ffn {
    const KIND: &'static str = "ffn";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["input", "hidden", "output", "activation"])?;
        let input: usize = config.required("input")?;
        Ok(Self {
            input,
            hidden: config.or("hidden", input.saturating_mul(4))?,
            output: config.or("output", input)?,
            activation: config.or("activation", Activation::default())?,
        })
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let Self { input, hidden, output, .. } = *self;
        check_sizes(&[("input", input), ("hidden", hidden), ("output", output)])?;
        Signature::new(
            vec![TensorSpec::rows("x", DType::F32, &[input])],
            vec![TensorSpec::rows("y", DType::F32, &[output])],
        )
    }
}
