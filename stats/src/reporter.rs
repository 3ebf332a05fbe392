//! Log lines at an interval, about the runtime's work since those before.

use crate::collector::Stats;

use crate::report::{PoolReport, Report};
use crate::snapshot::Snapshot;
use skep_runtime_core::sync::every::Every;
use std::io;
use std::time::Duration;

/// Logs a [`Report`] through `tracing`, at level info, once per interval: one event for the device and one
/// for each pool that had something to do. Stops when it is dropped.
///
/// ```
/// # use skep_stats::{Reporter, Stats};
/// # use std::time::Duration;
/// let stats = Stats::new();
/// let _reporter = Reporter::start(stats.clone(), Duration::from_secs(10))?;
/// # std::io::Result::Ok(())
/// ```
#[must_use = "dropping the reporter stops it"]
#[derive(Debug)]
pub struct Reporter {
    _thread: Every,
}

impl Reporter {
    /// Starts the thread `skep-stats`, which logs every `interval`, the first time one interval from now.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the interval is zero, and the
    /// system's own error if it cannot start a thread.
    pub fn start(stats: Stats, interval: Duration) -> io::Result<Self> {
        let mut intervals = Intervals::new(stats);
        let thread = Every::start("skep-stats", interval, move || log(&intervals.next_report()))?;
        Ok(Self { _thread: thread })
    }
}

/// Cuts the life of a runtime into intervals.
struct Intervals {
    stats: Stats,
    last: Snapshot,
}

impl Intervals {
    fn new(stats: Stats) -> Self {
        let last = stats.snapshot();
        Self { stats, last }
    }

    fn next_report(&mut self) -> Report {
        let now = self.stats.snapshot();
        let report = now.since(&self.last);
        self.last = now;
        report
    }
}

fn log(report: &Report) {
    tracing::info!(batches = report.batches, elapsed_s = report.elapsed.as_secs_f64(), "device report");
    report.pools.iter().for_each(log_pool);
}

fn log_pool(pool: &PoolReport) {
    tracing::info!(
        pool = pool.name,
        batches = pool.batches,
        batches_per_s = pool.batches_per_s,
        rows = pool.rows,
        rows_per_s = pool.rows_per_s,
        mean_batch_rows = pool.mean_batch_rows,
        processing_s = pool.processing.as_secs_f64(),
        mean_queue_wait_s = pool.mean_queue_wait.as_secs_f64(),
        failed_batches = pool.failed_batches,
        succeeded = pool.succeeded,
        failed = pool.failed,
        cancelled = pool.cancelled,
        expired = pool.expired,
        evicted = pool.evicted,
        refused = pool.refused,
        waiting = pool.waiting,
        "pool report"
    );
}

#[cfg(test)]
mod tests;
