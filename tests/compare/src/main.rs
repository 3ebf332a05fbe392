//! Skep beside what could be used instead of it, in one run.
//!
//! Every system runs the same block on the same tensors of the same callers, in short rounds that alternate
//! between the systems, so that whatever else the machine does hits all of them. What is reported is the
//! median of the rounds, and the median of each round's ratio to the baseline of that round.
//!
//! The device is the processor; there is nothing to synchronise.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod args;
mod backend;
mod budget;
mod classes;
mod come_and_go;
mod contest;
mod devices;
mod drive;
mod loss;
mod machine;
mod null;
mod order;
mod peer;
mod processor;
mod report;
mod row;
mod scenarios;
mod systems;
mod texts;
mod work;

use args::Args;
use clap::Parser;
use std::process::ExitCode;

/// What ends the comparison early.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The same for all systems: they pass small allocations from thread to thread all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Some(part) = &args.part {
        return budget::part(part);
    }
    if let Some(alone) = &args.alone {
        return processor::alone::run(alone);
    }
    let mut results = report::Results::default();
    for scenario in scenarios::all() {
        if !args.wants(scenario.name) {
            // Who names scenarios knows which others are not among them.
            if args.only.is_empty() {
                results.skip(scenario.name, "runs where it is named");
            }
            continue;
        }
        eprintln!("{}: {}", scenario.name, scenario.what);
        if let Err(reason) = (scenario.run)(args, &mut results) {
            return Err(format!("{}: {reason}", scenario.name).into());
        }
    }
    report::write(args, &results)
}
