//! The arguments.

use crate::combos::{self, Backend, Choice, Combination, Device};
use crate::compare::CompareOptions;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZeroU32;

/// Builds, tests, benchmarks and demonstrates Skep.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Builds a demo in release and runs it: `digits` (the default) or `embed`
    ///
    /// `--backend` (candle) and `--device` (cpu) choose the combination. Every other argument, and the exit
    /// code, is the demo's own: see `cargo xtask demo digits --help` and `cargo xtask demo embed --help`.
    /// `embed` gets the model by package where no `--model-dir` is given.
    #[command(
        override_usage = "cargo xtask demo [digits|embed] [--backend BACKEND] [--device DEVICE] [ARGUMENTS]..."
    )]
    Demo {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Builds everything, tests and benchmarks included, without running it
    Build {
        #[command(flatten)]
        selection: Selection,
        /// Build optimised
        #[arg(long)]
        release: bool,
    },
    /// Runs all tests: unit, integration and documentation
    Test {
        #[command(flatten)]
        selection: Selection,
        /// Run the suite this many times without rebuilding, up to the first failure
        #[arg(long, value_name = "N", default_value = "1")]
        repeat: NonZeroU32,
    },
    /// Runs the benchmarks and prints one table of them all
    Bench {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        quick: Quick,
        /// Instead, count the instructions of a round trip and of a choice of pool with callgrind, and fail
        /// where they differ from the stored ones by more than 5 %
        #[arg(long, conflicts_with_all = ["quick", "filter"])]
        check: bool,
        /// Count, and store the counts
        #[arg(long, conflicts_with_all = ["quick", "filter", "check"])]
        store: bool,
        /// Only benchmarks whose name matches this regular expression
        filter: Option<String>,
    },
    /// Runs Skep beside other systems, in one run: one table, one picture, rows of JSON
    Compare {
        #[command(flatten)]
        options: CompareOptions,
    },
    /// Builds, tests and benchmarks each combination; one table, as text, JSON and a plot
    ///
    /// The files are `matrix.json` and `matrix.svg` in the folder `matrix` of the target folder.
    Matrix {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        quick: Quick,
    },
    /// Packs tests, benchmarks and demos into one archive each, which runs on a machine without Rust
    ///
    /// Building for a GPU takes none. What libtorch and CUDA's large libraries do, those of the other machine do.
    Bundle {
        #[command(flatten)]
        selection: Selection,
    },
    /// What the script of a bundle starts
    #[command(hide = true, disable_help_flag = true)]
    Packed {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Checks format, lints and dependencies
    Lint {
        #[command(flatten)]
        selection: Selection,
    },
    /// Builds the documentation; a warning is an error
    Doc {
        #[command(flatten)]
        selection: Selection,
    },
    /// What CI runs: lint, doc, test and some interleavings
    Ci {
        #[command(flatten)]
        selection: Selection,
    },
    /// Runs small programs under every interleaving of their threads that can be reached
    Explore {
        /// Schedules, over all programs
        #[arg(long, value_name = "N", default_value = "1000000")]
        schedules: NonZeroU32,
        /// Instead, run the tests under valgrind's memcheck
        #[arg(long, conflicts_with = "schedules")]
        valgrind: bool,
    },
    /// Starts, loads, harms and stops runtimes for some minutes, and checks that nothing is lost
    ///
    /// Every argument, and the exit code, is the soak's own: see `cargo xtask soak --help`.
    #[command(
        disable_help_flag = true,
        override_usage = "cargo xtask soak [--minutes N] [--seed N] [ARGUMENTS]..."
    )]
    Soak {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Gets the sentence model that the embedding demo and test use, and prints its folder
    Model,
    /// Gets libtorch for the processor, with which backend tch is built, and prints its folder
    ///
    /// Where `LIBTORCH` names one, that one is used. Steps of backend tch do this by themselves.
    Libtorch {
        /// Take the libtorch of this Python's `torch` package, with CUDA where it has it
        #[arg(long, value_name = "PYTHON", num_args = 0..=1, default_missing_value = "python3")]
        from_python: Option<OsString>,
    },
    /// Gets the compiler with which candle is built for CUDA, and prints its folder
    ///
    /// Where CUDA is installed (`CUDA_HOME`, `CUDA_PATH`, or nvcc on `PATH`), that one is used. Building takes no
    /// GPU; for which one to build, `CUDA_COMPUTE_CAP` says: the machine's own unless given, or else 90.
    CudaToolkit,
}

