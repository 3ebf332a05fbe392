//! Starts, loads, harms and stops runtimes for some minutes, and prints what was lost.
//!
//! ```text
//! cargo xtask soak --minutes 10
//! ```
//!
//! Exit code 0 when nothing was lost, doubled, mixed up, late, counted differently or left; else 1, and the
//! seed that the last line names repeats what was done, if not when.
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

#[path = "../../tests/many_pools/unsafe_counting.rs"]
mod unsafe_counting;

use clap::Parser;
use skep_runtime_core::testing::FakeDevice;
use skep_tests::Subject;
use skep_tests::soak::Soak;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use unsafe_counting::allocated;

/// Between two lines that tell how far the run is.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Runs runtimes with random load and faults, and checks every answer
#[derive(Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How long; at least one runtime is run to its end
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// What is done and what goes wrong; drawn where it is not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads that hand tasks in
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: u32,
    /// How likely each fault is, each time that it could happen
    #[arg(long, value_name = "P", default_value_t = 0.01, value_parser = rate)]
    fault_rate: f64,
}

/// A number from 0 to 100,000, which is more than two months.
fn minutes(text: &str) -> Result<f64, String> {
    in_range(text, 100_000.0)
}

fn rate(text: &str) -> Result<f64, String> {
    in_range(text, 0.1)
}

fn in_range(text: &str, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 0 to {most}")),
    }
}

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
