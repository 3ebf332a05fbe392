//! What can go wrong, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },

    #[error("{program} ended with {status}")]
    Ended { program: String, status: ExitStatus },

    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },

    #[error("{0}")]
    Usage(String),

    #[error("demo {demo} cannot run on {combination}: {reason}")]
    NoDemo { demo: &'static str, combination: String, reason: &'static str },

    #[error("cargo built {0} but did not name its file")]
    NoExecutable(&'static str),

    #[error("neither python3 nor python is on PATH: install Python 3 with pip")]
    NoPython,

    #[error("{python} has no pip: run `{python} -m ensurepip`, or install the system's pip package")]
    NoPip { python: &'static str },

    #[error("{} has {found} bytes where {expected} were expected", path.display())]
    Torn { path: PathBuf, found: u64, expected: u64 },

    #[error("cannot get the model ({remedy})")]
    Model { source: Box<Error>, remedy: String },

    #[error("cannot get libtorch ({remedy})")]
    Libtorch { source: Box<Error>, remedy: String },

    #[error(
        "libtorch {version} is not there, and can be fetched on Linux on x86-64 only: set LIBTORCH, or run \
         `cargo xtask libtorch --from-python` where Python has torch {version}"
    )]
    NoLibtorch { version: &'static str },

    #[error("{} is libtorch {found}, expected {expected}", path.display())]
    WrongLibtorch { path: PathBuf, found: String, expected: &'static str },

    #[error(
        "there is no libtorch {version}: set LIBTORCH to its folder, or install torch {version} for python3"
    )]
    NoTorch { version: &'static str },

    #[error("cannot get ONNX Runtime ({remedy})")]
    OnnxRuntime { source: Box<Error>, remedy: String },

    #[error(
        "ONNX Runtime is not there, and can be fetched on Linux on x86-64 only: set ORT_DYLIB_PATH to the library of \
         ONNX Runtime {version}"
    )]
    NoOnnxRuntime { version: &'static str },

    #[error("cannot get CUDA's compiler ({remedy})")]
    Toolkit { source: Box<Error>, remedy: String },

    #[error(
        "there is no nvcc, and it can be fetched on Linux on x86-64 only: install CUDA, and set CUDA_HOME"
    )]
    NoToolkit,

    #[error("candle does not use cudarc, whose symbols the libraries to link with would have")]
    NoCudarc,

    #[error("cannot start {tool}, and packing takes strip, tar and xz")]
    NoTool { tool: &'static str, source: io::Error },

    #[error("{} is not what a bundle says of itself: pack it again", path.display())]
    NoBundle { path: PathBuf },

    #[error("there is no {} on this machine: {remedy}", libraries.join(", "))]
    NoLibraries { libraries: Vec<String>, remedy: &'static str },

    #[error("{} of {of} programs failed: {}", failed.len(), failed.join(", "))]
    Programs { failed: Vec<String>, of: usize },

    #[error("{}", lacks.join("; "))]
    Packages { lacks: Vec<String> },

    #[error("cannot read {}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    #[error("cannot read {}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },

    #[error("cannot draw a picture")]
    Picture { source: Box<dyn std::error::Error + Send + Sync> },

    #[error(
        "{name} takes {got} instructions per task, {stored} are stored: where that is wanted, run \
         `cargo xtask bench --store`"
    )]
    Counts { name: String, got: u64, stored: u64 },

    #[error("run {number} of {runs} failed after {} passed", number - 1)]
    Run { number: u32, runs: u32, source: Box<Error> },

    #[error("{failed} of {steps} steps failed")]
    Failed { failed: usize, steps: usize },

    #[error("{skipped} of {steps} steps were skipped, and --strict allows none")]
    Skipped { skipped: usize, steps: usize },
}

impl Error {
    /// The error and what caused it, each once, on one line.
    pub(crate) fn told(&self) -> String {
        let chain = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// Whether something is missing that this machine cannot get, as opposed to something that went wrong.
    pub(crate) fn is_lack(&self) -> bool {
        matches!(
            self,
            Self::Libtorch { .. }
                | Self::NoLibtorch { .. }
                | Self::OnnxRuntime { .. }
                | Self::NoOnnxRuntime { .. }
        )
    }

    /// An I/O error, with what was done to which file: `map_err(Error::file("read", path))`.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let missing = Error::file("read", Path::new("x"))(io::ErrorKind::NotFound.into());
        let model = Error::Model { source: Box::new(missing), remedy: "do this".to_owned() };
        assert_eq!(model.told(), "cannot get the model (do this): cannot read x: entity not found");
    }
}
