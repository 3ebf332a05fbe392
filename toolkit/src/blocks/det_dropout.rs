//! Dropout whose mask the caller chooses: a backward pass runs the forward again, and must drop the same
//! features.

use super::spec::{Signature, Spec, check_sizes};
use crate::config::{Config, ConfigError};
use skep_runtime_core::{DType, TensorSpec};

/// `x` `[batch, input]` and `mask` `[batch, hidden]` to `y` `[batch, output]`, all f32:
/// `y = fc2(fc1(x) * mask / (1 - probability))`.
///
/// The mask holds 1 for a feature that is kept and 0 for one that is dropped. Parameters: `fc1` from `input`
/// to `hidden`, `fc2` from `hidden` to `output`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetDropout {
    /// Features of `x`.
    pub input: usize,
    /// Features of the mask. Twice the input unless set.
    pub hidden: usize,
    /// Features of `y`. Those of the input unless set.
    pub output: usize,
    /// The share of features that masks drop, at least 0 and below 1. 0.2 unless set.
    pub probability: f64,
}

impl DetDropout {
    /// Returns the factor of the features that are kept, so that their sum is on average what it was.
    pub fn scale(&self) -> f64 {
        1.0 / (1.0 - self.probability)
    }
}

impl Spec for DetDropout {
    const KIND: &'static str = "det_dropout";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["input", "hidden", "output", "probability"])?;
        let input: usize = config.required("input")?;
        Ok(Self {
            input,
            hidden: config.or("hidden", input.saturating_mul(2))?,
            output: config.or("output", input)?,
            probability: config.or("probability", 0.2)?,
        })
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let Self { input, hidden, output, probability } = *self;
        check_sizes(&[("input", input), ("hidden", hidden), ("output", output)])?;
        if !(0.0..1.0).contains(&probability) {
            return Err(ConfigError::invalid("probability", probability, "at least 0 and below 1"));
        }
        let rows = |name, features| TensorSpec::rows(name, DType::F32, &[features]);
        Signature::new(vec![rows("x", input), rows("mask", hidden)], vec![rows("y", output)])
    }
}
