//! Files that are whole under their name, whenever the machine stops.

use super::error::{CheckpointError, failed};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

const TEMPORARY: &str = "tmp";

/// Makes a folder and those above it, and has each of them last.
pub(super) fn create_folders(path: &Path) -> Result<(), CheckpointError> {
    create_folders_with(path, sync_folder)
}

fn create_folders_with(
    path: &Path,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.is_dir()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        match fs::create_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made.map_err(failed("create", folder))?,
        }
        // The entry of a new folder is part of the folder above it.
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        sync(above).map_err(failed("sync", above))?;
    }
    Ok(())
}

/// Writes a new file, which appears under its name once all of it is on the disk. There must be none of this name.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("{}-{}.{TEMPORARY}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_extension(unique);
    let written = write_synced(&temporary, bytes)
        .map_err(failed("write", &temporary))
        .and_then(|()| link(&temporary, path).map_err(failed("link", path)));
    // After a rename it is not there any more.
    fs::remove_file(&temporary).ok();
    written?;
    let folder = path.parent().unwrap_or(Path::new("."));
    sync_folder(folder).map_err(failed("sync", folder))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file its name, unless another one has it. Some file systems have no links; there the lock on the folder has
/// to do.
fn link(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
        {
            if path.exists() { Err(io::ErrorKind::AlreadyExists.into()) } else { fs::rename(temporary, path) }
        }
        linked => linked,
    }
}

/// Removes what processes have left that were killed while they wrote. Only who holds the lock may: nobody else writes
/// then.
pub(super) fn remove_temporaries(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        path.extension().is_some_and(|end| end == TEMPORARY)
            && (name.starts_with("checkpoint-") || name.starts_with("not-finite-"))
    };
    for path in entries.filter(is_ours) {
        fs::remove_file(path).ok();
    }
}

/// Makes new names in a folder last. Only Unix lets a folder be opened for this.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_folder_lasts_before_there_is_something_in_it() {
        let root = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|path| root.path().join(path));
        let mut synced = Vec::new();
        let mut made = |path: &Path| {
            create_folders_with(path, |above| {
                // What is synced has the new entry, and nothing is below that yet.
                synced.push((above.to_owned(), [&a, &b, &c].map(|folder| folder.is_dir())));
                sync_folder(above)
            })
            .unwrap();
            std::mem::take(&mut synced)
        };
        let expected = [
            (root.path().to_owned(), [true, false, false]),
            (a.clone(), [true, true, false]),
            (b.clone(), [true, true, true]),
        ];
        assert_eq!(made(&c), expected);
        assert_eq!(made(&c), [], "all are there");
        std::fs::remove_dir(&c).unwrap();
        assert_eq!(made(&c), expected[2..]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_to_last_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error =
            create_folders_with(&root.path().join("a"), |_| Err(io::Error::other("no disk"))).unwrap_err();
        assert!(format!("{error:?}").contains("no disk"), "{error:?}");
    }
}
