//! All blocks of a runtime at once, now and then.

use super::dir::CheckpointDir;
use super::error::CheckpointError;
use skep_runtime_core::sync::every::Every;
use skep_runtime_core::{Chain, Device, Handle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Saves every block of a running runtime below `root`, each between two batches of its own choosing.
///
/// # Errors
///
/// Returns the error of the first block that cannot be saved; the others are saved all the same.
pub fn save_all<D: Device>(
    handle: &Handle<D>,
    root: &Path,
    keep: usize,
) -> Result<Vec<PathBuf>, CheckpointError> {
    let saved: Vec<_> = handle
        .blocks()
        .iter()
        .map(|block| {
            let dir = CheckpointDir::create(root, &block.name, keep)?;
            dir.save(&handle.state(&block.name)?)
        })
        .collect();
    saved.into_iter().collect()
}

/// Restores every block of a running runtime from its newest whole checkpoint below `root`. Blocks without
/// one keep their state. Returns the files that were loaded.
///
/// Parts that a checkpoint does not hold keep their value and are named in a warning.
///
/// # Errors
///
/// Returns the error of the first block whose checkpoint does not fit it; blocks after it are not restored.
pub fn restore_all<D: Device>(handle: &Handle<D>, root: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut loaded = Vec::new();
    for block in handle.blocks() {
        let Some((path, state)) = CheckpointDir::create(root, &block.name, 1)?.load()?.found else {
            continue;
        };
        let missing = handle.restore(&block.name, state)?;
        if !missing.is_empty() {
            tracing::warn!(block = block.name, ?missing, "checkpoint lacks parts, they keep their value");
        }
        loaded.push(path);
    }
    Ok(loaded)
}

/// Saves all blocks every so often, on a thread of its own, until it is dropped.
#[must_use = "dropping the checkpointer stops it"]
#[derive(Debug)]
pub struct Checkpointer {
    _thread: Every,
}

impl Checkpointer {
    /// Starts to save every block of `handle`'s runtime below `root`, each `every` so often, keeping the
    /// newest `keep` of each. A failure is logged and the next round tries again.
    ///
    /// # Errors
    ///
    /// Returns a [`CheckpointError`] if `keep` or `every` is zero, the folder cannot be made, or the system gives no thread.
    pub fn start<D: Device>(
        handle: Handle<D>,
        root: &Path,
        keep: usize,
        every: Duration,
    ) -> Result<Self, CheckpointError> {
        if keep == 0 {
            return Err(CheckpointError::Zero { setting: "checkpoints to keep" });
        }
        if every.is_zero() {
            return Err(CheckpointError::Zero { setting: "checkpoint period" });
        }
        let failed =
            |action, source| CheckpointError::Io { action, path: root.to_owned(), source: Arc::new(source) };
        std::fs::create_dir_all(root).map_err(|source| failed("create", source))?;
        let folder = root.to_owned();
        let save = move || {
            if let Err(error) = save_all(&handle, &folder, keep) {
                tracing::warn!(error = %Chain(&error), "checkpoint failed");
            }
        };
        let thread = Every::start("skep-checkpoint", every, save);
        Ok(Self { _thread: thread.map_err(|source| failed("start a thread for", source))? })
    }
}
