//! State on disk: what was saved existed, and what is torn is never loaded.
//!
//! A block's state is copied between two batches ([`Handle::state`](skep_runtime_core::Handle::state)), so a file never
//! mixes two steps. It is written to a temporary file of its own, synced and linked to its name, so a file under its final
//! name is whole, whoever else writes into the folder; and it carries a checksum in case the disk disagrees. The last few
//! are kept; loading takes the newest that is whole. A state that has not changed is not written again, and one that holds
//! numbers that are none never takes the place of a good one.
//!
//! [`restore_all`] takes all or nothing: it is an error if blocks and files do not fit exactly, and an answer of its own
//! if there is nothing yet. [`restore_partial`] takes what fits, and tells the rest.
//!
//! Files are in the safetensors format with the parameters under their plain names, so other programs and
//! other backends read them.
//!
//! ```
//! use skep_toolkit::checkpoint::CheckpointDir;
//! use skep_runtime_core::{BlockState, HostTensor};
//!
//! # let folder = tempfile::tempdir()?;
//! let dir = CheckpointDir::new(folder.path(), "expert.0", 3)?;
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
mod write;

pub use dir::{CheckpointDir, Newest, Saved};
pub use error::CheckpointError;
pub use file::{decode, encode};
pub use periodic::{Checkpointer, Restored, restore_all, restore_partial, save_all};
