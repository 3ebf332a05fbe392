//! The CUDA toolkit, with which candle's kernels for CUDA are compiled: the one that is installed, or one that is
//! made of wheels of the Python package index.
//!
//! What is made here lies in `.cuda` in the workspace, outside of the target folder, as libtorch does. It is the
//! compiler and what its programs are linked with; running them takes a GPU with its driver and the libraries
//! of an installation, which a machine that only builds need not have. What the linker wants to see of those,
//! [`link_stubs`] has.

use crate::error::Error;
use crate::fetch::cache::{self, Member};
use crate::fetch::link_stubs;
use crate::fetch::wheel::{self, Wheel};
use crate::machine::gpu;
use crate::machine::process::root;
use crate::machine::python;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// nvcc's version in the toolkit that is made here, and its folder's name.
const VERSION: &str = "13.0.88";

/// What candle reads to know for which GPUs to compile: the compute capability without its point.
const CAPABILITY: &str = "CUDA_COMPUTE_CAP";

/// Of H100 and H200.
const DEFAULT_CAPABILITY: &str = "90";

const WHEELS: [Wheel; 5] = [
    Wheel {
        requirement: "nvidia-cuda-nvcc==13.0.88",
        sha256: "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
        tags: TAGS,
    },
    Wheel {
        requirement: "nvidia-cuda-crt==13.0.88",
        sha256: "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
        tags: TAGS,
    },
    Wheel {
        requirement: "nvidia-nvvm==13.0.88",
        sha256: "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
        tags: TAGS,
    },
    Wheel {
        requirement: "nvidia-cuda-runtime==13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        tags: TAGS,
    },
    Wheel {
        requirement: "nvidia-cuda-cccl==13.0.85",
        sha256: "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
        tags: TAGS,
    },
];

/// The wheels of this system, whatever pip takes this one for.
const TAGS: &[&str] = &["--platform=manylinux_2_17_x86_64", "--platform=manylinux2010_x86_64"];

/// Where the wheels keep the toolkit.
const PREFIX: &str = "nvidia/cu13";

/// The largest files, by which a toolkit that a crash cut short is noticed, with the folder that holds them.
const LARGEST: [(&str, &[Member]); 3] = [
    (
        "bin",
        &[
            Member { path: "nvcc", bytes: 30_153_384 },
            Member { path: "ptxas", bytes: 37_741_528 },
            Member { path: "nvlink", bytes: 38_140_392 },
            Member { path: "cudafe++", bytes: 8_910_936 },
            Member { path: "fatbinary", bytes: 1_245_208 },
        ],
    ),
    ("nvvm/bin", &[Member { path: "cicc", bytes: 76_506_792 }]),
    ("lib", &[Member { path: "libcudart.so.13", bytes: 704_288 }]),
];

/// A folder with `bin/nvcc`.
#[derive(Debug, PartialEq)]
pub(crate) struct Toolkit {
    home: PathBuf,
}

/// The toolkit that builds use: what `CUDA_HOME` or `CUDA_PATH` names, what the nvcc on `PATH` belongs to, the
/// one in CUDA's own default folder, or the one that was made here.
pub(crate) fn found() -> Option<Toolkit> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let on_path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = env::split_paths(&on_path).collect();
    first(homes, &on_path).or_else(|| is_whole(&own()).then(|| Toolkit { home: own() }))
}

/// The installed toolkit that comes first.
fn first(homes: impl Iterator<Item = PathBuf>, path: &[PathBuf]) -> Option<Toolkit> {
    let nvcc = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let has_nvcc = |home: &PathBuf| home.join("bin").join(&nvcc).is_file();
    // A link on `PATH` leads to the folder that has the rest.
    let linked = path.iter().filter_map(|folder| fs::canonicalize(folder.join(&nvcc)).ok());
    homes
        .chain(linked.filter_map(|nvcc| Some(nvcc.parent()?.parent()?.to_owned())))
        .chain([PathBuf::from("/usr/local/cuda")])
        .find(has_nvcc)
        .map(|home| Toolkit { home })
}

fn own() -> PathBuf {
    root().join(".cuda").join(VERSION)
}

const fn can_fetch() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64"))
}

/// The toolkit, which is made where there is none, with all that linking takes.
pub(crate) fn get() -> Result<Toolkit, Error> {
    let toolkit = match found() {
        Some(toolkit) => toolkit,
        None if can_fetch() => make()?,
        None => return Err(Error::NoToolkit),
    };
    if toolkit.home == own() {
        link_stubs::get(&toolkit.home.join("lib"))?;
    }
    Ok(toolkit)
}

fn make() -> Result<Toolkit, Error> {
    let folder = root().join(".cuda");
    let home = cache::whole(&folder, VERSION, is_whole, fill).map_err(|source| Error::Toolkit {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index and 700 MB in {}; where CUDA is already installed, set \
             CUDA_HOME",
            folder.display()
        ),
    })?;
    Ok(Toolkit { home })
}

