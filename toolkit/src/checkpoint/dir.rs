//! A folder of one block's checkpoints.

use super::error::{CheckpointError, failed};
use super::file::{checksum_of, decode, encode};
use super::write;
use crate::parameters::head;
use skep_runtime_core::{BlockState, Chain};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".safetensors";
/// Whoever writes to the folder holds a lock on this file, whoever reads shares it.
const LOCK: &str = "lock";

/// Which of two sorts of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// What is loaded.
    Checkpoint,
    /// A state with values that are infinite or not a number. It stands beside, for whoever looks for the cause.
    Damaged,
}

impl Sort {
    fn prefix(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint-",
            Self::Damaged => "not-finite-",
        }
    }
}

/// The folder of one block: `checkpoint-00000001.safetensors` and on, the highest number being the newest.
///
/// Any number of threads and processes may save and load at the same time: who writes holds a lock on the folder.
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

/// A state that is on the disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct Saved {
    /// The file.
    pub path: PathBuf,
    /// True if the newest file held this state already: nothing was written.
    pub unchanged: bool,
    /// The first tensor with values that are infinite or not a number, if there is one. The file then stands beside the
    /// checkpoints, of which none was removed, and is never loaded in their place.
    pub not_finite: Option<String>,
    /// Old files that could not be removed. They will be tried again.
    pub unpruned: Vec<(PathBuf, CheckpointError)>,
}

