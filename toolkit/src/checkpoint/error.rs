//! Errors of saving and loading.

use skep_runtime_core::{BoxError, ControlError};
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// The state has values that are infinite or not a number: earlier versions saved such.
    #[error("tensor `{tensor}` has values that are infinite or not a number")]
    NotFinite {
        /// The first tensor with such values.
        tensor: String,
    },
    /// The state cannot be written in this format.
    #[error("state cannot be saved")]
    Unsavable {
        /// The reason.
        source: Arc<dyn StdError + Send + Sync>,
    },
    /// All files of a block's checkpoints are torn, or of a version that this one does not read.
    #[error("no checkpoint of block `{block}` can be read, the newest is {}", newest.display())]
    Unreadable {
        /// The block.
        block: String,
        /// Its newest file.
        newest: PathBuf,
        /// The error in that.
        source: Arc<CheckpointError>,
    },
    /// Some blocks have checkpoints below a folder, and others have none, or there are some that no block has.
    #[error("checkpoints in {} do not fit the blocks: no checkpoint for {missing:?}, no block for {unknown:?}", root.display())]
    OtherBlocks {
        /// The folder.
        root: PathBuf,
        /// Blocks without a checkpoint.
        missing: Vec<String>,
        /// Folders of checkpoints without a block.
        unknown: Vec<String>,
    },
    /// Some blocks could not be saved. All others were.
    #[error("{} of {} blocks were not saved: {:?}", failed.len(), saved.len() + failed.len(), names(failed))]
    Blocks {
        /// The files of the others.
        saved: Vec<PathBuf>,
        /// The blocks, and why.
        failed: Vec<(String, CheckpointError)>,
        /// The first of these errors.
        source: Arc<CheckpointError>,
    },
    /// The states were not saved in time: the device may be stuck.
    #[error("states were not saved within {limit:?}")]
    LimitPassed {
        /// The time that they had.
        limit: Duration,
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

fn names(failed: &[(String, CheckpointError)]) -> Vec<&str> {
    failed.iter().map(|(name, _)| name.as_str()).collect()
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source: Arc::new(source) }
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
