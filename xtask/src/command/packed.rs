//! `./run` of a bundle: `test`, `bench` and `demo` on a machine without cargo.

use crate::bundle::manifest::Manifest;
use crate::bundle::unpacked::Bundle;
use crate::combination::table::Device;
use crate::command::selection::Quick;
use crate::error::Error;
use crate::machine::gpu;
use crate::machine::process::{replace, run};
use crate::report::summary::Summary;
use clap::{Args, Parser, Subcommand};
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The exit code where this machine cannot run the bundle at all.
const NOT_HERE: u8 = 3;

#[derive(Args, Debug)]
pub(crate) struct Packed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// Tests, benchmarks and demonstrates the Skep that is packed here.
#[derive(Debug, Parser)]
#[command(name = "run", bin_name = "./run", no_binary_name = true)]
#[command(
    after_help = "Exit code: 0 when all went well, 1 when something failed, 2 when the arguments are wrong, \
                        3 when this machine cannot run the bundle at all (no GPU, or libraries are missing)"
)]
pub(crate) struct Run {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Runs all tests
    Test {
        /// Fail when a step is skipped
        #[arg(long)]
        strict: bool,
    },
    /// Runs a demo: `digits` (the default) or `embed`
    ///
    /// Every other argument, and the exit code, is the demo's own. `embed` gets the model with pip where no
    /// `--model-dir` is given.
    #[command(override_usage = "./run demo [digits|embed] [ARGUMENTS]...")]
    Demo {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs the benchmarks and prints one table of them all
    Bench {
        #[command(flatten)]
        quick: Quick,
        /// Only benchmarks whose name matches this regular expression
        filter: Option<String>,
    },
    /// Runs the tests, the benchmarks and the first demo
    All {
        #[command(flatten)]
        quick: Quick,
        /// Fail when a step is skipped
        #[arg(long)]
        strict: bool,
    },
}

impl Packed {
    /// Does what the arguments ask for with the bundle that this program is part of.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        let task = Run::parse_from(self.arguments).task;
        let program = env::current_exe().map_err(Error::file("find", Path::new("run")))?;
        let folder = program.ancestors().nth(2).unwrap_or(&program).to_owned();
        let manifest = Manifest::read(&folder)?;
        println!("{}: {}", manifest.combination, manifest.origin);
        let bundle = match Bundle::open(folder, manifest) {
            Ok(bundle) => bundle,
            Err((manifest, lack)) => return Ok(not_here(&manifest, &task, &lack)),
        };
        let combination = bundle.manifest.combination;
        if combination.device == Device::Cuda {
            for gpu in gpu::names() {
                println!("{gpu}");
            }
        }
        let mut summary = Summary::default();
        match task {
            Task::Demo { arguments } => replace(&mut bundle.demo(arguments)?),
            Task::Test { strict } => {
                bundle.test(&mut summary);
                summary.end(strict)
            }
            Task::Bench { quick, filter } => {
                bundle.bench(quick.quick, filter.as_deref(), &mut summary)?;
                summary.end(false)
            }
            Task::All { quick, strict } => {
                bundle.test(&mut summary);
                bundle.bench(quick.quick, None, &mut summary)?;
                summary.run(combination, "demo", || run(&mut bundle.demo(Vec::new())?));
                summary.end(strict)
            }
        }
    }
}

/// Nothing of the task can run, and the table says so.
fn not_here(manifest: &Manifest, task: &Task, lack: &str) -> ExitCode {
    let steps: &[&str] = match task {
        Task::Test { .. } => &["test"],
        Task::Demo { .. } => &["demo"],
        Task::Bench { .. } => &["bench"],
        Task::All { .. } => &["test", "bench", "demo"],
    };
    let mut summary = Summary::default();
    for step in steps {
        summary.skip(manifest.combination, step, lack);
    }
    print!("\n{summary}");
    ExitCode::from(NOT_HERE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Run::command().debug_assert();
    }

    #[test]
    fn a_bundle_has_arguments_of_its_own() {
        let task = |arguments: &[&str]| Run::try_parse_from(arguments).unwrap().task;
        assert!(matches!(task(&["bench", "--quick", "ffn"]), Task::Bench { filter: Some(_), .. }));
        assert!(matches!(task(&["all", "--strict"]), Task::All { strict: true, .. }));
        let Task::Demo { arguments } = task(&["demo", "embed", "--json", "--help"]) else { panic!() };
        assert_eq!(arguments, ["embed", "--json", "--help"]);
        assert!(Run::try_parse_from(["tset"]).unwrap_err().to_string().contains("test"));
    }
}
