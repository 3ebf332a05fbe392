//! The command line.

use clap::Parser;

/// A mixture of experts learns handwritten digits, by remote-style training on one shared device
///
/// Ctrl-C ends the training early; a second one gives up what is still running. `SKEP_DEVICE` chooses the
/// device: cpu, cuda or metal.
#[derive(Parser)]
#[command(name = "digits", allow_negative_numbers = true)]
pub(crate) struct Arguments {
    /// Experts, of which two are asked about each image
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = at_most::<64>)]
    pub(crate) experts: usize,
    /// Width of an expert's hidden layer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = at_most::<8192>)]
    pub(crate) hidden: usize,
    /// Threads that train
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_most::<64>)]
    pub(crate) trainers: usize,
    /// Threads that classify held-out images meanwhile, at a higher priority
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_most::<64>)]
    pub(crate) callers: usize,
    /// How often each training image is learnt
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = at_most::<10_000>)]
    pub(crate) epochs: usize,
    /// First parameters and the order of the images
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = seed)]
    pub(crate) seed: u64,
    /// Print one JSON object on standard output, everything else on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// A whole number from 1 to `MOST`.
fn at_most<const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) if number <= MOST => Ok(number),
        _ => Err(format!("expected a whole number from 1 to {MOST}")),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}
