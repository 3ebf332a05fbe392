//! libtorch's element types beside the runtime's, and tensors on the host as plain bytes.

use crate::shim;
use skep_runtime_core::{BoxError, DType, HostTensor};
use skep_toolkit::{DTypes, UnknownDType};
use std::ffi::c_int;
use tch::{TchError, Tensor};

/// Both sides' names of the element types that both have, libtorch's as `c10::ScalarType`. tch has no name for
/// 32-bit unsigned integers.
const DTYPES: DTypes<c_int> = DTypes::new(&[
    (DType::Bool, 11),
    (DType::U8, 0),
    (DType::I8, 1),
    (DType::I16, 2),
    (DType::I32, 3),
    (DType::U32, 28),
    (DType::I64, 4),
    (DType::F16, 5),
    (DType::BF16, 15),
    (DType::F32, 6),
    (DType::F64, 7),
]);

/// Elements that are no integers.
#[derive(Debug, thiserror::Error)]
#[error("tensor has dtype {got}, expected integers")]
struct NotIntegers {
    got: DType,
}

pub(crate) fn dtype_of(scalar_type: c_int) -> Result<DType, UnknownDType> {
    DTYPES.ours(scalar_type, || format!("{scalar_type} of libtorch"))
}

/// Bytes of the elements, `usize::MAX` where that overflows.
pub(crate) fn count(dtype: DType, dims: &[usize]) -> usize {
    dims.iter().fold(dtype.size(), |bytes, &dim| bytes.saturating_mul(dim))
}

/// libtorch's dims are signed.
pub(crate) fn torch_dims(dims: &[usize]) -> Result<Vec<i64>, TchError> {
    let convert = |&dim: &usize| {
        i64::try_from(dim)
            .map_err(|_| TchError::Shape(format!("dim is {dim}, expected at most {}", i64::MAX)))
    };
    dims.iter().map(convert).collect()
}

/// Makes a tensor on the host of plain bytes.
pub(crate) fn from_host(tensor: &HostTensor) -> Result<Tensor, BoxError> {
    Ok(shim::from_bytes(tensor.bytes(), &torch_dims(tensor.dims())?, DTYPES.theirs(tensor.dtype())?)?)
}

/// The first element of a tensor of integers on the host that is not in `0..below`.
pub(crate) fn index_outside(
    tensor: &Tensor,
    dtype: DType,
    dims: &[usize],
    below: u64,
) -> Result<Option<i64>, BoxError> {
    let bytes = shim::to_bytes(tensor, count(dtype, dims))?;
    macro_rules! first {
        ($element:ty) => {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|element| i64::from(<$element>::from_ne_bytes(*element)))
                .find(|&e| u64::try_from(e).map_or(true, |e| e >= below))
        };
    }
    Ok(match dtype {
        DType::Bool | DType::U8 => first!(u8),
        DType::I8 => first!(i8),
        DType::I16 => first!(i16),
        DType::I32 => first!(i32),
        DType::U32 => first!(u32),
        DType::I64 => first!(i64),
        got => return Err(NotIntegers { got }.into()),
    })
}
