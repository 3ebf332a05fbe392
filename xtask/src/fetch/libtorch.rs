//! Getting libtorch, which backend tch is built with, and telling cargo where it is.
//!
//! The `torch` wheel of the Python package index holds libtorch's headers and libraries. Without its CUDA
//! half, and with two small libraries that the other half is linked against, it makes a libtorch for the
//! processor. It lies in `.libtorch` in the workspace, outside of the target folder, because `cargo clean` is
//! no reason to download it again. What is written last is a configuration for cargo, which the workspace's
//! own includes where it exists: from then on every cargo command finds libtorch.

use crate::error::Error;
use crate::fetch::cache::{self, Member};
use crate::fetch::wheel::{self, Wheel};
use crate::machine::process::{output, root};
use crate::machine::python::{self, PythonLibraries};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What tch 0.24 needs, to the letter.
const VERSION: &str = "2.11.0";

/// Names a libtorch that is already there; torch-sys reads it.
const VARIABLE: &str = "LIBTORCH";

/// The folder of the libtorch that is made here.
const FOLDER: &str = "2.11.0-cpu";

/// The wheels of this one Python and system, whatever runs here, so that everybody gets the same file.
const TAGS: &[&str] =
    &["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--platform=manylinux_2_28_x86_64"];

const TORCH: Wheel = Wheel {
    requirement: "torch==2.11.0",
    sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
    tags: TAGS,
};
const CUDART: Wheel = Wheel {
    requirement: "nvidia-cuda-runtime==13.0.96",
    sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    tags: &[],
};
const CUPTI: Wheel = Wheel {
    requirement: "nvidia-cuda-cupti==13.0.85",
    sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    tags: &[],
};

const LIBRARIES: &[Member] = &[
    Member { path: "torch/lib/libc10.so", bytes: 1_498_969 },
    Member { path: "torch/lib/libtorch_cpu.so", bytes: 451_209_129 },
    Member { path: "torch/lib/libgomp.so.1", bytes: 254_009 },
    Member { path: "nvidia/cu13/lib/libcudart.so.13", bytes: 704_288 },
    Member { path: "nvidia/cu13/lib/libcupti.so.13", bytes: 4_152_208 },
];

/// Where this workspace keeps libtorch.
fn home() -> PathBuf {
    root().join(".libtorch")
}

/// What cargo includes.
fn config() -> PathBuf {
    home().join("cargo.toml")
}

/// The libtorch that builds use now, if there is one: the one that `LIBTORCH` names, which cargo sets from our
/// configuration where the user does not.
///
/// # Errors
///
/// When the user names one that cannot be used.
fn found() -> Result<Option<PathBuf>, Error> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return from_python(OsStr::new("python3")).map(Some);
    }
    match users_own() {
        Some(folder) => check(&folder).map(|()| Some(folder)),
        None => Ok(recorded().filter(|folder| check(folder).is_ok())),
    }
}

/// What the user has set. cargo hands our own configuration to this program in the same variable.
fn users_own() -> Option<PathBuf> {
    let set = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)?;
    (recorded().as_ref() != Some(&set) && !set.ends_with(Path::new(".libtorch").join(FOLDER))).then_some(set)
}

/// What an earlier run has written for cargo.
fn recorded() -> Option<PathBuf> {
    let text = fs::read_to_string(config()).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("LIBTORCH = { value = \"")?.split_once('"'));
    // Joining an absolute path gives that path.
    Some(root().join(line?.0))
}

/// Whether steps that link can use libtorch: it is there, or it can be had.
pub(crate) fn available() -> bool {
    match found() {
        Ok(found) => found.is_some() || (can_fetch() && python::with_pip().is_ok()),
        Err(_) => true, // The step says what is wrong with it.
    }
}

/// Whether it is there now.
pub(crate) fn is_there() -> bool {
    found().is_ok_and(|found| found.is_some())
}

/// Whether it is there and has CUDA.
pub(crate) fn has_cuda() -> bool {
    found().is_ok_and(|found| found.is_some_and(|folder| folder.join("lib/libtorch_cuda.so").is_file()))
}

const fn can_fetch() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64"))
}

