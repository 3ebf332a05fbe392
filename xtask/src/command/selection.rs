//! Arguments that several subcommands have.

use crate::combination::choice::{self, Choice};
use crate::combination::table::{self, Backend, Combination, Device};
use clap::Args;

/// Which combinations, and what a skipped one means.
#[derive(Args, Debug)]
pub(crate) struct Selection {
    /// candle, tch, ort or all
    #[arg(long, default_value = "all", value_parser = choice::choice::<Backend>)]
    backend: Choice<Backend>,
    /// cpu, cuda, metal or all
    #[arg(long, default_value = "all", value_parser = choice::choice::<Device>)]
    device: Choice<Device>,
    /// Fail when a step is skipped
    #[arg(long)]
    pub(crate) strict: bool,
}

impl Selection {
    /// The chosen part of the table.
    pub(crate) fn combinations(&self) -> Vec<&'static Combination> {
        table::select(self.backend, self.device)
    }
}

/// How thoroughly benchmarks measure.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Quick {
    /// Criterion's quick mode: seconds instead of minutes, and a rougher result
    #[arg(long)]
    pub(crate) quick: bool,
}
