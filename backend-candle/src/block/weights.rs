//! Parameters from a safetensors file.

use std::path::{Path, PathBuf};

use candle_core::safetensors::BufferedSafetensors;

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

/// Reads a file whole. Mapping it would need `unsafe`, and a file that shrinks would end the process.
pub(super) fn read(path: &Path) -> Result<BufferedSafetensors, WeightsError> {
    let bytes = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
    BufferedSafetensors::new(bytes)
        .map_err(|error| WeightsError::Torn { path: path.to_owned(), reason: error.to_string() })
}
