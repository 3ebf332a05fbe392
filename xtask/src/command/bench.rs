//! `cargo xtask bench`: the benchmarks' times in one table, or the instructions of a task beside the stored ones.

use crate::benchmark::results::Results;
use crate::benchmark::{door, growth, history, instructions, measure};
use crate::combination::table::Backend;
use crate::command::selection::{Quick, Selection};
use crate::command::server;
use crate::error::Error;
use crate::machine::process::target;
use crate::report::summary::{Summary, WORKSPACE};
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    quick: Quick,
    /// Instead, count the instructions of a round trip and of a choice of pool with callgrind, and fail
    /// where they differ from the stored ones by more than 5 %
    #[arg(long, conflicts_with_all = ["quick", "filter"])]
    check: bool,
    /// Count, store the counts, and draw their history
    #[arg(long, conflicts_with_all = ["quick", "filter", "check"])]
    store: bool,
    /// Instead, draw how the stored counts went, as far as git knows: docs/benchmarks/instructions.svg
    #[arg(long, conflicts_with_all = ["quick", "filter", "check", "store"])]
    history: bool,
    /// Only benchmarks whose name matches this regular expression; `growth` prints how the cost of one operation grows
    /// with what waits, `door` runs the server's null model beside Triton, mosec and `LitServe`
    filter: Option<String>,
    #[command(flatten)]
    door: Door,
}

/// How `door` is measured.
#[derive(Args, Debug)]
struct Door {
    /// With `door`, leave the other servers out
    #[arg(long, requires = "filter")]
    alone: bool,
    /// With `door`, how often each is measured
    #[arg(long, requires = "filter", default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// With `door`, how long each time
    #[arg(long, requires = "filter", default_value_t = 5.0)]
    seconds: f64,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        if self.check || self.store {
            instructions::check(self.store, &mut summary);
        } else if self.filter.as_deref() == Some("growth") {
            summary.run(WORKSPACE, "growth", growth::measure);
        } else if self.filter.as_deref() == Some("door") {
            summary.run(WORKSPACE, "door", || {
                let Door { alone, rounds, seconds } = self.door;
                door::measure(&server::build(Backend::Candle)?, alone, rounds, seconds)
            });
        } else if !self.history {
            self.measure(&mut summary)?;
        }
        // A count that is stored belongs into the picture.
        if self.store || self.history {
            summary.run(WORKSPACE, "history", history::draw);
        }
        summary.end(self.selection.strict)
    }

    fn measure(&self, summary: &mut Summary) -> Result<(), Error> {
        let mut results = Results::default();
        for combination in self.selection.combinations() {
            // The glob leaves out the libraries, whose unit tests would not understand criterion's arguments.
            let estimates =
                measure::measure(combination, "*", self.quick.quick, self.filter.as_deref(), summary)?;
            if let Some(estimates) = estimates {
                results.add(combination, &estimates, &measure::folder(&target()?, combination));
            }
        }
        print!("{results}");
        Ok(())
    }
}
