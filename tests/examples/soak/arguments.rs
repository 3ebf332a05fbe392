//! The command line.

use clap::Parser;

/// Runs runtimes with random load and faults, and checks every answer
#[derive(Parser)]
#[command(name = "soak")]
pub(crate) struct Arguments {
    /// How long; at least one runtime is run to its end
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = minutes)]
    pub(crate) minutes: f64,
    /// What is done and what goes wrong; drawn where it is not given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Threads that hand tasks in
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) callers: u32,
    /// How likely each fault is, each time that it could happen
    #[arg(long, value_name = "P", default_value_t = 0.01, value_parser = rate)]
    pub(crate) fault_rate: f64,
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
