//! The soak: an example program of `skep-tests`, built in release and run in this program's place.

use crate::demo::{build, replace};
use crate::error::Error;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Builds the soak and runs it; its exit code is ours.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Error> {
    // It runs on the fake device.
    let program = build("soak", None)?;
    replace(Command::new(program).args(arguments))
}
