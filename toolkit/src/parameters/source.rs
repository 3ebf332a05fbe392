//! Where the first values of a block's parameters come from.

use super::init::Init;
use super::weights::{ParameterError, Weights};
use skep_runtime_core::{BoxError, DType, HostTensor};
use std::borrow::Cow;

/// Where the first values of a block's parameters come from.
#[derive(Debug)]
pub enum Source {
    /// They are drawn, from numbers that depend on this and the parameter's name only.
    Seed(u64),
    /// A file has all of them.
    File(Weights),
}

impl Source {
    /// Returns true if a file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Seed(_) => false,
            Self::File(weights) => weights.contains(name),
        }
    }

    /// Returns the first value of a parameter; a layer that takes whatever the file has gives no dims. `admit` is asked
    /// before so many bytes are drawn.
    ///
    /// # Errors
    ///
    /// Returns a [`ParameterError`] if the file lacks the parameter or has it with other dims, and the error of `admit`.
    pub fn value<E: Into<BoxError>>(
        &self,
        name: &str,
        dims: Option<&[usize]>,
        init: Init,
        admit: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Cow<'_, HostTensor>, BoxError> {
        match (self, dims) {
            (Self::File(weights), _) => {
                let value = weights.get(name)?;
                check_dims(name, dims.unwrap_or(value.dims()), value.dims())?;
                Ok(Cow::Borrowed(value))
            }
            (Self::Seed(seed), Some(dims)) => {
                let bytes = dims.iter().fold(DType::F32.size(), |bytes, &dim| bytes.saturating_mul(dim));
                admit(bytes).map_err(Into::into)?;
                let values = init.values(*seed, name, dims.iter().product());
                Ok(Cow::Owned(HostTensor::from_f32(dims, &values)?))
            }
            (Self::Seed(_), None) => Err(ParameterError::NoDims { name: name.to_owned() }.into()),
        }
    }
}

/// Checks that a parameter has the dims that its layer needs.
///
/// # Errors
///
/// Returns [`ParameterError::WrongDims`] if it has others.
pub fn check_dims(name: &str, expected: &[usize], got: &[usize]) -> Result<(), ParameterError> {
    if expected == got {
        return Ok(());
    }
    Err(ParameterError::WrongDims { name: name.to_owned(), expected: expected.to_vec(), got: got.to_vec() })
}
