//! All blocks of a runtime at once, now and then.

use super::dir::{CheckpointDir, Saved, folders};
use super::error::{CheckpointError, failed};
use super::write;
use skep_runtime_core::sync::every::Every;
use skep_runtime_core::{BlockState, Chain, Device, Handle, Unmatched};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Saves every block of a running runtime below `root`, each between two batches of its own choosing. A state that its
/// newest checkpoint holds already is not written again.
///
/// # Errors
///
/// Returns [`CheckpointError::Blocks`] with the blocks that cannot be saved; the others are saved all the same.
pub fn save_all<D: Device>(
    handle: &Handle<D>,
    root: &Path,
    keep: usize,
) -> Result<Vec<Saved>, CheckpointError> {
    save_changed(handle, root, keep, &mut Revisions::new())
}

/// The revision of each block that was last saved.
type Revisions = BTreeMap<String, u64>;

/// The same for the blocks that have changed since.
fn save_changed<D: Device>(
    handle: &Handle<D>,
    root: &Path,
    keep: usize,
    revisions: &mut Revisions,
) -> Result<Vec<Saved>, CheckpointError> {
    let (mut saved, mut failed) = (Vec::new(), Vec::new());
    for block in handle.blocks() {
        match save_block(handle, root, keep, &block.name, revisions) {
            Ok(done) => saved.extend(done),
            Err(error) => failed.push((block.name, error)),
        }
    }
    for Saved { path, not_finite, .. } in &saved {
        if let Some(tensor) = not_finite {
            tracing::warn!(path = %path.display(), tensor, "state is not finite, and saved beside the last good one");
        }
    }
    match failed.first() {
        None => Ok(saved),
        Some((_, first)) => Err(CheckpointError::Blocks {
            source: Arc::new(first.clone()),
            saved: saved.into_iter().map(|saved| saved.path).collect(),
            failed,
        }),
    }
}

/// `None` if the block has not changed.
fn save_block<D: Device>(
    handle: &Handle<D>,
    root: &Path,
    keep: usize,
    name: &str,
    revisions: &mut Revisions,
) -> Result<Option<Saved>, CheckpointError> {
    let dir = CheckpointDir::new(root, name, keep)?;
    let before = revisions.get(name).copied();
    let Some((state, revision)) = handle.state_since(name, before)? else { return Ok(None) };
    let saved = dir.save(&state)?;
    if let Some(revision) = revision {
        revisions.insert(name.to_owned(), revision);
    }
    Ok(Some(saved))
}

/// Restores every block of a running runtime from its newest whole checkpoint below `root`, and returns the files that
/// were loaded: `None` if there is no checkpoint of any block yet. Makes nothing, also no folder.
///
/// # Errors
///
/// Returns [`CheckpointError::OtherBlocks`] if blocks and checkpoints are not the same ones, and
/// [`CheckpointError::Unreadable`] if no file of a block can be read: nothing is restored then. Returns
/// [`CheckpointError::Control`] if a checkpoint does not fit its block exactly; blocks after it are not restored.
pub fn restore_all<D: Device>(
    handle: &Handle<D>,
    root: &Path,
) -> Result<Option<Vec<PathBuf>>, CheckpointError> {
    let names: Vec<String> = handle.blocks().into_iter().map(|block| block.name).collect();
    let mut unknown = folders(root)?;
    let (mut dirs, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        let dir = CheckpointDir::new(root, &name, 1)?;
        unknown.retain(|folder| dir.path().file_name().is_none_or(|own| own != folder.as_str()));
        if dir.has_any()? { dirs.push((name, dir)) } else { missing.push(name) }
    }
    if dirs.is_empty() && unknown.is_empty() {
        return Ok(None);
    }
    if !missing.is_empty() || !unknown.is_empty() {
        return Err(CheckpointError::OtherBlocks { root: root.to_owned(), missing, unknown });
    }
    // Looked at beforehand and loaded again: all states at once may not fit into memory.
    for (name, dir) in &dirs {
        newest(name, dir)?;
    }
    let mut loaded = Vec::new();
    for (name, dir) in dirs {
        if let Some((path, state)) = newest(&name, &dir)? {
            handle.restore(&name, state)?;
            loaded.push(path);
        }
    }
    Ok(Some(loaded))
}