/// The folder of libtorch, which is fetched where there is none.
pub(crate) fn get() -> Result<PathBuf, Error> {
    if let Some(folder) = found()? {
        return Ok(folder);
    }
    let home = home();
    if !can_fetch() {
        return Err(Error::NoLibtorch { version: VERSION });
    }
    let is_whole =
        |folder: &Path| check(folder).is_ok() && cache::check(&folder.join("lib"), LIBRARIES).is_ok();
    let folder = cache::whole(&home, FOLDER, is_whole, fill).map_err(|source| Error::Libtorch {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index and 1.1 GB in {}; where libtorch {VERSION} is already \
             on this machine, set {VARIABLE}, or run `cargo xtask libtorch --from-python`",
            home.display()
        ),
    })?;
    record(&format!("{{ value = \".libtorch/{FOLDER}\", relative = true }}"))?;
    Ok(folder)
}

/// Takes the libtorch of a Python's `torch` package, CUDA included where it has it.
pub(crate) fn take_from_python(python: &OsStr) -> Result<PathBuf, Error> {
    if let Some(own) = users_own() {
        let own = own.display();
        return Err(Error::Usage(format!("{VARIABLE} is {own}, which cargo prefers: unset it first")));
    }
    let folder = from_python(python)?;
    record(&format!("{{ value = \"{}\" }}", folder.display()))?;
    Ok(folder)
}

fn from_python(python: &OsStr) -> Result<PathBuf, Error> {
    const SCRIPT: &str = "import torch; print(torch.__version__); print(torch.__path__[0])";
    let answer = output(Command::new(python).args(["-c", SCRIPT]))?;
    let answer = String::from_utf8_lossy(&answer);
    let mut lines = answer.lines();
    let (version, folder) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let folder = PathBuf::from(folder);
    check_version(&folder, version)?;
    check(&folder)?;
    Ok(folder)
}

/// Whether a folder holds a libtorch that tch can be built with.
fn check(folder: &Path) -> Result<(), Error> {
    let library = format!("{}torch_cpu{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    for file in ["include/torch/csrc/api/include/torch/torch.h", &format!("lib/{library}")] {
        let path = folder.join(file);
        fs::metadata(&path).map_err(Error::file("find libtorch's", &path))?;
    }
    // Python's own has none; its version was asked for.
    match fs::read_to_string(folder.join("build-version")) {
        Ok(version) => check_version(folder, version.trim()),
        Err(_) => Ok(()),
    }
}

/// A libtorch to run with what was built elsewhere: the one that `LIBTORCH` names, or that of Python's `torch`.
pub(crate) fn to_run_with(python: &PythonLibraries, cuda: bool) -> Result<PathBuf, Error> {
    let own = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    choose(own, python, cuda)
}

