//! Why state could not be saved or loaded.

use skep_runtime_core::ControlError;
use std::path::PathBuf;
use std::sync::Arc;

/// Why state could not be saved or loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `create`, `write`, `read`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: Arc<std::io::Error>,
    },
    /// The bytes are not a whole checkpoint.
    #[error("not a whole checkpoint: {reason}")]
    Torn {
        /// What is missing or wrong.
        reason: String,
    },
    /// The state cannot be written in this format.
    #[error("state cannot be saved: {reason}")]
    Unsavable {
        /// What stands in the way.
        reason: String,
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
