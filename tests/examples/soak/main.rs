//! Starts, loads, harms and stops runtimes for some minutes, and prints what was lost.
//!
//! ```text
//! cargo xtask soak --minutes 10
//! ```
//!
//! Exit code 0 when nothing was lost, doubled, mixed up, late, counted differently or left; else 1, and the
//! seed that the last line names repeats what was done, if not when.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

mod arguments;
#[path = "../../tests/many_pools/unsafe_counting.rs"]
mod unsafe_counting;

use arguments::Arguments;
use clap::Parser;
use skep_runtime_core::testing::FakeDevice;
use skep_tests::Subject;
use skep_tests::soak::Soak;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use unsafe_counting::allocated;

/// Between two lines that tell how far the run is.
const LINE_EVERY: Duration = Duration::from_secs(30);

struct Fake;

impl Subject for Fake {
    type Device = FakeDevice;

    fn device() -> FakeDevice {
        FakeDevice::new()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { callers, fault_rate, .. } = arguments;
    let soak =
        Soak { seed: arguments.seed.unwrap_or_else(rand::random), callers, tasks_each: 1000, fault_rate };
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(60.0 * arguments.minutes));
    let mut next_line = LINE_EVERY;
    let report = soak.run::<Fake>(allocated, |report| {
        if start.elapsed() >= next_line {
            next_line += LINE_EVERY;
            let clean = if report.is_clean() { "clean" } else { "NOT clean" };
            eprintln!(
                "{:>5} s: {} runtimes, {} tasks, {clean}",
                start.elapsed().as_secs(),
                report.lives,
                report.submitted
            );
        }
        report.is_clean() && start.elapsed() < limit
    });
    print!("{report}");
    println!(
        "in {:.1} min, faults at {fault_rate} each, seed {}",
        start.elapsed().as_secs_f64() / 60.0,
        soak.seed
    );
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
