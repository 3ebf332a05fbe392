//! What one can ask for, one file for each subcommand: its arguments, and what it does.

mod balancers;
mod bench;
mod build;
mod bundle;
mod ci;
mod clients;
mod compare;
mod cuda_toolkit;
mod demo;
mod doc;
mod explore;
mod libtorch;
mod lint;
mod matrix;
mod model;
mod onnxruntime;
mod packed;
mod release_check;
mod selection;
mod serve;
mod server;
mod simulate;
mod soak;
mod test;
#[cfg(test)]
mod tests;

use crate::error::Error;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Builds, tests, benchmarks and demonstrates Skep.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds a demo in release and runs it: `digits` (the default) or `embed`
    ///
    /// `--backend` (candle) and `--device` (cpu) choose the combination. Every other argument, and the exit
    /// code, is the demo's own: see `cargo xtask demo digits --help` and `cargo xtask demo embed --help`.
    /// `embed` gets the model by package where no `--model-dir` is given.
    #[command(
        override_usage = "cargo xtask demo [digits|embed] [--backend BACKEND] [--device DEVICE] [ARGUMENTS]..."
    )]
    Demo(demo::Demo),
    /// Builds the server in release and starts it with a sentence model and a classifier of digits
    ///
    /// Gets the model by package, and prints three `curl` lines that work once it is ready. Every other argument is the
    /// server's own: see `cargo xtask serve -- --help`.
    Serve(serve::Serve),
    /// Builds everything, tests and benchmarks included, without running it
    Build(build::Build),
    /// Runs all tests: unit, integration and documentation
    Test(test::Test),
    /// Runs the benchmarks and prints one table of them all
    Bench(bench::Bench),
    /// Runs Skep beside other systems, in one run: one table, one picture, rows of JSON
    Compare(compare::Compare),
    /// Builds, tests and benchmarks each combination; one table, as text, JSON and a plot
    ///
    /// The files are `matrix.json` and `matrix.svg` in the folder `matrix` of the target folder.
    Matrix(matrix::Matrix),
    /// Packs tests, benchmarks and demos into one archive each, which runs on a machine without Rust
    ///
    /// Building for a GPU takes none. What libtorch and CUDA's large libraries do, those of the other machine do.
    Bundle(bundle::Bundle),
    /// What the script of a bundle starts
    #[command(hide = true, disable_help_flag = true)]
    Packed(packed::Packed),
    /// Checks format, lints and dependencies
    Lint(lint::Lint),
    /// Builds the documentation; a warning is an error
    Doc(doc::Doc),
    /// What CI runs: lint, doc, some interleavings and test
    Ci(ci::Ci),
    /// Runs small programs under every interleaving of their threads that can be reached
    Explore(explore::Explore),
    /// Starts, loads, harms and stops runtimes for some minutes, and checks that nothing is lost
    ///
    /// Every argument, and the exit code, is the soak's own: see `cargo xtask soak --help`. `--server` (and `--minutes N`) does so
    /// with the server, its clients, loads, unloads and restarts.
    #[command(
        disable_help_flag = true,
        override_usage = "cargo xtask soak [--minutes N] [--seed N] [ARGUMENTS]..."
    )]
    Soak(soak::Soak),
    /// Runs workloads by Skep's policies and by the rules of others, on a virtual clock
    ///
    /// Every argument, and the exit code, is the simulator's own: see `cargo xtask simulate --help`.
    #[command(
        disable_help_flag = true,
        override_usage = "cargo xtask simulate [CONTESTS]... [--json] [--svg FILE] [--seed N] [ARGUMENTS]..."
    )]
    Simulate(simulate::Simulate),
    /// Checks what a release promises: what is packed, what it needs, and what has changed since the last one
    ReleaseCheck(release_check::ReleaseCheck),
    /// Gets the sentence model that the embedding demo and test use, and prints its folder
    Model,
    /// Gets libtorch for the processor, with which backend tch is built, and prints its folder
    ///
    /// Where `LIBTORCH` names one, that one is used. Steps of backend tch do this by themselves.
    Libtorch(libtorch::Libtorch),
    /// Gets ONNX Runtime for the processor, which backend ort loads, and prints the path of its library
    #[command(name = "onnxruntime")]
    OnnxRuntime,
    /// Gets the compiler with which candle is built for CUDA, and prints its folder
    ///
    /// Where CUDA is installed (`CUDA_HOME`, `CUDA_PATH`, or nvcc on `PATH`), that one is used. Building takes no
    /// GPU; for which one to build, `CUDA_COMPUTE_CAP` says: the machine's own unless given, or else 90.
    CudaToolkit,
}

impl CommandLine {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Demo(demo) => demo.run(),
            Command::Serve(serve) => serve.run(),
            Command::Build(build) => build.run(),
            Command::Test(test) => test.run(),
            Command::Bench(bench) => bench.run(),
            Command::Compare(compare) => compare.run(),
            Command::Matrix(matrix) => matrix.run(),
            Command::Bundle(bundle) => bundle.run(),
            Command::Packed(packed) => packed.run(),
            Command::Lint(lint) => lint.run(),
            Command::Doc(doc) => doc.run(),
            Command::Ci(ci) => ci.run(),
            Command::Explore(explore) => explore.run(),
            Command::Soak(soak) => soak.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::ReleaseCheck(check) => check.run(),
            Command::Model => model::run(),
            Command::Libtorch(libtorch) => libtorch.run(),
            Command::OnnxRuntime => onnxruntime::run(),
            Command::CudaToolkit => cuda_toolkit::run(),
        }
    }
}
