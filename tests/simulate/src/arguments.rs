//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Runs workloads by Skep's policies and by the rules of others, on a virtual clock.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
pub(crate) struct Arguments {
    /// What to run; all of it unless given
    pub(crate) contests: Vec<Contest>,
    /// Prints one object a line instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Draws the goodput of each rule into this file
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
    /// The seed of all random numbers
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The seconds that each workload lasts
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Only workloads whose names contain this
    #[arg(long, default_value = "")]
    pub(crate) workload: String,
    /// Only rules whose names contain this
    #[arg(long, default_value = "")]
    pub(crate) rule: String,
}

/// A question that workloads and rules are run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contest {
    /// Answers within their objectives: ten workloads at 0.7, 1.0 and 1.3 of what the device can do
    Goodput,
    /// Callers who wait for their answers, on devices of ten cost curves: is it never worse to wait for company?
    ClosedLoop,
    /// Flows that always wait: is the device's time shared?
    Fairness,
    /// The lowest class under a saturated highest one: does it wait no longer than its bound?
    Aging,
    /// An urgent task before a full queue of others
    Riders,
    /// Several devices, to which tasks go in turn
    Devices,
}
