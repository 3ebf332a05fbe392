//! `cargo xtask soak`: an example program of `skep-tests`, built in release and run in this program's place; with `--server`, the
//! server in release under all that its clients do.

use crate::combination::cargo::example;
use crate::combination::table::Backend;
use crate::command::server;
use crate::error::Error;
use crate::fetch::environment::{TRITON_AND_TEXTS, environment};
use crate::machine::process::{replace, root, target};
use clap::Args;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Soak {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Minutes of the server's soak unless it is told otherwise.
const MINUTES: &str = "10";

impl Soak {
    /// Builds the soak and runs it; its exit code is ours.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        match &*self.arguments {
            [first] if first == "--server" => soak_server(MINUTES.into()),
            [first, name, minutes] if first == "--server" && name == "--minutes" => {
                soak_server(minutes.clone())
            }
            [first, ..] if first == "--server" => {
                Err(Error::Usage("the server's soak takes `--minutes N` and nothing more".to_owned()))
            }
            // It runs on the fake device.
            arguments => replace(Command::new(example("soak", None)?).args(arguments)),
        }
    }
}

fn soak_server(minutes: OsString) -> Result<ExitCode, Error> {
    let target = target()?;
    let python = environment(&TRITON_AND_TEXTS, &target).map_err(Error::Usage)?;
    let program = server::build(Backend::Candle)?;
    let fixtures = root().join("tests").join("data").join("models").join("fixtures");
    let file = root().join("server").join("tests").join("clients").join("soak.py");
    let mut command = Command::new(python);
    command.arg("-B").arg(file).arg(program).arg(fixtures).arg(target.join("server-soak")).arg(minutes);
    replace(&mut command)
}
