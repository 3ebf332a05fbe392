//! Element types by the names that the protocol has for them.

use skep_runtime_core::DType;

/// An element type of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datatype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
    Bytes,
}

/// Each with its name, its bytes per element, and its number among the types of a model's configuration.
const ALL: [(Datatype, &str, usize, i32); 14] = [
    (Datatype::Bool, "BOOL", 1, 1),
    (Datatype::U8, "UINT8", 1, 2),
    (Datatype::U16, "UINT16", 2, 3),
    (Datatype::U32, "UINT32", 4, 4),
    (Datatype::U64, "UINT64", 8, 5),
    (Datatype::I8, "INT8", 1, 6),
    (Datatype::I16, "INT16", 2, 7),
    (Datatype::I32, "INT32", 4, 8),
    (Datatype::I64, "INT64", 8, 9),
    (Datatype::F16, "FP16", 2, 10),
    (Datatype::F32, "FP32", 4, 11),
    (Datatype::F64, "FP64", 8, 12),
    (Datatype::Bytes, "BYTES", 0, 13),
    (Datatype::BF16, "BF16", 2, 14),
];

impl Datatype {
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> (Self, &'static str, usize, i32) {
        ALL.iter().copied().find(|row| row.0 == self).unwrap_or(ALL[0])
    }

    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// The name in a model's configuration, which calls texts strings.
    pub(crate) fn config_name(self) -> String {
        match self {
            Self::Bytes => "TYPE_STRING".to_owned(),
            other => format!("TYPE_{}", other.name()),
        }
    }

    /// The number in a model's configuration.
    pub(crate) fn config_number(self) -> i32 {
        self.row().3
    }

    /// Bytes of an element; `None` if elements differ.
    pub(crate) fn size(self) -> Option<usize> {
        Some(self.row().2).filter(|size| *size > 0)
    }

    /// Returns true if JSON has a form for the elements: half precision has none.
    pub(crate) fn has_json(self) -> bool {
        !matches!(self, Self::F16 | Self::BF16)
    }
}

impl From<DType> for Datatype {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::Bool => Self::Bool,
            DType::U8 => Self::U8,
            DType::I8 => Self::I8,
            DType::I16 => Self::I16,
            DType::I32 => Self::I32,
            DType::U32 => Self::U32,
            DType::I64 => Self::I64,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::F64 => Self::F64,
            // `DType` may grow; what it has today is above.
            _ => Self::F32,
        }
    }
}

/// The number of elements of these dims.
pub(crate) fn elements(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))
}

/// The bytes of a tensor of these dims.
pub(crate) fn bytes(datatype: Datatype, dims: &[usize]) -> Option<usize> {
    elements(dims)?.checked_mul(datatype.size()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for (datatype, name, size, number) in ALL {
            assert_eq!(Datatype::named(name), Some(datatype));
            assert_eq!((datatype.size().unwrap_or(0), datatype.config_number()), (size, number));
            assert!((1..=14).contains(&number));
        }
        assert_eq!(Datatype::named("fp32"), None);
        for dtype in [DType::Bool, DType::U8, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64] {
            assert_eq!(Datatype::from(dtype).size(), Some(dtype.size()), "{dtype}");
        }
    }

    #[test]
    fn products_that_overflow_are_none() {
        assert_eq!(bytes(Datatype::F32, &[1 << 60, 1 << 60]), None);
        assert_eq!(bytes(Datatype::F32, &[1 << 62]), None);
        assert_eq!(bytes(Datatype::F32, &[2, 3]), Some(24));
    }
}
