//! Several systems at the same work, in alternating rounds.

use crate::Result;
use crate::args::Args;
use crate::drive::Round;
use crate::report::Results;
use crate::row::{Row, Sample};
use std::time::Duration;

pub(crate) struct Contest<'a> {
    workload: &'a str,
    outstanding: usize,
    entries: Vec<(String, usize, Round<'a>)>,
    /// Seconds that a row would take if nothing but arithmetic took time.
    limit: Option<f64>,
    kept: bool,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(workload: &'a str, outstanding: usize) -> Self {
        Self { workload, outstanding, entries: Vec::new(), limit: None, kept: false }
    }

    /// Has the share of the machine's arithmetic reported, of which a row takes so many seconds.
    pub(crate) fn with_limit(mut self, seconds: f64) -> Self {
        self.limit = Some(seconds);
        self
    }

    /// Has reported what is kept of the baseline's throughput.
    pub(crate) fn with_kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The first one to enter is the baseline.
    pub(crate) fn enter(&mut self, system: &str, round: Round<'a>) {
        self.enter_with(system, self.outstanding, round);
    }

    /// The same with another number of tasks outstanding than the others.
    pub(crate) fn enter_with(&mut self, system: &str, outstanding: usize, round: Round<'a>) {
        self.entries.push((system.to_owned(), outstanding, round));
    }

    /// Runs all rounds and files the medians. A first round of everybody does not count.
    pub(crate) fn run(mut self, args: &Args, time: Duration, results: &mut Results) -> Result<()> {
        if !args.outstanding.is_empty() && !args.outstanding.contains(&self.outstanding) {
            return Ok(());
        }
        self.entries.retain(|(system, ..)| args.systems.is_empty() || args.systems.contains(system));
        let mut samples: Vec<Vec<Sample>> = self.entries.iter().map(|_| Vec::new()).collect();
        for counts in std::iter::once(false).chain((0..args.rounds).map(|_| true)) {
            for ((system, _, round), samples) in self.entries.iter_mut().zip(&mut samples) {
                let sample = round(time).map_err(|error| format!("{system}: {error}"))?;
                if counts {
                    samples.push(sample);
                }
            }
        }
        if let (Some((name, ..)), Some(baseline)) = (self.entries.first(), samples.first()) {
            for ((system, outstanding, _), samples) in self.entries.iter().zip(&samples) {
                let row = Row::new((system, self.workload, *outstanding), samples, (name, baseline));
                results.push(row.with_limit(self.limit).with_kept(self.kept));
            }
        }
        Ok(())
    }
}
