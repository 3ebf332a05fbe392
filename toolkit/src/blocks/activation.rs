//! Functions between two linear layers.

use crate::config::Setting;
use std::fmt;
use std::str::FromStr;

/// The function between two linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// The Gaussian error linear unit in its exact form, as in `PyTorch`: Hendrycks and Gimpel, 2016.
    #[default]
    Gelu,
    /// `max(x, 0)`.
    Relu,
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
