//! The program of `tests/compare`, which is a workspace of its own: who builds Skep does not build what it is
//! compared with.

use crate::error::Error;
use crate::machine::process::{cargo, root, run};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Builds it, optimised, and returns its path.
pub(crate) fn build(target: &Path, features: &[impl AsRef<OsStr>]) -> Result<PathBuf, Error> {
    let manifest = root().join("tests").join("compare").join("Cargo.toml");
    let mut command = cargo("build");
    command.args(["--release", "--locked", "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(target).args(features);
    run(&mut command)?;
    Ok(target.join("release").join("skep-compare").with_extension(env::consts::EXE_EXTENSION))
}
