//! Errors of saving and loading.

use skep_runtime_core::{BoxError, ControlError};
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;

/// The reason why a state could not be saved or loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `create`, `write`, `read`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// The bytes are not a whole checkpoint.
    #[error("not a whole checkpoint")]
    Torn {
        /// The error in them.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// The state cannot be written in this format.
    #[error("state cannot be saved")]
    Unsavable {
        /// The reason.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// A setting is out of range.
    #[error("{setting} is 0, expected at least 1")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
    /// The block could not give or take its state.
    #[error(transparent)]
    Control(#[from] Arc<ControlError>),
}

impl From<ControlError> for CheckpointError {
    fn from(error: ControlError) -> Self {
        Self::Control(Arc::new(error))
    }
}

impl CheckpointError {
    pub(super) fn torn(error: impl Into<BoxError>) -> Self {
        Self::Torn { source: Arc::from(error.into()) }
    }

    pub(super) fn unsavable(error: impl Into<BoxError>) -> Self {
        Self::Unsavable { source: Arc::from(error.into()) }
    }
}
