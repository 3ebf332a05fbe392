//! Tensors as the runtime knows them: element type, dims, and plain bytes on the host.

use crate::contract::dims::Dims;
use std::fmt;

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DType {
    /// A byte that is 0 or 1.
    Bool,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit signed integer.
    I64,
    /// IEEE half precision.
    F16,
    /// Brain float: the upper half of an `f32`.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl DType {
    /// Returns the bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Returns true if gradients can flow through a tensor of this type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// The element type and dims of a tensor, as [`TensorOps::describe`](crate::TensorOps::describe) reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element type.
    pub dtype: DType,
    /// The dims, outermost first; `dims[0]` counts the rows.
    pub dims: Dims,
}

impl TensorInfo {
    /// Returns the number of rows: dim 0, or `None` for a scalar.
    pub fn rows(&self) -> Option<usize> {
        self.dims.first().copied()
    }
}

/// The element type and the dims: `f32 [2, 8]`.
impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.dims)
    }
}

/// A tensor as plain bytes on the host: little endian, row major, contiguous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTensor {
    dtype: DType,
    dims: Dims,
    bytes: Vec<u8>,
}

/// The bytes of a [`HostTensor`] do not fill its dims.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{dtype} tensor of dims {dims:?} needs {expected} bytes, got {got}")]
pub struct WrongByteCount {
    /// The element type that was named.
    pub dtype: DType,
    /// The dims that were named.
    pub dims: Vec<usize>,
    /// The bytes that these need; `usize::MAX` if that overflows.
    pub expected: usize,
    /// The bytes that were given.
    pub got: usize,
}

impl HostTensor {
    /// Wraps bytes as a tensor.
    ///
    /// # Errors
    ///
    /// Returns [`WrongByteCount`] if the number of bytes is not the product of `dims` times the size of `dtype`.
    pub fn new(dtype: DType, dims: &[usize], bytes: Vec<u8>) -> Result<Self, WrongByteCount> {
        let expected = dims.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if expected != bytes.len() {
            return Err(WrongByteCount { dtype, dims: dims.to_vec(), expected, got: bytes.len() });
        }
        Ok(Self { dtype, dims: Dims::from_slice(dims), bytes })
    }

    /// Returns true if every element is a finite number. Integers always are.
    pub fn all_finite(&self) -> bool {
        // An exponent of all ones is neither finite nor a number.
        let bits = |exponent: u64| move |bits: u64| bits & exponent != exponent;
        match self.dtype {
            DType::F16 => self.bits::<2>().all(bits(0x7c00)),
            DType::BF16 => self.bits::<2>().all(bits(0x7f80)),
            DType::F32 => self.bits::<4>().all(bits(0x7f80_0000)),
            DType::F64 => self.bits::<8>().all(bits(0x7ff0_0000_0000_0000)),
            _ => true,
        }
    }

    /// Returns true if an element is not a number. Integers always are.
    pub fn has_nan(&self) -> bool {
        // An exponent of all ones, and more behind it than infinity has.
        let above = |infinity: u64, sign: u64| move |bits: u64| bits & !sign > infinity;
        match self.dtype {
            DType::F16 => self.bits::<2>().any(above(0x7c00, 1 << 15)),
            DType::BF16 => self.bits::<2>().any(above(0x7f80, 1 << 15)),
            DType::F32 => self.bits::<4>().any(above(0x7f80_0000, 1 << 31)),
            DType::F64 => self.bits::<8>().any(above(0x7ff0_0000_0000_0000, 1 << 63)),
            _ => false,
        }
    }

    /// The bits of each element of `N` bytes.
    fn bits<const N: usize>(&self) -> impl Iterator<Item = u64> {
        self.bytes.as_chunks::<N>().0.iter().map(|bytes| {
            let mut wide = [0; 8];
            wide[..N].copy_from_slice(bytes);
            u64::from_le_bytes(wide)
        })
    }

    /// Creates a tensor of these elements: numbers of any type but half precision, whose bits go in as `u16` through
    /// [`new`](Self::new).
    ///
    /// ```
    /// use skep_runtime_core::{DType, HostTensor};
    ///
    /// let ids = HostTensor::from_elements(&[1, 3], &[101_i64, 2023, 102])?;
    /// assert_eq!((ids.dtype(), ids.elements::<i64>()), (DType::I64, Some(vec![101, 2023, 102])));
    /// # Ok::<(), skep_runtime_core::WrongByteCount>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`WrongByteCount`] if the number of `values` is not the product of `dims`.
    pub fn from_elements<E: Element>(dims: &[usize], values: &[E]) -> Result<Self, WrongByteCount> {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        for value in values {
            value.write(&mut bytes);
        }
        Self::new(E::DTYPE, dims, bytes)
    }

    /// Creates an `f32` tensor.
    ///
    /// # Errors
    ///
    /// Returns [`WrongByteCount`] if the number of `values` is not the product of `dims`.
    pub fn from_f32(dims: &[usize], values: &[f32]) -> Result<Self, WrongByteCount> {
        Self::from_elements(dims, values)
    }

    /// Creates a `u32` tensor: token ids, say.
    ///
    /// # Errors
    ///
    /// Returns [`WrongByteCount`] if the number of `values` is not the product of `dims`.
    pub fn from_u32(dims: &[usize], values: &[u32]) -> Result<Self, WrongByteCount> {
        Self::from_elements(dims, values)
    }

    /// Creates an `i64` tensor: indices as libtorch takes them.
    ///
    /// # Errors
    ///
    /// Returns [`WrongByteCount`] if the number of `values` is not the product of `dims`.
    pub fn from_i64(dims: &[usize], values: &[i64]) -> Result<Self, WrongByteCount> {
        Self::from_elements(dims, values)
    }

