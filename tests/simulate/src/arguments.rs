//! The command line.

use crate::device::Cost;
use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Runs workloads by Skep's policies and by the rules of others, on a virtual clock.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
pub(crate) struct Arguments {
    /// What to run; all of it unless given
    pub(crate) contests: Vec<Contest>,
    /// A workload to run instead of those that are built in: a JSON object a line, `{"at_ms": 12.5, "model": 0, "flow": 1,
    /// "priority": 0, "elements": 16, "objective_ms": 100}`, of which all but the time may be left out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["contests", "seed", "seconds", "workload"])]
    pub(crate) file: Option<PathBuf>,
    /// What batches of that workload cost: constant, linear, mixed, minilm-candle, minilm-tch, ffn-candle or ffn-tch
    #[arg(long, value_name = "CURVE", default_value = "mixed", value_parser = cost, requires = "file")]
    pub(crate) cost: Cost,
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

fn cost(name: &str) -> Result<Cost, String> {
    let known = || Cost::ALL.map(|cost| cost.name).join(", ");
    Cost::ALL.into_iter().find(|cost| cost.name == name).ok_or_else(|| format!("expected one of {}", known()))
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
    /// Short texts beside long ones, of callers who wait for their answers: what do the short ones keep?
    Beside,
    /// Several devices, to which tasks go in turn
    Devices,
}
