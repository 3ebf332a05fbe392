//! Skep's order of work on a virtual clock: the real pools, policies and cuts, beside the rules of others, under the
//! same workloads. `cargo xtask simulate -- --help` says what can be asked for.
//!
//! The same seed gives the same bytes.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

mod arguments;
mod contests;
mod device;
mod file;
mod picture;
mod random;
mod result;
mod rules;
mod task;
mod workload;
mod world;

use crate::arguments::Arguments;
use clap::Parser;
use std::error::Error;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let rows = contests::run(&arguments)?;
    if arguments.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        println!("{}", contests::table(&rows));
    }
    if let Some(file) = &arguments.svg {
        picture::draw(&rows, file)?;
    }
    Ok(())
}
