//! A folder of one block's checkpoints.

use super::error::CheckpointError;
use super::file::{decode, encode};
use skep_runtime_core::{BlockState, Chain};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";

/// The folder of one block: `checkpoint-00000001.safetensors` and on, the highest number being the newest.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    path: PathBuf,
    keep: usize,
}

/// The newest checkpoint in a folder, and what was passed over on the way to it.
#[derive(Debug, Default)]
pub struct Newest {
    /// The newest whole checkpoint and its state; `None` where there is none.
    pub found: Option<(PathBuf, BlockState)>,
    /// Newer files that were passed over, newest first, and why.
    pub skipped: Vec<(PathBuf, CheckpointError)>,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source: Arc::new(source) }
}

impl CheckpointDir {
    /// Opens the folder for the block of this name below `root`, and makes it if it is missing. Saving keeps the newest
    /// `keep` checkpoints; 2 or more leave one to fall back to.
    ///
    /// # Errors
    ///
    /// Returns a [`CheckpointError`] if the folder cannot be made, or `keep` is 0.
    pub fn create(root: &Path, block: &str, keep: usize) -> Result<Self, CheckpointError> {
        if keep == 0 {
            return Err(CheckpointError::Zero { setting: "checkpoints to keep" });
        }
        let path = root.join(folder_name(block));
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        Ok(Self { path, keep })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves a state as the newest checkpoint, then removes those beyond the number to keep.
    ///
    /// The file appears under its name only once all of it is on the disk.
    ///
    /// # Errors
    ///
    /// Returns a [`CheckpointError`] if the state cannot be written. Earlier checkpoints are then untouched.
    pub fn save(&self, state: &BlockState) -> Result<PathBuf, CheckpointError> {
        let bytes = encode(state)?;
        let numbers = self.numbers()?;
        let number = numbers.last().map_or(Some(1), |newest| newest.checked_add(1));
        let number = number.ok_or_else(|| {
            let last =
                format!("the newest checkpoint has the number {}, and there is none after it", u64::MAX);
            CheckpointError::unsavable(last)
        })?;
        let path = self.file(number);
        let temporary = path.with_extension("tmp");
        write_synced(&temporary, &bytes).map_err(failed("write", &temporary)).inspect_err(|_| {
            fs::remove_file(&temporary).ok();
        })?;
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        sync_folder(&self.path).map_err(failed("sync", &self.path))?;
        let old = (numbers.len() + 1).saturating_sub(self.keep);
        for number in &numbers[..old] {
            let path = self.file(*number);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(path)
    }

    /// Loads the newest checkpoint that is whole.
    ///
    /// # Errors
    ///
    /// Returns [`CheckpointError::Io`] if the folder cannot be read. Files that cannot be read are passed over and named.
    pub fn load(&self) -> Result<Newest, CheckpointError> {
        let mut newest = Newest::default();
        for number in self.numbers()?.into_iter().rev() {
            let path = self.file(number);
            let read = fs::read(&path).map_err(failed("read", &path));
            match read.and_then(|bytes| decode(&bytes)) {
                Ok(state) => {
                    newest.found = Some((path, state));
                    return Ok(newest);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error = %Chain(&error), "checkpoint passed over");
                    newest.skipped.push((path, error));
                }
            }
        }
        Ok(newest)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{number:08}{SUFFIX}"))
    }

    /// The numbers of all checkpoints, oldest first.
    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let entries = fs::read_dir(&self.path).map_err(failed("read", &self.path))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &self.path))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
            let number = number.and_then(|number| number.parse::<u64>().ok());
            // A name that this would not have given to the number is somebody else's.
            numbers.extend(number.filter(|&number| self.file(number).file_name() == Some(&name)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// A block's name as the name of a folder: whatever could mean something else to a file system is written
/// as `%` and its code.
fn folder_name(block: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let all_dots = block.bytes().all(|b| b == b'.');
    let escaped = block
        .bytes()
        .map(|b| if plain(&b) && !all_dots { char::from(b).to_string() } else { format!("%{b:02x}") });
    format!("block-{}", escaped.collect::<String>())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a rename last. Only Unix lets a folder be opened for this.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skep_runtime_core::HostTensor;

    fn state(value: f32) -> BlockState {
        let mut state = BlockState::default();
        state.parameters.insert("w".into(), HostTensor::from_f32(&[2], &[value; 2]).unwrap());
        state
    }

    fn loaded(dir: &CheckpointDir) -> Option<BlockState> {
        dir.load().unwrap().found.map(|(_, state)| state)
    }

    #[test]
    fn the_newest_is_loaded_and_the_oldest_removed() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::create(root.path(), "expert.0", 2).unwrap();
        assert!(loaded(&dir).is_none());
        for value in [1.0, 2.0, 3.0] {
            dir.save(&state(value)).unwrap();
        }
        assert_eq!(loaded(&dir), Some(state(3.0)));
        assert_eq!(dir.numbers().unwrap(), [2, 3]);
    }

    #[test]
    fn a_torn_file_is_passed_over_for_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::create(root.path(), "expert.0", 3).unwrap();
        let good = dir.save(&state(1.0)).unwrap();
        let torn = dir.save(&state(2.0)).unwrap();
        let bytes = fs::read(&torn).unwrap();
        fs::write(&torn, &bytes[..bytes.len() - 3]).unwrap();
        let newest = dir.load().unwrap();
        assert_eq!(newest.found, Some((good, state(1.0))));
        assert_eq!(newest.skipped[0].0, torn);
        // The next one is newer than the torn one, not written over it.
        dir.save(&state(3.0)).unwrap();
        assert_eq!(loaded(&dir), Some(state(3.0)));
    }

    #[test]
    fn a_write_that_was_cut_short_is_not_a_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::create(root.path(), "expert.0", 3).unwrap();
        dir.save(&state(1.0)).unwrap();
        fs::write(dir.path().join("checkpoint-00000002.tmp"), b"half").unwrap();
        assert_eq!(loaded(&dir), Some(state(1.0)));
        dir.save(&state(2.0)).unwrap();
        assert_eq!(loaded(&dir), Some(state(2.0)));
    }

    #[test]
    fn files_that_are_only_like_checkpoints_are_let_be() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::create(root.path(), "expert.0", 1).unwrap();
        let strange =
            ["checkpoint-7.safetensors", "checkpoint-+0000009.safetensors", "checkpoint-.safetensors"];
        for name in strange {
            fs::write(dir.path().join(name), b"somebody's").unwrap();
        }
        for value in [1.0, 2.0] {
            dir.save(&state(value)).unwrap();
        }
        assert_eq!(dir.numbers().unwrap(), [2]);
        assert_eq!(loaded(&dir), Some(state(2.0)));
        assert!(strange.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn no_number_is_higher_than_the_highest() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::create(root.path(), "expert.0", 2).unwrap();
        let last = dir.file(u64::MAX);
        fs::write(&last, b"torn").unwrap();
        let message = Chain(&dir.save(&state(1.0)).unwrap_err()).to_string();
        assert!(message.contains("18446744073709551615"), "{message}");
        assert!(last.exists());
    }

    proptest! {
        #[test]
        fn a_folder_of_any_files_is_read_without_a_panic(
            names in prop::collection::vec("(checkpoint-)?[0-9+ ]{0,21}(\\.safetensors|\\.tmp)?", 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let root = tempfile::tempdir().unwrap();
            let dir = CheckpointDir::create(root.path(), "expert.0", 2).unwrap();
            for name in names.iter().filter(|name| !name.trim().is_empty()) {
                fs::write(dir.path().join(name), &bytes).unwrap();
            }
            prop_assert!(dir.load().unwrap().found.is_none());
            if dir.save(&state(1.0)).is_ok() {
                prop_assert_eq!(loaded(&dir), Some(state(1.0)));
            }
        }
    }

    #[test]
    fn block_names_cannot_leave_the_folder() {
        assert_eq!(folder_name("expert.0"), "block-expert.0");
        assert_eq!(folder_name("../a b"), "block-..%2fa%20b");
        assert_eq!(folder_name(".."), "block-%2e%2e");
        assert_ne!(folder_name("a/b"), folder_name("a%2fb"));
    }
}
