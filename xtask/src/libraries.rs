//! The shared libraries that a program asks for when it starts: which of them this machine lacks, and which it has
//! where the dynamic linker does not look, inside of Python's packages.

use crate::error::Error;
use crate::process::output;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders in which the dynamic linker looks first.
pub(crate) const VARIABLE: &str = "LD_LIBRARY_PATH";

/// The libraries of a program that the dynamic linker does not find, with `folders` searched first.
pub(crate) fn missing(program: &Path, folders: &[PathBuf]) -> Result<BTreeSet<String>, Error> {
    // So asked, the dynamic linker lists what it finds and does not start the program. ldd does the same.
    let mut command = Command::new(program);
    command.env("LD_TRACE_LOADED_OBJECTS", "1").env(VARIABLE, join(folders)?);
    Ok(unresolved(&String::from_utf8_lossy(&output(&mut command)?)))
}

/// A value for the variable.
pub(crate) fn join(folders: &[PathBuf]) -> Result<OsString, Error> {
    env::join_paths(folders).map_err(|error| Error::Usage(format!("libraries cannot be looked for: {error}")))
}

fn unresolved(listed: &str) -> BTreeSet<String> {
    listed.lines().filter_map(|line| line.trim().strip_suffix(" => not found")).map(str::to_owned).collect()
}

/// What Python's packages have of libtorch and CUDA.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct OfPython {
    /// torch's version and folder.
    pub(crate) torch: Option<(String, PathBuf)>,
    /// CUDA's libraries, of which torch's package brings along what it needs itself.
    pub(crate) cuda: Vec<PathBuf>,
}

impl OfPython {
    /// Asks python3, if there is one. Nothing is imported: that takes long, and fails where a driver is missing.
    pub(crate) fn find() -> Self {
        const SCRIPT: &str = "import glob, importlib.metadata, importlib.util
def folders(name):
    spec = importlib.util.find_spec(name)
    return list(spec.submodule_search_locations or []) if spec else []
for folder in folders('torch'):
    print('torch', importlib.metadata.version('torch'), folder, sep='\\t')
for folder in folders('nvidia'):
    for lib in sorted(glob.glob(folder + '/*/lib')):
        print('cuda', lib, sep='\\t')
";
        let answer = Command::new("python3").args(["-c", SCRIPT]).stderr(Stdio::null()).output();
        answer.map(|answer| Self::read(&String::from_utf8_lossy(&answer.stdout))).unwrap_or_default()
    }

    fn read(answer: &str) -> Self {
        let mut found = Self::default();
        for line in answer.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["torch", version, folder] => found.torch = Some((version.to_owned(), folder.into())),
                ["cuda", folder] => found.cuda.push(folder.into()),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_linker_does_not_find_is_missing() {
        let listed = "\tlinux-vdso.so.1 (0x00007f3868407000)\n\tlibcuda.so.1 => not found\n\tlibcublas.so.13 => not \
                      found\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f38682f4000)\n\tlibcuda.so.1 => not found\n";
        assert_eq!(unresolved(listed), ["libcublas.so.13", "libcuda.so.1"].map(str::to_owned).into());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_missing_of_a_program_that_runs() {
        assert_eq!(missing(&env::current_exe().unwrap(), &[]).unwrap(), BTreeSet::new());
    }

    #[test]
    fn pythons_answer_is_read() {
        let answer = "torch\t2.11.0+cu130\t/py/torch\ncuda\t/py/nvidia/cu13/lib\nsomething else\n";
        let expected = OfPython {
            torch: Some(("2.11.0+cu130".to_owned(), "/py/torch".into())),
            cuda: vec!["/py/nvidia/cu13/lib".into()],
        };
        assert_eq!(OfPython::read(answer), expected);
        assert_eq!(OfPython::read(""), OfPython::default());
    }
}