fn choose(own: Option<PathBuf>, python: &PythonLibraries, cuda: bool) -> Result<PathBuf, Error> {
    let folder = match (own, &python.torch) {
        (Some(own), _) => own,
        (None, Some((version, folder))) => check_version(folder, version).map(|()| folder.clone())?,
        (None, None) => return Err(Error::NoTorch { version: VERSION }),
    };
    if let Ok(version) = fs::read_to_string(folder.join("build-version")) {
        check_version(&folder, version.trim())?;
    }
    let library = if cuda { "torch_cuda" } else { "torch_cpu" };
    let library = format!("lib/{}{library}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let path = folder.join(library);
    fs::metadata(&path).map_err(Error::file("find libtorch's", &path))?;
    Ok(folder)
}

fn check_version(folder: &Path, version: &str) -> Result<(), Error> {
    if version.split('+').next() == Some(VERSION) {
        return Ok(());
    }
    Err(Error::WrongLibtorch { path: folder.to_owned(), found: version.to_owned(), expected: VERSION })
}

/// Makes a libtorch in `work`.
fn fill(work: &Path) -> Result<PathBuf, Error> {
    eprintln!("getting libtorch {VERSION}: a download of 545 MB, of which 500 MB are kept");
    let python = python::with_pip()?;
    let (all, kept) = (work.join("all"), work.join("kept"));
    for wheel in [TORCH, CUDART, CUPTI] {
        let archive = wheel::download(python, &wheel, work)?;
        let wanted: Vec<_> = LIBRARIES.iter().map(|library| library.path).chain(["torch/include/"]).collect();
        wheel::extract(python, &archive, &wanted, &all)?;
    }
    cache::keep(LIBRARIES, &all, &kept.join("lib"))?;
    let include = all.join("torch/include");
    fs::rename(&include, kept.join("include")).map_err(Error::file("move", &include))?;
    link_torch(&kept.join("lib"))?;
    let version = kept.join("build-version");
    fs::write(&version, format!("{VERSION}+cpu\n")).map_err(Error::file("write", &version))?;
    Ok(kept)
}

/// torch-sys links a library of this name, which in the wheel pulls in the CUDA half.
fn link_torch(lib: &Path) -> Result<(), Error> {
    let link = lib.join("libtorch.so");
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink("libtorch_cpu.so", &link);
    #[cfg(not(unix))]
    let made = fs::copy(lib.join("libtorch_cpu.so"), &link).map(|_| ());
    made.map_err(Error::file("create", &link))
}

/// Writes what cargo includes, whole or not at all.
fn record(libtorch: &str) -> Result<(), Error> {
    let (file, part) = (config(), home().join("cargo.toml.part"));
    let text = format!("# Written by `cargo xtask libtorch`.\n[env]\n{VARIABLE} = {libtorch}\n");
    fs::create_dir_all(home()).map_err(Error::file("create", &home()))?;
    fs::write(&part, text).map_err(Error::file("write", &part))?;
    fs::rename(&part, &file).map_err(Error::file("create", &file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_libtorch_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(folder.path()).unwrap_err().told();
        assert!(error.starts_with("cannot find libtorch's ") && error.contains("torch.h"), "{error}");

        let header = folder.path().join("include/torch/csrc/api/include/torch");
        fs::create_dir_all(&header).and_then(|()| fs::write(header.join("torch.h"), "")).unwrap();
        let lib = folder.path().join("lib");
        let library = format!("{}torch_cpu{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        fs::create_dir(&lib).and_then(|()| fs::write(lib.join(library), "")).unwrap();
        check(folder.path()).unwrap();

        fs::write(folder.path().join("build-version"), "2.11.0+cpu\n").unwrap();
        check(folder.path()).unwrap();
        fs::write(folder.path().join("build-version"), "2.9.1+cu130\n").unwrap();
        let error = check(folder.path()).unwrap_err().told();
        assert!(error.ends_with("is libtorch 2.9.1+cu130, expected 2.11.0"), "{error}");
    }

    #[test]
    fn the_libtorch_to_run_with_is_the_named_one_or_pythons() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("lib");
        let library =
            |name: &str| lib.join(format!("{}{name}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX));
        fs::create_dir(&lib).and_then(|()| fs::write(library("torch_cpu"), "")).unwrap();
        let here = || Some(folder.path().to_owned());
        let python = |version: &str| PythonLibraries {
            torch: Some((version.to_owned(), here().unwrap())),
            cuda: Vec::new(),
        };

        assert_eq!(choose(here(), &PythonLibraries::default(), false).unwrap(), folder.path());
        assert_eq!(choose(None, &python("2.11.0+cu130"), false).unwrap(), folder.path());
        let none = choose(None, &PythonLibraries::default(), false).unwrap_err().told();
        assert!(none.starts_with("there is no libtorch 2.11.0"), "{none}");
        let other = choose(None, &python("2.9.1"), false).unwrap_err().told();
        assert!(other.ends_with("is libtorch 2.9.1, expected 2.11.0"), "{other}");
        let half = choose(here(), &PythonLibraries::default(), true).unwrap_err().told();
        assert!(half.starts_with("cannot find libtorch's ") && half.contains("torch_cuda"), "{half}");
        fs::write(library("torch_cuda"), "").unwrap();
        choose(here(), &PythonLibraries::default(), true).unwrap();
    }

    #[test]
    fn all_wheels_are_of_the_version_that_is_checked() {
        assert_eq!(TORCH.requirement, format!("torch=={VERSION}"));
        assert!(FOLDER.starts_with(VERSION));
    }
}
