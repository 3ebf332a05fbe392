//! Blocks that come with Skep. Each is a plain type with its sizes, made into a block by its method `block`.

#[cfg(feature = "bert")]
mod bert;
mod det_dropout;
mod ffn;
mod nop;
mod torch_script;
mod transformer;

use crate::config::{ConfigError, Setting};
use skep_runtime_core::{Schema, TensorSpec};
use std::fmt;
use std::str::FromStr;
use tch::{TchError, Tensor};

#[cfg(feature = "bert")]
pub use bert::Bert;
pub use det_dropout::DetDropout;
pub use ffn::Ffn;
pub use nop::{Nop, NopDelay};
pub use torch_script::{ScriptError, TorchScript};
pub use transformer::Transformer;

/// What stands between two linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// The Gaussian error linear unit in its exact form, as in `PyTorch`: Hendrycks and Gimpel, 2016.
    #[default]
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    fn apply(self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Gelu => x.f_gelu("none"),
            Self::Relu => x.f_relu(),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gelu => "gelu",
            Self::Relu => "relu",
        })
    }
}

/// A name that no activation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("activation is unknown, expected `gelu` or `relu`")]
pub struct UnknownActivation;

impl FromStr for Activation {
    type Err = UnknownActivation;

    fn from_str(name: &str) -> Result<Self, UnknownActivation> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "relu" => Ok(Self::Relu),
            _ => Err(UnknownActivation),
        }
    }
}

impl Setting for Activation {
    const EXPECTED: &'static str = "`gelu` or `relu`";
}

/// Refuses the first size that is 0.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, size)) => Err(ConfigError::invalid(key, size, "at least 1")),
        None => Ok(()),
    }
}

/// A schema of the given tensors, whose names and dims are the block's own and therefore right.
fn schema(tensors: Vec<TensorSpec>) -> Result<Schema, ConfigError> {
    Schema::new(tensors).map_err(|error| ConfigError::invalid("schema", error, "a valid schema"))
}