/// The newest checkpoint, if there is any file.
fn newest(block: &str, dir: &CheckpointDir) -> Result<Option<(PathBuf, BlockState)>, CheckpointError> {
    let newest = dir.load()?;
    match newest.skipped.into_iter().next() {
        Some((path, error)) if newest.found.is_none() => Err(CheckpointError::Unreadable {
            block: block.to_owned(),
            newest: path,
            source: Arc::new(error),
        }),
        _ => Ok(newest.found),
    }
}

/// The checkpoint that [`restore_partial`] found for one block, and the parts that did not fit.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The block.
    pub block: String,
    /// The file that was loaded; `None` if there is none, and the block keeps its state.
    pub path: Option<PathBuf>,
    /// The parts that only the block or only the file has.
    pub unmatched: Unmatched,
}

/// Restores what fits of the newest whole checkpoints below `root`, block by block, and tells what does not: parts that a
/// checkpoint lacks keep their values, blocks without one their state. For a model that has changed since.
///
/// # Errors
///
/// Returns the error of the first block whose checkpoint has a part of other dims or another element type, or whose files
/// cannot be read; blocks after it are not restored.
pub fn restore_partial<D: Device>(handle: &Handle<D>, root: &Path) -> Result<Vec<Restored>, CheckpointError> {
    let restore = |block: String| {
        let found = newest(&block, &CheckpointDir::new(root, &block, 1)?)?;
        Ok(match found {
            Some((path, state)) => {
                let unmatched = handle.restore_partial(&block, state)?;
                Restored { block, path: Some(path), unmatched }
            }
            None => Restored { block, path: None, unmatched: Unmatched::default() },
        })
    };
    handle.blocks().into_iter().map(|block| restore(block.name)).collect()
}

/// Saves all blocks every so often, on a thread of its own, until it is dropped.
///
/// Dropping it saves nothing more, and waits for a round that is under way for at most half a minute. To keep the last state
/// of a training, ask for it between the [drain](Handle::drain) and the shutdown:
///
/// ```no_run
/// # use skep_runtime_core::{Device, RunningRuntime, Shutdown};
/// # use skep_toolkit::checkpoint::Checkpointer;
/// # use std::time::Duration;
/// # fn end<D: Device>(runtime: RunningRuntime<D>, checkpointer: Checkpointer) -> Result<(), Box<dyn std::error::Error>> {
/// let limit = Duration::from_secs(30);
/// runtime.handle().drain(limit)?;
/// checkpointer.save_now(limit)?;
/// checkpointer.stop(limit)?;
/// runtime.shutdown(Shutdown::Drain, limit)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the checkpointer stops it"]
#[derive(Debug)]
pub struct Checkpointer {
    thread: Every<Result<Vec<Saved>, CheckpointError>>,
}

impl Checkpointer {
    /// Starts to save every block of `handle`'s runtime below `root`, each `every` so often, keeping the
    /// newest `keep` of each. A block that has not changed since is not copied again. A failure is logged and the next
    /// round tries again.
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
        write::create_folders(root)?;
        let folder = root.to_owned();
        let mut revisions = Revisions::new();
        let save = move || {
            let saved = save_changed(&handle, &folder, keep, &mut revisions);
            if let Err(error) = &saved {
                tracing::warn!(error = %Chain(error), "checkpoint failed");
            }
            saved
        };
        let thread = Every::start("skep-checkpoint", every, save);
        Ok(Self { thread: thread.map_err(failed("start a thread for", root))? })
    }

    /// Saves the blocks that have changed since the last round, now, and returns their files.
    ///
    /// # Errors
    ///
    /// Returns [`CheckpointError::LimitPassed`] if that takes longer than `limit`, and those of [`save_all`].
    pub fn save_now(&self, limit: Duration) -> Result<Vec<Saved>, CheckpointError> {
        self.thread.now(limit).unwrap_or(Err(CheckpointError::LimitPassed { limit }))
    }

    /// Ends it: saves nothing more, and waits for a round that is under way.
    ///
    /// # Errors
    ///
    /// Returns [`CheckpointError::LimitPassed`] if that takes longer than `limit`, because a block hangs, say: its round is
    /// left behind, and ends when the block returns.
    pub fn stop(self, limit: Duration) -> Result<(), CheckpointError> {
        if self.thread.stop(limit) { Ok(()) } else { Err(CheckpointError::LimitPassed { limit }) }
    }
}
