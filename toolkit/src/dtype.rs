//! Element types beside the names that libraries and files have for them.

use safetensors::Dtype;
use skep_runtime_core::DType;

/// All element types, as they are named in safetensors files.
pub(crate) const FILES: DTypes<Dtype> = DTypes::new(&[
    (DType::Bool, Dtype::BOOL),
    (DType::U8, Dtype::U8),
    (DType::I8, Dtype::I8),
    (DType::I16, Dtype::I16),
    (DType::I32, Dtype::I32),
    (DType::U32, Dtype::U32),
    (DType::I64, Dtype::I64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
]);

/// Returns the element type of this name: `f32`.
pub fn dtype_named(name: &str) -> Option<DType> {
    FILES.known().find(|dtype| dtype.to_string() == name)
}

/// The element types that a library has as well, with its own names `N` for them.
#[derive(Clone, Copy, Debug)]
pub struct DTypes<N: 'static>(&'static [(DType, N)]);

/// An element type that one side has and the other has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dtype {got} is not supported, expected one of {expected}")]
pub struct UnknownDType {
    /// The type.
    pub got: String,
    /// Those that both sides have.
    pub expected: String,
}

impl<N: Copy + PartialEq> DTypes<N> {
    /// Makes a table of what both sides have.
    pub const fn new(pairs: &'static [(DType, N)]) -> Self {
        Self(pairs)
    }

    /// Returns the element types that both sides have.
    pub fn known(self) -> impl Iterator<Item = DType> {
        self.0.iter().map(|(dtype, _)| *dtype)
    }

    /// Returns the element type that the library calls `name`. `told` is how messages name it.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownDType`] if only the library has it.
    pub fn ours(self, name: N, told: impl FnOnce() -> String) -> Result<DType, UnknownDType> {
        let known = self.0.iter().find(|(_, theirs)| *theirs == name);
        known.map(|(dtype, _)| *dtype).ok_or_else(|| self.unknown(told()))
    }

    /// Returns the library's name for an element type.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownDType`] if the library does not have it.
    pub fn theirs(self, dtype: DType) -> Result<N, UnknownDType> {
        let known = self.0.iter().find(|(ours, _)| *ours == dtype);
        known.map(|(_, name)| *name).ok_or_else(|| self.unknown(dtype.to_string()))
    }

    fn unknown(self, got: String) -> UnknownDType {
        let expected: Vec<_> = self.known().map(|dtype| dtype.to_string()).collect();
        UnknownDType { got, expected: expected.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_finds_the_others_name() {
        const BITS: DTypes<u8> = DTypes::new(&[(DType::U8, 8), (DType::F32, 32)]);
        assert_eq!(BITS.ours(32, || unreachable!()), Ok(DType::F32));
        assert_eq!(BITS.theirs(DType::U8), Ok(8));
        let error = BITS.ours(7, || "7 bits".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "dtype 7 bits is not supported, expected one of u8, f32");
        assert_eq!(BITS.theirs(DType::F64).unwrap_err().got, "f64");
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for dtype in FILES.known() {
            assert_eq!(dtype_named(&dtype.to_string()), Some(dtype));
        }
        assert_eq!(dtype_named("f31"), None);
    }
}
