//! The Python of this machine: with which wheels are fetched, and whose packages bring libraries along.

use crate::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python 3 with pip.
pub(crate) fn with_pip() -> Result<&'static str, Error> {
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

/// What Python's packages have of libtorch and CUDA.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PythonLibraries {
    /// torch's version and folder.
    pub(crate) torch: Option<(String, PathBuf)>,
    /// CUDA's libraries, of which torch's package brings along what it needs itself.
    pub(crate) cuda: Vec<PathBuf>,
}

impl PythonLibraries {
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
    fn pythons_answer_is_read() {
        let answer = "torch\t2.11.0+cu130\t/py/torch\ncuda\t/py/nvidia/cu13/lib\nsomething else\n";
        let expected = PythonLibraries {
            torch: Some(("2.11.0+cu130".to_owned(), "/py/torch".into())),
            cuda: vec!["/py/nvidia/cu13/lib".into()],
        };
        assert_eq!(PythonLibraries::read(answer), expected);
        assert_eq!(PythonLibraries::read(""), PythonLibraries::default());
    }
}