fn is_whole(home: &Path) -> bool {
    LARGEST.iter().all(|(folder, files)| cache::check(&home.join(folder), files).is_ok())
}

/// Makes a toolkit in `work`.
fn fill(work: &Path) -> Result<PathBuf, Error> {
    eprintln!("getting CUDA's compiler {VERSION}: a download of 105 MB, which becomes 270 MB");
    let python = python::with_pip()?;
    let all = work.join("all");
    let wanted = ["bin/", "include/", "lib/", "nvvm/"].map(|folder| format!("{PREFIX}/{folder}"));
    for wheel in &WHEELS {
        let archive = wheel::download(python, wheel, work)?;
        wheel::extract(python, &archive, &wanted.each_ref().map(String::as_str), &all)?;
    }
    let home = all.join(PREFIX);
    for folder in ["bin", "nvvm/bin"] {
        make_executable(&home.join(folder))?;
    }
    // The linker looks for the name without a version.
    let library = home.join("lib/libcudart.so");
    link("libcudart.so.13", &library).map_err(Error::file("create", &library))?;
    Ok(home)
}

/// Zip files that Python unpacks lose this.
#[cfg(unix)]
fn make_executable(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        if path.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(Error::file("change", &path))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
use std::os::unix::fs::symlink as link;

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

impl Toolkit {
    /// Where it is.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Lets cargo's build scripts find it, and for which GPUs to compile, where the user says neither.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(self.variables(&env::var_os("PATH").unwrap_or_default()));
        if env::var_os(CAPABILITY).is_none() && !gpu::is_there() {
            command.env(CAPABILITY, DEFAULT_CAPABILITY);
        }
    }

    fn variables(&self, path: &OsStr) -> [(&'static str, OsString); 2] {
        // One build script asks for nvcc by its name alone.
        let path = [self.home.join("bin")].into_iter().chain(env::split_paths(path));
        let path = env::join_paths(path).unwrap_or_default();
        [("CUDA_HOME", self.home.clone().into()), ("PATH", path)]
    }
}

/// Folders that may hold the libraries of an installed CUDA.
pub(crate) fn libraries() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let homes = homes.chain([PathBuf::from("/usr/local/cuda")]);
    let folders = homes.flat_map(|home| ["lib64", "lib"].map(|folder| home.join(folder)));
    folders.filter(|folder| folder.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(folder: &Path) -> PathBuf {
        let nvcc = folder.join("bin").join(format!("nvcc{}", env::consts::EXE_SUFFIX));
        fs::create_dir_all(folder.join("bin")).and_then(|()| fs::write(&nvcc, "")).unwrap();
        nvcc
    }

    #[test]
    fn the_one_that_is_named_comes_before_the_one_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let (named, other) = (folder.path().join("named"), folder.path().join("other"));
        installed(&other);
        let path = [folder.path().join("nothing"), other.join("bin")];
        let find = |home: &PathBuf| first([home.clone()].into_iter(), &path).unwrap().home;
        assert_eq!(find(&named), fs::canonicalize(&other).unwrap(), "there is no nvcc in `named` yet");
        installed(&named);
        assert_eq!(find(&named), named);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_on_the_path_leads_to_the_toolkit() {
        let folder = tempfile::tempdir().unwrap();
        let (toolkit, links) = (folder.path().join("cuda"), folder.path().join("links"));
        let nvcc = installed(&toolkit);
        fs::create_dir(&links).and_then(|()| link(nvcc, links.join("nvcc"))).unwrap();
        let found = first(std::iter::empty(), &[links]).unwrap();
        assert_eq!(found.home(), fs::canonicalize(toolkit).unwrap());
    }

    #[test]
    fn a_torn_toolkit_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        for (folder, files) in LARGEST {
            assert!(!is_whole(home.path()));
            fs::create_dir_all(home.path().join(folder)).unwrap();
            for file in files {
                let made = fs::File::create(home.path().join(folder).join(file.path)).unwrap();
                made.set_len(file.bytes).unwrap();
            }
        }
        assert!(is_whole(home.path()));
        let nvcc = fs::File::options().write(true).open(home.path().join("bin/nvcc")).unwrap();
        nvcc.set_len(7).unwrap();
        assert!(!is_whole(home.path()));
    }

    #[test]
    fn build_scripts_find_its_compiler_before_any_other() {
        let toolkit = Toolkit { home: root().join("cuda") };
        let others = env::join_paths(["/a", "/b"]).unwrap();
        let [(_, home), (_, path)] = toolkit.variables(&others);
        assert_eq!(home, root().join("cuda"));
        let path: Vec<_> = env::split_paths(&path).collect();
        assert_eq!(path, [root().join("cuda/bin"), "/a".into(), "/b".into()]);
    }
}
