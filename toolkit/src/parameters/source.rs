//! Where the first values of a block's parameters come from.

use super::init::Init;
use super::weights::{ParameterError, Weights};
use skep_runtime_core::{BoxError, DType, HostTensor, TensorOps};
use std::fmt;
use std::sync::Arc;

/// Gives the parameter of a name.
pub(crate) type Read = dyn Fn(&str) -> Result<HostTensor, BoxError> + Send + Sync;

/// Where the first values of a block's parameters come from.
#[non_exhaustive]
pub enum Source {
    /// They are drawn, from numbers that depend on this and the parameter's name only.
    Seed(u64),
    /// A file has all of them.
    File(Weights),
    /// They are read one after the other, as layers ask for them: from more than one file, say.
    Read(Arc<Read>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => f.debug_tuple("Seed").field(seed).finish(),
            Self::File(weights) => f.debug_tuple("File").field(weights).finish(),
            Self::Read(_) => f.write_str("Read"),
        }
    }
}

impl Source {
    /// Returns true if a file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Seed(_) | Self::Read(_) => false,
            Self::File(weights) => weights.contains(name),
        }
    }

    /// Returns the first value of a parameter, to be converted to `dtype`; a layer that takes whatever the file has gives
    /// no dims. `admit` is asked before so many bytes are drawn.
    ///
    /// # Errors
    ///
    /// Returns a [`ParameterError`] if the file lacks the parameter, has it with other dims, or in an element type of another
    /// kind, and the error of `admit`.
    pub fn value<E: Into<BoxError>>(
        &self,
        name: &str,
        dims: Option<&[usize]>,
        dtype: DType,
        init: Init,
        admit: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<HostTensor, BoxError> {
        match (self, dims) {
            (Self::File(weights), _) => {
                let value = weights.get(name)?;
                check_dims(name, dims.unwrap_or(value.dims()), value.dims())?;
                check_dtype(name, dtype, value.dtype())?;
                Ok(value)
            }
            (Self::Read(read), _) => {
                let value = read(name)?;
                check_dims(name, dims.unwrap_or(value.dims()), value.dims())?;
                check_dtype(name, dtype, value.dtype())?;
                Ok(value)
            }
            (Self::Seed(seed), Some(dims)) => {
                let bytes = dims.iter().fold(DType::F32.size(), |bytes, &dim| bytes.saturating_mul(dim));
                admit(bytes).map_err(Into::into)?;
                let values = init.values(*seed, name, dims.iter().product());
                Ok(HostTensor::from_f32(dims, &values)?)
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

/// Floating-point numbers are converted to each other, and nothing else is to anything else.
fn check_dtype(name: &str, expected: DType, got: DType) -> Result<(), ParameterError> {
    if expected == got || (expected.is_float() && got.is_float()) {
        return Ok(());
    }
    Err(ParameterError::OtherDType { name: name.to_owned(), expected, got })
}

/// Checks that a parameter is as finite in the element type of its layer as it was before.
///
/// # Errors
///
/// Returns [`ParameterError::Overflow`] if it is not, and the device's error if it cannot be read.
pub fn check_converted<O: TensorOps>(
    ops: &O,
    name: &str,
    before: &HostTensor,
    after: &O::Tensor,
) -> Result<(), BoxError> {
    let dtype = ops.describe(after)?.dtype;
    let may_overflow = before.dtype() != dtype && dtype.is_float();
    if may_overflow && before.all_finite() && !ops.all_finite(after)? {
        return Err(ParameterError::Overflow { name: name.to_owned(), dtype }.into());
    }
    Ok(())
}
