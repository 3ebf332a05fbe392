//! `cargo xtask soak`: an example program of `skep-tests`, built in release and run in this program's place.

use crate::combination::cargo::example;
use crate::error::Error;
use crate::machine::process::replace;
use clap::Args;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Soak {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Soak {
    /// Builds the soak and runs it; its exit code is ours.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        // It runs on the fake device.
        let program = example("soak", None)?;
        replace(Command::new(program).args(self.arguments))
    }
}