impl CheckpointDir {
    /// Names the folder for the block of this name below `root`. Nothing is made before the first save. Saving keeps the
    /// newest `keep` checkpoints; 2 or more leave one to fall back to.
    ///
    /// # Errors
    ///
    /// Returns [`CheckpointError::Zero`] if `keep` is 0.
    pub fn new(root: &Path, block: &str, keep: usize) -> Result<Self, CheckpointError> {
        if keep == 0 {
            return Err(CheckpointError::Zero { setting: "checkpoints to keep" });
        }
        Ok(Self { path: root.join(folder_name(block)), keep })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Saves a state as the newest checkpoint, then removes those beyond the number to keep. Waits for others who save
    /// into the same folder.
    ///
    /// The file appears under its name only once all of it is on the disk. A newer file that cannot be read stays, and
    /// does not count as one to keep.
    ///
    /// # Errors
    ///
    /// Returns a [`CheckpointError`] if the state cannot be written. Earlier checkpoints are then untouched.
    pub fn save(&self, state: &BlockState) -> Result<Saved, CheckpointError> {
        let bytes = encode(state)?;
        write::create_folders(&self.path)?;
        let _lock = self.lock_to_write()?;
        write::remove_temporaries(&self.path);
        let not_finite = not_finite(state).map(str::to_owned);
        let sort = if not_finite.is_some() { Sort::Damaged } else { Sort::Checkpoint };
        let numbers = self.numbers(sort)?;
        if let Some(path) = numbers.last().and_then(|newest| self.holds(sort, *newest, state)) {
            return Ok(Saved { path, unchanged: true, not_finite, unpruned: Vec::new() });
        }
        let of_both = self.numbers(Sort::Checkpoint)?.into_iter().chain(self.numbers(Sort::Damaged)?);
        let number = of_both.max().map_or(Some(1), |newest| newest.checked_add(1));
        let number = number.ok_or_else(|| {
            let last =
                format!("the newest checkpoint has the number {}, and there is none after it", u64::MAX);
            CheckpointError::unsavable(last)
        })?;
        let path = self.file(sort, number);
        write::write_whole(&path, &bytes)?;
        let unpruned = self.prune(sort, number);
        Ok(Saved { path, unchanged: false, not_finite, unpruned })
    }

    /// Removes what is older than the newest whole files, and returns what could not be removed.
    fn prune(&self, sort: Sort, newest: u64) -> Vec<(PathBuf, CheckpointError)> {
        let keep = match sort {
            Sort::Checkpoint => self.keep,
            Sort::Damaged => 1,
        };
        let Ok(numbers) = self.numbers(sort) else { return Vec::new() };
        let mut whole = 0;
        let mut unpruned = Vec::new();
        for number in numbers.into_iter().rev() {
            let path = self.file(sort, number);
            if whole >= keep {
                if let Err(error) = fs::remove_file(&path).map_err(failed("remove", &path)) {
                    tracing::warn!(error = %Chain(&error), "old checkpoint stays");
                    unpruned.push((path, error));
                }
            } else if number == newest || is_whole(&path) {
                whole += 1;
            }
        }
        unpruned
    }

    /// Loads the newest checkpoint that is whole and finite. Makes nothing, also no folder.
    ///
    /// # Errors
    ///
    /// Returns [`CheckpointError::Io`] if the folder is there and cannot be read. Files that cannot be read are passed
    /// over and named.
    pub fn load(&self) -> Result<Newest, CheckpointError> {
        let mut newest = Newest::default();
        let _lock = self.lock_to_read();
        for number in self.numbers(Sort::Checkpoint)?.into_iter().rev() {
            let path = self.file(Sort::Checkpoint, number);
            let read = fs::read(&path).map_err(failed("read", &path));
            match read.and_then(|bytes| decode(&bytes)).and_then(finite) {
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

    /// Returns true if there is a file that is or was a checkpoint.
    pub(super) fn has_any(&self) -> Result<bool, CheckpointError> {
        Ok(!self.numbers(Sort::Checkpoint)?.is_empty())
    }

    /// The lock of one who writes, until it is dropped. The system lets go of it when its process ends.
    fn lock_to_write(&self) -> Result<File, CheckpointError> {
        let path = self.path.join(LOCK);
        let open = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(failed("lock", &path))
    }

    /// The same for one who reads: `None` where nobody has written yet, or the file system has no locks.
    fn lock_to_read(&self) -> Option<File> {
        let file = File::open(self.path.join(LOCK)).ok()?;
        file.lock_shared().ok().map(|()| file)
    }

    /// The path of a file that holds just this state.
    fn holds(&self, sort: Sort, number: u64, state: &BlockState) -> Option<PathBuf> {
        let path = self.file(sort, number);
        let head = head::read(&mut File::open(&path).ok()?).ok()?;
        if !checksum_of(head.tensors.metadata().as_ref()?, state) {
            return None;
        }
        // Checksums of two states can be equal.
        decode(&fs::read(&path).ok()?).is_ok_and(|saved| saved == *state).then_some(path)
    }

    fn file(&self, sort: Sort, number: u64) -> PathBuf {
        self.path.join(format!("{}{number:08}{SUFFIX}", sort.prefix()))
    }

    /// The numbers of all files, oldest first.
    fn numbers(&self, sort: Sort) -> Result<Vec<u64>, CheckpointError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("read", &self.path))?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &self.path))?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix(sort.prefix())?.strip_suffix(SUFFIX));
            let number = number.and_then(|number| number.parse::<u64>().ok());
            // A name that this would not have given to the number is somebody else's.
            numbers.extend(number.filter(|&number| self.file(sort, number).file_name() == Some(&name)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Whether a file has the length that its head says: the contents are looked at when they are loaded.
fn is_whole(path: &Path) -> bool {
    File::open(path).is_ok_and(|mut file| head::read(&mut file).is_ok())
}

/// The first tensor that a step has destroyed. Buffers may hold infinite values, masks do.
fn not_finite(state: &BlockState) -> Option<&str> {
    let is_trained = |name: &str| state.scalars.contains_key(&format!("step.{name}"));
    let parameter = state
        .parameters
        .iter()
        .find(|(name, tensor)| tensor.has_nan() || (is_trained(name) && !tensor.all_finite()));
    let of_optimizer = || state.optimizer.iter().find(|(_, tensor)| !tensor.all_finite());
    parameter.or_else(of_optimizer).map(|(name, _)| name.as_str())
}

fn finite(state: BlockState) -> Result<BlockState, CheckpointError> {
    match not_finite(&state) {
        Some(tensor) => Err(CheckpointError::NotFinite { tensor: tensor.to_owned() }),
        None => Ok(state),
    }
}

/// The beginning of the names of blocks' folders.
const FOLDER: &str = "block-";

/// A block's name as the name of a folder: whatever could mean something else to a file system is written
/// as `%` and its code.
fn folder_name(block: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let all_dots = block.bytes().all(|b| b == b'.');
    let escaped = block
        .bytes()
        .map(|b| if plain(&b) && !all_dots { char::from(b).to_string() } else { format!("%{b:02x}") });
    format!("{FOLDER}{}", escaped.collect::<String>())
}

/// The names of the folders below `root` that blocks have, in order: none if there is no `root`.
pub(super) fn folders(root: &Path) -> Result<Vec<String>, CheckpointError> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", root))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("read", root))?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with(FOLDER)).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
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
        let dir = CheckpointDir::new(root.path(), "expert.0", 2).unwrap();
        assert!(loaded(&dir).is_none());
        for value in [1.0, 2.0, 3.0] {
            dir.save(&state(value)).unwrap();
        }
        assert_eq!(loaded(&dir), Some(state(3.0)));
        assert_eq!(dir.numbers(Sort::Checkpoint).unwrap(), [2, 3]);
    }

    #[test]
    fn a_torn_file_is_passed_over_for_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 3).unwrap();
        let good = dir.save(&state(1.0)).unwrap().path;
        let torn = dir.save(&state(2.0)).unwrap().path;
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
    fn a_checkpoint_that_is_not_finite_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 3).unwrap();
        let good = dir.save(&state(1.0)).unwrap().path;
        // As earlier versions have saved it.
        let bad = dir.file(Sort::Checkpoint, 2);
        fs::write(&bad, encode(&state(f32::NAN)).unwrap()).unwrap();
        let newest = dir.load().unwrap();
        assert_eq!(newest.found, Some((good, state(1.0))));
        assert_eq!(newest.skipped[0].0, bad);
        let message = newest.skipped[0].1.to_string();
        assert_eq!(message, "tensor `w` has values that are infinite or not a number");
    }

    #[test]
    fn a_write_that_was_cut_short_is_not_a_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 3).unwrap();
        dir.save(&state(1.0)).unwrap();
        let cut = dir.path().join("checkpoint-00000002.71-0.tmp");
        fs::write(&cut, b"half").unwrap();
        assert_eq!(loaded(&dir), Some(state(1.0)));
        dir.save(&state(2.0)).unwrap();
        assert_eq!(loaded(&dir), Some(state(2.0)));
        assert!(!cut.exists());
    }

    #[test]
    fn files_that_are_only_like_checkpoints_are_let_be() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 1).unwrap();
        fs::create_dir_all(dir.path()).unwrap();
        let strange =
            ["checkpoint-7.safetensors", "checkpoint-+0000009.safetensors", "checkpoint-.safetensors"];
        for name in strange {
            fs::write(dir.path().join(name), b"somebody's").unwrap();
        }
        for value in [1.0, 2.0] {
            dir.save(&state(value)).unwrap();
        }
        assert_eq!(dir.numbers(Sort::Checkpoint).unwrap(), [2]);
        assert_eq!(loaded(&dir), Some(state(2.0)));
        assert!(strange.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn no_number_is_higher_than_the_highest() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 2).unwrap();
        fs::create_dir_all(dir.path()).unwrap();
        let last = dir.file(Sort::Checkpoint, u64::MAX);
        fs::write(&last, b"torn").unwrap();
        let message = Chain(&dir.save(&state(1.0)).unwrap_err()).to_string();
        assert!(message.contains("18446744073709551615"), "{message}");
        assert!(last.exists());
    }

    #[test]
    fn reading_makes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("not").join("there");
        let dir = CheckpointDir::new(&below, "expert.0", 1).unwrap();
        assert!(dir.load().unwrap().found.is_none());
        assert!(folders(&below).unwrap().is_empty());
        assert!(!below.exists() && fs::read_dir(root.path()).unwrap().next().is_none());
        dir.save(&state(1.0)).unwrap();
        assert_eq!(folders(&below).unwrap(), ["block-expert.0"]);
    }

    #[test]
    fn an_unchanged_state_is_not_written_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 2).unwrap();
        let first = dir.save(&state(1.0)).unwrap();
        assert!(!first.unchanged);
        let again = dir.save(&state(1.0)).unwrap();
        assert_eq!((again.path, again.unchanged), (first.path, true));
        assert!(!dir.save(&state(2.0)).unwrap().unchanged);
        assert!(!dir.save(&state(1.0)).unwrap().unchanged, "an earlier one is another one");
    }

    #[test]
    fn what_is_not_finite_stands_beside_the_last_good_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 1).unwrap();
        let good = dir.save(&state(1.0)).unwrap();
        for value in [f32::NAN, -f32::NAN] {
            let saved = dir.save(&state(value)).unwrap();
            assert_eq!(saved.not_finite.as_deref(), Some("w"));
            assert!(saved.path.file_name().unwrap().to_str().unwrap().starts_with("not-finite-"));
        }
        assert_eq!(loaded(&dir), Some(state(1.0)));
        assert!(good.path.exists());
        assert_eq!(dir.numbers(Sort::Damaged).unwrap(), [3], "one is enough to look for the cause");
        // An infinite mask is none of training's doing.
        assert_eq!(dir.save(&state(f32::NEG_INFINITY)).unwrap().not_finite, None);
        let mut trained = state(f32::INFINITY);
        trained.scalars.insert("step.w".into(), "3".into());
        assert_eq!(dir.save(&trained).unwrap().not_finite.as_deref(), Some("w"));
    }

    #[test]
    fn newer_files_that_cannot_be_read_neither_go_nor_count() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 2).unwrap();
        let paths = [1.0, 2.0].map(|value| dir.save(&state(value)).unwrap().path);
        let foreign = dir.file(Sort::Checkpoint, 3);
        fs::write(&foreign, b"of a version to come").unwrap();
        dir.save(&state(3.0)).unwrap();
        assert_eq!(dir.numbers(Sort::Checkpoint).unwrap(), [2, 3, 4]);
        assert!(!paths[0].exists() && paths[1].exists() && foreign.exists());
    }

    #[test]
    fn a_file_that_cannot_be_removed_is_no_failure() {
        let root = tempfile::tempdir().unwrap();
        let dir = CheckpointDir::new(root.path(), "expert.0", 1).unwrap();
        // A folder in a file's place cannot be removed as one.
        fs::create_dir_all(dir.file(Sort::Checkpoint, 1)).unwrap();
        let saved = dir.save(&state(1.0)).unwrap();
        assert_eq!(saved.unpruned.len(), 1);
        assert_eq!(loaded(&dir), Some(state(1.0)));
    }

    proptest! {
        #[test]
        fn a_folder_of_any_files_is_read_without_a_panic(
            names in prop::collection::vec("(checkpoint-)?[0-9+ ]{0,21}(\\.safetensors|\\.tmp)?", 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let root = tempfile::tempdir().unwrap();
            let dir = CheckpointDir::new(root.path(), "expert.0", 2).unwrap();
            fs::create_dir_all(dir.path()).unwrap();
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
