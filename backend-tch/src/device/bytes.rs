//! libtorch's element types beside the runtime's, and tensors on the host as plain bytes.

use crate::shim;
use skep_runtime_core::{BoxError, DType, HostTensor};
use std::ffi::c_int;
use tch::{TchError, Tensor};

/// Both sides' names of the element types that both have, libtorch's as `c10::ScalarType`. tch has no name for
/// 32-bit unsigned integers.
const DTYPES: [(DType, c_int); 11] = [
    (DType::U8, 0),
    (DType::I8, 1),
    (DType::I16, 2),
    (DType::I32, 3),
    (DType::I64, 4),
    (DType::F16, 5),
    (DType::F32, 6),
    (DType::F64, 7),
    (DType::Bool, 11),
    (DType::BF16, 15),
    (DType::U32, 28),
];

/// An element type that one side has and the other has not.
#[derive(Debug, thiserror::Error)]
#[error(
    "dtype {got} is not supported, expected one of bool, u8, i8, i16, i32, u32, i64, f16, bf16, f32, f64"
)]
pub(crate) struct UnknownDType {
    got: String,
}

/// Elements that are no integers.
#[derive(Debug, thiserror::Error)]
#[error("tensor has dtype {got}, expected integers")]
struct NotIntegers {
    got: DType,
}

pub(crate) fn dtype_of(scalar_type: c_int) -> Result<DType, UnknownDType> {
    let known = DTYPES.iter().find(|(_, code)| *code == scalar_type);
    known.map(|(dtype, _)| *dtype).ok_or_else(|| UnknownDType { got: format!("{scalar_type} of libtorch") })
}

fn scalar_type(dtype: DType) -> Result<c_int, UnknownDType> {
    let known = DTYPES.iter().find(|(known, _)| *known == dtype);
    known.map(|(_, code)| *code).ok_or_else(|| UnknownDType { got: dtype.to_string() })
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
    Ok(shim::from_bytes(tensor.bytes(), &torch_dims(tensor.dims())?, scalar_type(tensor.dtype())?)?)
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
