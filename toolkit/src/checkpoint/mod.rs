//! State on disk: what was saved existed, and what is torn is never loaded.
//!
//! A block's state is copied between two batches ([`Handle::state`](skep_runtime_core::Handle::state)), so a file never
//! mixes two steps. It is written to a temporary file, synced and renamed, so a file under its final name
//! is whole, and it carries a checksum in case the disk disagrees. The last few are kept; loading takes the
//! newest that is whole.
//!
//! Files are in the safetensors format with the parameters under their plain names, so other programs and
//! other backends read them.
//!
//! ```
//! use skep_toolkit::checkpoint::CheckpointDir;
//! use skep_runtime_core::{BlockState, HostTensor};
//!
//! # let folder = tempfile::tempdir()?;
//! let dir = CheckpointDir::create(folder.path(), "expert.0", 3)?;
//! let mut state = BlockState::default();
//! state.parameters.insert("fc.weight".into(), HostTensor::from_f32(&[2], &[0.5, -1.5])?);
//! dir.save(&state)?;
//! let newest = dir.load()?;
//! assert_eq!(newest.found.map(|(_, state)| state), Some(state));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dir;
mod file;
mod periodic;

pub use dir::{CheckpointDir, Newest};
pub(crate) use file::dtype_of_file;
pub use file::{decode, encode};
pub use periodic::{Checkpointer, restore_all, save_all};

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
