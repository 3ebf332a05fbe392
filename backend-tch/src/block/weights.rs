//! Parameters from a safetensors file.

use safetensors::{Dtype, SafeTensors};
use skep_runtime_core::{DType, HostTensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file is missing or cannot be read.
    #[error("weights file {} cannot be read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a whole safetensors file: torn, or something else.
    #[error("weights file {} is not a whole safetensors file: {reason}", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The tensors of a file by name; `None` for one of an element type that no parameter can have.
pub(super) type Weights = BTreeMap<String, Option<HostTensor>>;

/// Reads a file whole. Mapping it would need `unsafe`, and a file that shrinks would end the process.
pub(super) fn read(path: &Path) -> Result<Weights, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| WeightsError::Torn { path: path.to_owned(), reason: error.to_string() })?;
    let host = |view: &safetensors::tensor::TensorView<'_>| {
        HostTensor::new(dtype_of(view.dtype())?, view.shape(), view.data().to_vec()).ok()
    };
    Ok(file.iter().map(|(name, view)| (name.to_owned(), host(&view))).collect())
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::U8 => DType::U8,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => return None,
    })
}
