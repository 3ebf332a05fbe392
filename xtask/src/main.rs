//! One command line for everything that is done to this workspace, the same for a person and for CI.
//!
//! ```text
//! cargo xtask demo            # learn digits with a mixture of experts
//! cargo xtask test            # everything that this machine can test
//! cargo xtask ci              # lint, doc, some interleavings and test, as CI does
//! ```
//!
//! Most steps run once per combination of backend and device. [`combination::table`] is the one table of
//! combinations; those that cannot run here are skipped, and the [summary](report::summary) says why.

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod benchmark;
mod bundle;
mod combination;
mod command;
mod demos;
mod error;
mod fetch;
mod machine;
mod matrix;
mod release;
mod report;

use clap::Parser;
use command::CommandLine;
use std::process::ExitCode;

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error.told());
            ExitCode::FAILURE
        }
    }
}
