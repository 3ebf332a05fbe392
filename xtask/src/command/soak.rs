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
            [first, rest @ ..] if first == "--server" => {
                let (steady, rest): (Vec<_>, Vec<_>) = rest.iter().partition(|one| *one == "--steady");
                let minutes = match rest[..] {
                    [] => MINUTES.into(),
                    [name, minutes] if name == "--minutes" => minutes.clone(),
                    _ => {
                        let told = "the server's soak takes `--minutes N` and `--steady`, and nothing more";
                        return Err(Error::Usage(told.to_owned()));
                    }
                };
                soak_server(minutes, !steady.is_empty())
            }
            // It runs on the fake device.
            arguments => replace(Command::new(example("soak", None)?).args(arguments)),
        }
    }
}

fn soak_server(minutes: OsString, steady: bool) -> Result<ExitCode, Error> {
    let target = target()?;
    let python = environment(&TRITON_AND_TEXTS, &target).map_err(Error::Usage)?;
    let program = server::build(Backend::Candle)?;
    let fixtures = root().join("tests").join("data").join("models").join("fixtures");
    let file = root().join("server").join("tests").join("clients").join("soak.py");
    let mut command = Command::new(python);
    command.arg("-B").arg(file).arg(program).arg(fixtures).arg(target.join("server-soak")).arg(minutes);
    command.args(steady.then_some("steady"));
    replace(&mut command)
}
