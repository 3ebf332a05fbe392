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
mod error;
mod file;
mod periodic;

pub use dir::{CheckpointDir, Newest};
pub use error::CheckpointError;
pub use file::{decode, encode};
pub use periodic::{Checkpointer, restore_all, save_all};
