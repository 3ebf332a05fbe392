//! candle's element types beside the runtime's, and tensors on the host as plain bytes.

use candle_core::{CpuStorage, DType as CandleDType, Error, Result, Storage, Tensor};
use skep_runtime_core::{DType, HostTensor, pad_into};
use skep_toolkit::{DTypes, UnknownDType};

/// Both sides' names of the element types that both have.
const DTYPES: DTypes<CandleDType> = DTypes::new(&[
    (DType::U8, CandleDType::U8),
    (DType::I16, CandleDType::I16),
    (DType::I32, CandleDType::I32),
    (DType::U32, CandleDType::U32),
    (DType::I64, CandleDType::I64),
    (DType::F16, CandleDType::F16),
    (DType::BF16, CandleDType::BF16),
    (DType::F32, CandleDType::F32),
    (DType::F64, CandleDType::F64),
]);

/// The bytes of a tensor's elements.
pub(crate) fn size(tensor: &Tensor) -> usize {
    tensor.elem_count().saturating_mul(tensor.dtype().size_in_bytes())
}

pub(crate) fn dtype_of(tensor: &Tensor) -> std::result::Result<DType, UnknownDType> {
    known(tensor.dtype())
}

pub(crate) fn known(dtype: CandleDType) -> std::result::Result<DType, UnknownDType> {
    DTYPES.ours(dtype, || dtype.as_str().to_owned())
}

/// Makes a tensor on the host of plain bytes.
pub(crate) fn from_host(tensor: &HostTensor) -> Result<Tensor> {
    let dtype = DTYPES.theirs(tensor.dtype()).map_err(Error::wrap)?;
    Tensor::from_raw_buffer(tensor.bytes(), dtype, tensor.dims(), &candle_core::Device::Cpu)
}

/// The elements of a tensor on the host, little endian and row major.
pub(crate) fn of(tensor: &Tensor) -> Result<Vec<u8>> {
    macro_rules! bytes {
        ($elements:expr) => {
            // Element by element and not byte by byte: of large tensors this is a plain copy.
            $elements.iter().map(|element| element.to_le_bytes()).collect::<Vec<_>>().into_flattened()
        };
    }
    on_elements(tensor, |storage, range| {
        Some(match storage {
            CpuStorage::U8(elements) => elements[range].to_vec(),
            CpuStorage::I16(elements) => bytes!(elements[range]),
            CpuStorage::I32(elements) => bytes!(elements[range]),
            CpuStorage::U32(elements) => bytes!(elements[range]),
            CpuStorage::I64(elements) => bytes!(elements[range]),
            CpuStorage::F16(elements) => bytes!(elements[range]),
            CpuStorage::BF16(elements) => bytes!(elements[range]),
            CpuStorage::F32(elements) => bytes!(elements[range]),
            CpuStorage::F64(elements) => bytes!(elements[range]),
            _ => return None,
        })
    })
}

/// The first element of a tensor of integers on the host that is not in `0..below`.
pub(crate) fn index_outside(tensor: &Tensor, below: u64) -> Result<Option<i64>> {
    fn first<T: Copy + Into<i64>>(elements: &[T], below: u64) -> Option<i64> {
        elements.iter().map(|&e| e.into()).find(|&e: &i64| u64::try_from(e).map_or(true, |e| e >= below))
    }
    on_elements(tensor, |storage, range| {
        Some(match storage {
            CpuStorage::U8(elements) => first(&elements[range], below),
            CpuStorage::I16(elements) => first(&elements[range], below),
            CpuStorage::I32(elements) => first(&elements[range], below),
            CpuStorage::U32(elements) => first(&elements[range], below),
            CpuStorage::I64(elements) => first(&elements[range], below),
            _ => return None,
        })
    })
}

/// Joins tensors on the host along dim 0, each filled up to `dims` along its others, with each element written once.
pub(crate) fn padded(parts: &[Tensor], dims: &[usize], element: &[u8]) -> Result<Tensor> {
    let Some(first) = parts.first() else { return Err(Error::Msg("nothing to join".to_owned())) };
    let rows = parts.iter().map(|part| part.dims().first().copied().unwrap_or(0)).sum();
    let whole: Vec<usize> = std::iter::once(rows).chain(dims.iter().copied()).collect();
    let one = Tensor::from_raw_buffer(element, first.dtype(), &[1], &candle_core::Device::Cpu)?;
    macro_rules! join {
        ($variant:ident) => {{
            let value = on_elements(&one, |storage, range| match storage {
                CpuStorage::$variant(elements) => elements[range].first().copied(),
                _ => None,
            })?;
            let mut joined = Vec::with_capacity(whole.iter().product());
            for part in parts {
                let own = part.dims().first().copied();
                let to: Vec<usize> = own.into_iter().chain(dims.iter().copied()).collect();
                on_elements(part, |storage, range| {
                    let CpuStorage::$variant(elements) = storage else { return None };
                    pad_into(&mut joined, &elements[range], part.dims(), &to, &[value]);
                    Some(())
                })?;
            }
            Tensor::from_vec(joined, whole, &candle_core::Device::Cpu)
        }};
    }
    match first.dtype() {
        CandleDType::U8 => join!(U8),
        CandleDType::I16 => join!(I16),
        CandleDType::I32 => join!(I32),
        CandleDType::U32 => join!(U32),
        CandleDType::I64 => join!(I64),
        CandleDType::F16 => join!(F16),
        CandleDType::BF16 => join!(BF16),
        CandleDType::F32 => join!(F32),
        CandleDType::F64 => join!(F64),
        other => Err(Error::UnsupportedDTypeForOp(other, "padding")),
    }
}

/// Hands the storage of a tensor on the host, and the range of its elements, to `read`, which answers
/// `None` for element types that it does not know.
fn on_elements<R>(
    tensor: &Tensor,
    read: impl FnOnce(&CpuStorage, std::ops::Range<usize>) -> Option<R>,
) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::Msg(format!("tensor is on {:?}, expected cpu", tensor.device().location())));
    };
    let start = layout.start_offset();
    read(storage, start..start + tensor.elem_count())
        .ok_or(Error::UnsupportedDTypeForOp(tensor.dtype(), "reading elements"))
}
