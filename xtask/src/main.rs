//! One command line for everything that is done to this workspace, the same for a person and for CI.
//!
//! ```text
//! cargo xtask demo            # learn digits with a mixture of experts
//! cargo xtask test            # everything that this machine can test
//! cargo xtask ci              # lint, doc, test and some interleavings, as CI does
//! ```
//!
//! Most steps run once per combination of backend and device. [`combos`] holds the one table of
//! combinations; those that cannot run here are skipped, and the [`summary`] says why.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod bench;
mod bundle;
mod chart;
mod cli;
mod combos;
mod compare;
mod counts;
mod cuda;
mod demo;
mod error;
mod estimates;
mod explore;
mod libraries;
mod libtorch;
mod manifest;
mod matrix;
mod model;
mod packed;
mod process;
mod soak;
mod steps;
mod stubs;
mod summary;
mod wheel;

use clap::Parser;
use cli::{Cli, Task};
use error::Error;
use std::num::NonZeroU32;
use std::process::ExitCode;
use summary::Summary;

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Error> {
    let mut summary = Summary::default();
    let selection = match task {
        Task::Demo { arguments } => return demo::run(arguments),
        Task::Packed { arguments } => return packed::run(arguments),
        Task::Explore { valgrind: true, .. } => {
            explore::memcheck()?;
            return Ok(ExitCode::SUCCESS);
        }
        Task::Explore { schedules, .. } => {
            explore::interleavings(schedules)?;
            return Ok(ExitCode::SUCCESS);
        }
        Task::Soak { arguments } => return soak::run(arguments),
        Task::Model => {
            println!("{}", model::folder()?.display());
            return Ok(ExitCode::SUCCESS);
        }
        Task::Libtorch { from_python } => {
            let folder = match from_python {
                Some(python) => libtorch::take_from_python(&python)?,
                None => libtorch::get()?,
            };
            println!("{}", folder.display());
            return Ok(ExitCode::SUCCESS);
        }
        Task::CudaToolkit => {
            println!("{}", cuda::get()?.home().display());
            return Ok(ExitCode::SUCCESS);
        }
        Task::Build { selection, release } => {
            steps::build(&selection.combinations(), release, &mut summary);
            selection
        }
        Task::Test { selection, repeat } => {
            steps::test(&selection.combinations(), repeat, &mut summary);
            selection
        }
        Task::Compare { options } => {
            compare::compare(&options)?;
            return Ok(ExitCode::SUCCESS);
        }
        Task::Bench { selection, check, store, .. } if check || store => {
            counts::check(store, &mut summary);
            selection
        }
        Task::Bench { selection, quick, filter, .. } => {
            bench::run_all(&selection.combinations(), quick.quick, filter.as_deref(), &mut summary)?;
            selection
        }
        Task::Matrix { selection, quick } => {
            matrix::run(&selection.combinations(), quick.quick, &mut summary)?;
            selection
        }
        Task::Bundle { selection } => {
            bundle::pack(&selection.combinations(), &mut summary)?;
            selection
        }
        Task::Lint { selection } => {
            steps::lint(&selection.combinations(), &mut summary);
            selection
        }
        Task::Doc { selection } => {
            steps::doc(&selection.combinations(), &mut summary);
            selection
        }
        Task::Ci { selection } => {
            let combinations = selection.combinations();
            steps::lint(&combinations, &mut summary);
            steps::doc(&combinations, &mut summary);
            steps::test(&combinations, NonZeroU32::MIN, &mut summary);
            steps::explore(&mut summary);
            selection
        }
    };
    print!("\n{summary}");
    summary.verdict(selection.strict)?;
    Ok(ExitCode::SUCCESS)
}