/// Tests, benchmarks and demonstrates the Skep that is packed here.
#[derive(Debug, Parser)]
#[command(name = "run", bin_name = "./run", no_binary_name = true)]
#[command(
    after_help = "Exit code: 0 when all went well, 1 when something failed, 2 when the arguments are wrong, \
                        3 when this machine cannot run the bundle at all (no GPU, or libraries are missing)"
)]
pub(crate) struct Packed {
    #[command(subcommand)]
    pub(crate) task: PackedTask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PackedTask {
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

/// How thoroughly benchmarks measure.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Quick {
    /// Criterion's quick mode: seconds instead of minutes, and a rougher result
    #[arg(long)]
    pub(crate) quick: bool,
}

/// Which combinations, and what a skipped one means.
#[derive(Args, Debug)]
pub(crate) struct Selection {
    /// candle, tch or all
    #[arg(long, default_value = "all", value_parser = combos::choice::<Backend>)]
    backend: Choice<Backend>,
    /// cpu, cuda, metal or all
    #[arg(long, default_value = "all", value_parser = combos::choice::<Device>)]
    device: Choice<Device>,
    /// Fail when a step is skipped
    #[arg(long)]
    pub(crate) strict: bool,
}

impl Selection {
    /// The chosen part of the table.
    pub(crate) fn combinations(&self) -> Vec<&'static Combination> {
        combos::select(self.backend, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn selection(arguments: &[&str]) -> Selection {
        match Cli::try_parse_from([&["xtask", "doc"], arguments].concat()).unwrap().task {
            Task::Doc { selection } => selection,
            other => panic!("{other:?}"),
        }
    }

    fn error(arguments: &[&str]) -> String {
        Cli::try_parse_from([&["xtask"], arguments].concat()).unwrap_err().to_string()
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
        Packed::command().debug_assert();
    }

    #[test]
    fn a_bundle_has_arguments_of_its_own() {
        let task = |arguments: &[&str]| Packed::try_parse_from(arguments).unwrap().task;
        assert!(matches!(task(&["bench", "--quick", "ffn"]), PackedTask::Bench { filter: Some(_), .. }));
        assert!(matches!(task(&["all", "--strict"]), PackedTask::All { strict: true, .. }));
        let PackedTask::Demo { arguments } = task(&["demo", "embed", "--json", "--help"]) else { panic!() };
        assert_eq!(arguments, ["embed", "--json", "--help"]);
        assert!(Packed::try_parse_from(["tset"]).unwrap_err().to_string().contains("test"));
    }

    #[test]
    fn everything_is_selected_by_default() {
        let selection = selection(&[]);
        assert_eq!(selection.combinations().len(), combos::COMBINATIONS.len());
        assert!(!selection.strict);
    }

    #[test]
    fn one_combination_can_be_selected() {
        let selection = selection(&["--backend", "candle", "--device=cpu", "--strict"]);
        let names: Vec<_> = selection.combinations().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["candle cpu"]);
        assert!(selection.strict);
    }

    #[test]
    fn errors_list_what_is_possible() {
        assert!(error(&["test", "--backend", "torch"]).contains("not one of candle, tch, all"));
        assert!(error(&["test", "--device", "gpu"]).contains("not one of cpu, cuda, metal, all"));
        assert!(error(&["test", "--repeat", "0"]).contains("--repeat <N>"));
        assert!(error(&["explore", "--schedules", "0"]).contains("--schedules <N>"));
        assert!(error(&["explore", "--schedules", "9", "--valgrind"]).contains("cannot be used with"));
        assert!(error(&["tset"]).contains("test"));
    }

    #[test]
    fn a_demo_keeps_its_arguments() {
        let cli = Cli::try_parse_from(["xtask", "demo", "--json", "--help", "--backend", "tch"]).unwrap();
        let Task::Demo { arguments } = cli.task else { panic!("{cli:?}") };
        assert_eq!(arguments, ["--json", "--help", "--backend", "tch"]);
        let cli = Cli::try_parse_from(["xtask", "packed", "--help"]).unwrap();
        let Task::Packed { arguments } = cli.task else { panic!("{cli:?}") };
        assert_eq!(arguments, ["--help"]);
    }
}
