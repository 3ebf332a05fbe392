//! `cargo xtask simulate`: the program of `tests/simulate`, built in release and run in this program's place.

use crate::error::Error;
use crate::machine::process::{cargo, replace, run, target};
use clap::Args;
use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Simulate {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Simulate {
    /// Builds the simulator and runs it; its exit code is ours.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        run(cargo("build").args(["--release", "--package", "skep-simulate"]))?;
        let program =
            target()?.join("release").join("skep-simulate").with_extension(env::consts::EXE_EXTENSION);
        replace(Command::new(program).args(self.arguments))
    }
}