    /// Creates a tensor full of zeros. Returns `None` if there is no memory for it.
    pub fn zeros(dtype: DType, dims: &[usize]) -> Option<Self> {
        let bytes = dims.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d))?;
        // Asked for first, because a vector that there is no room for ends the process.
        Vec::<u8>::new().try_reserve_exact(bytes).ok()?;
        Some(Self { dtype, dims: Dims::from_slice(dims), bytes: vec![0; bytes] })
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dims, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the elements, or `None` if the element type is another.
    pub fn elements<E: Element>(&self) -> Option<Vec<E>> {
        (self.dtype == E::DTYPE).then(|| self.bytes.chunks_exact(E::DTYPE.size()).map(E::read).collect())
    }

    /// Returns the elements as `f32`, or `None` if the element type is another.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        self.elements()
    }
}

/// A Rust type that is the element type of tensors.
pub trait Element: Copy + sealed::Sealed {
    /// The element type.
    const DTYPE: DType;

    #[doc(hidden)]
    fn write(self, bytes: &mut Vec<u8>);

    /// Reads one from exactly its bytes.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

mod sealed {
    /// Closed: a new element type is a new [`DType`](super::DType).
    pub trait Sealed {}
}

macro_rules! elements {
    ($($number:ident $dtype:ident),*) => {$(
        impl sealed::Sealed for $number {}

        impl Element for $number {
            const DTYPE: DType = DType::$dtype;

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    )*};
}

elements!(u8 U8, i8 I8, i16 I16, i32 I32, u32 U32, i64 I64, f32 F32, f64 F64);

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }

    fn read(bytes: &[u8]) -> Self {
        bytes != [0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_must_fill_the_dims() {
        let error = HostTensor::new(DType::I64, &[2, 3], vec![0; 47]).unwrap_err();
        assert_eq!(error.to_string(), "i64 tensor of dims [2, 3] needs 48 bytes, got 47");
        assert!(HostTensor::new(DType::F32, &[usize::MAX, 2], Vec::new()).is_err(), "no overflow");
        assert!(HostTensor::zeros(DType::F32, &[usize::MAX, 2]).is_none());
    }

    #[test]
    fn more_than_memory_can_hold_is_no_tensor() {
        for dims in [&[isize::MAX.unsigned_abs(), 2][..], &[1 << 40, 1 << 15], &[1 << 62]] {
            assert!(HostTensor::zeros(DType::U8, dims).is_none(), "{dims:?}");
        }
    }

    fn any_dtype() -> impl Strategy<Value = DType> {
        prop::sample::select(vec![DType::Bool, DType::I16, DType::F32, DType::I64])
    }

    fn any_size() -> impl Strategy<Value = usize> {
        prop_oneof![4 => 0usize..5, 1 => any::<usize>(), 1 => (0u32..64).prop_map(|bit| 1 << bit), 1 => Just(usize::MAX)]
    }

    proptest! {
        #[test]
        fn bytes_are_taken_only_where_they_fill_the_dims(
            dtype in any_dtype(),
            dims in prop::collection::vec(any_size(), 0..5),
            bytes in prop::collection::vec(any::<u8>(), 0..65),
        ) {
            let needed = dims.iter().try_fold(dtype.size() as u128, |n, &d| n.checked_mul(d as u128));
            let fits = needed == Some(bytes.len() as u128);
            match HostTensor::new(dtype, &dims, bytes.clone()) {
                Ok(tensor) => {
                    prop_assert!(fits);
                    prop_assert_eq!((tensor.dims(), tensor.bytes()), (&dims[..], &bytes[..]));
                }
                // Dims whose product overflows on the way to a 0 are refused as well.
                Err(error) => prop_assert!(!fits || error.expected == usize::MAX),
            }
        }

        #[test]
        fn zeros_fill_any_dims_or_are_refused(
            dtype in any_dtype(),
            dims in prop::collection::vec(prop_oneof![0usize..9, (45u32..64).prop_map(|bit| 1 << bit)], 0..4),
        ) {
            if let Some(zeros) = HostTensor::zeros(dtype, &dims) {
                prop_assert_eq!(zeros.bytes().len(), dims.iter().product::<usize>() * dtype.size());
            }
        }
    }

    #[test]
    fn elements_come_back_as_they_went_in() {
        fn back<E: Element + PartialEq + fmt::Debug>(values: &[E]) {
            let tensor = HostTensor::from_elements(&[values.len()], values).unwrap();
            assert_eq!((tensor.dtype(), tensor.elements::<E>().as_deref()), (E::DTYPE, Some(values)));
        }
        back(&[0_u8, 255]);
        back(&[-128_i8, 127]);
        back(&[i16::MIN, 258]);
        back(&[i32::MIN, 258]);
        back(&[u32::MAX, 258]);
        back(&[i64::MIN, 258]);
        back(&[-0.5_f32, 1e30]);
        back(&[-0.5_f64, 1e300]);
        back(&[true, false]);
        assert_eq!(HostTensor::from_elements(&[1], &[1_u8]).unwrap().elements::<bool>(), None);
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(HostTensor::from_u32(&[1], &[258]).unwrap().bytes(), [2, 1, 0, 0]);
        assert_eq!(HostTensor::from_i64(&[1], &[-2]).unwrap().bytes(), (-2i64).to_le_bytes());
        assert_eq!(HostTensor::from_f32(&[2], &[0.5, -1.5]).unwrap().to_f32(), Some(vec![0.5, -1.5]));
        assert_eq!(HostTensor::from_u32(&[1], &[1]).unwrap().to_f32(), None);
    }
}
