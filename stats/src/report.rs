//! The difference between two snapshots.
//!
//! Rates are per second of processing, that is of device time, because they are to say what a block can do; the
//! processing time beside the elapsed time says how busy it was. A rate is always a number per second, also
//! below one, and `None` if no time was measured.

use crate::snapshot::{PoolSnapshot, Snapshot, ratio};
use std::collections::HashMap;
use std::time::Duration;

/// The work of a runtime between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The time from the earlier snapshot to the later one.
    pub elapsed: Duration,
    /// Batches of all pools.
    pub batches: u64,
    /// The pools that had tasks waiting, running or answered in the interval.
    pub pools: Vec<PoolReport>,
}

/// The work of one pool between two snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PoolReport {
    /// The pool's name.
    pub name: String,
    /// Batches that ran, the failed ones included.
    pub batches: u64,
    /// Batches that failed.
    pub failed_batches: u64,
    /// Rows that ran.
    pub rows: u64,
    /// `rows / batches`; 0 without batches.
    pub mean_batch_rows: f64,
    /// The device time of the batches, until the device was done.
    pub processing: Duration,
    /// Batches per second of `processing`.
    pub batches_per_s: Option<f64>,
    /// Rows per second of `processing`.
    pub rows_per_s: Option<f64>,
    /// The mean time that tasks of these batches had waited in the queue; zero without batches.
    pub mean_queue_wait: Duration,
    /// Tasks that got their outputs.
    pub succeeded: u64,
    /// Tasks that got an error because their batch failed, they could not be cut to fit one, or the runtime stopped.
    pub failed: u64,
    /// Tasks whose ticket was dropped before all of them was cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they ran.
    pub expired: u64,
    /// Tasks that had to leave a full queue for more urgent ones.
    pub evicted: u64,
    /// Tasks given back at submit.
    pub refused: u64,
    /// Tasks in the queue at the end of the interval.
    pub waiting: u64,
}

impl Snapshot {
    /// Returns the work since an `earlier` snapshot of the same runtime.
    ///
    /// A pool that the earlier snapshot lacks counts from zero. One that has left in between is in `batches` only.
    pub fn since(&self, earlier: &Self) -> Report {
        let unknown = PoolSnapshot::default();
        let key = |pool: &PoolSnapshot| (pool.number, pool.name.clone());
        let before: HashMap<_, _> = earlier.pools.iter().map(|pool| (key(pool), pool)).collect();
        let pools = self
            .pools
            .iter()
            .filter_map(|pool| pool.since(before.get(&key(pool)).copied().unwrap_or(&unknown)));
        Report {
            elapsed: self.elapsed.saturating_sub(earlier.elapsed),
            batches: self.total.batches.saturating_sub(earlier.total.batches),
            pools: pools.collect(),
        }
    }
}

impl PoolSnapshot {
    /// Returns `None` if there is nothing to report.
    fn since(&self, earlier: &Self) -> Option<PoolReport> {
        let changed = self.answered() != earlier.answered() || self.batches != earlier.batches;
        if !changed && self.waiting + self.in_flight == 0 {
            return None;
        }
        let batches = self.batches.saturating_sub(earlier.batches);
        let rows = self.rows.saturating_sub(earlier.rows);
        let processing = self.device.total.saturating_sub(earlier.device.total);
        let per_second = |n: u64| (!processing.is_zero()).then(|| n as f64 / processing.as_secs_f64());
        let waits = self.queue_wait.count.saturating_sub(earlier.queue_wait.count);
        let waited = self.queue_wait.total.saturating_sub(earlier.queue_wait.total);
        Some(PoolReport {
            name: self.name.clone(),
            batches,
            failed_batches: self.failed_batches.saturating_sub(earlier.failed_batches),
            rows,
            mean_batch_rows: ratio(rows as f64, batches as f64),
            processing,
            batches_per_s: per_second(batches),
            rows_per_s: per_second(rows),
            mean_queue_wait: waited.div_f64((waits as f64).max(1.0)),
            succeeded: self.succeeded.saturating_sub(earlier.succeeded),
            failed: self.failed.saturating_sub(earlier.failed),
            cancelled: self.cancelled.saturating_sub(earlier.cancelled),
            expired: self.expired.saturating_sub(earlier.expired),
            evicted: self.evicted.saturating_sub(earlier.evicted),
            refused: self.refused.saturating_sub(earlier.refused),
            waiting: self.waiting,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Summary;

    fn summary(count: u64, total: Duration) -> Summary {
        Summary { count, total, ..Summary::default() }
    }

    fn pool(name: &str, batches: u64, rows: u64, processing: Duration) -> PoolSnapshot {
        PoolSnapshot {
            name: name.to_owned(),
            submitted: rows,
            succeeded: rows,
            batches,
            rows,
            device: summary(batches, processing),
            ..PoolSnapshot::default()
        }
    }

    fn snapshot(elapsed: u64, pools: Vec<PoolSnapshot>) -> Snapshot {
        let batches = pools.iter().map(|pool| pool.batches).sum();
        Snapshot {
            elapsed: Duration::from_secs(elapsed),
            total: PoolSnapshot { batches, ..PoolSnapshot::default() },
            pools,
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_of_the_interval_and_over_processing_time() {
        let earlier = snapshot(10, vec![pool("a", 5, 100, Duration::from_secs(8))]);
        let later = snapshot(15, vec![pool("a", 25, 180, Duration::from_secs(10))]);
        let report = later.since(&earlier);
        assert_eq!((report.elapsed, report.batches), (Duration::from_secs(5), 20));
        let [pool] = &report.pools[..] else { panic!("one pool: {report:?}") };
        assert_eq!((pool.batches, pool.rows, pool.succeeded), (20, 80, 80));
        assert_eq!(pool.processing, Duration::from_secs(2));
        let figures = (pool.mean_batch_rows, pool.batches_per_s, pool.rows_per_s);
        assert_eq!(figures, (4.0, Some(10.0), Some(40.0)));
    }

    #[test]
    fn a_rate_below_one_is_still_per_second() {
        let report =
            snapshot(9, vec![pool("slow", 2, 6, Duration::from_secs(8))]).since(&Snapshot::default());
        assert_eq!((report.pools[0].batches_per_s, report.pools[0].rows_per_s), (Some(0.25), Some(0.75)));
    }

    #[test]
    fn no_time_gives_no_rate() {
        let now = snapshot(0, vec![pool("quick", 3, 3, Duration::ZERO)]);
        let report = now.since(&Snapshot::default());
        assert_eq!(report.elapsed, Duration::ZERO);
        assert_eq!((report.pools[0].batches, report.pools[0].batches_per_s), (3, None));
        assert_eq!(now.since(&now), Report::default());
    }

    #[test]
    fn failures_and_waiting_are_reported_also_without_batches() {
        let earlier = snapshot(1, vec![PoolSnapshot::default(), pool("quiet", 1, 1, Duration::ZERO)]);
        let stuck = PoolSnapshot { failed: 2, refused: 1, waiting: 4, ..pool("stuck", 0, 0, Duration::ZERO) };
        let later = snapshot(2, vec![stuck, pool("quiet", 1, 1, Duration::ZERO)]);
        let report = later.since(&earlier);
        let [pool] = &report.pools[..] else { panic!("one pool: {report:?}") };
        assert_eq!((pool.name.as_str(), pool.failed, pool.refused, pool.waiting), ("stuck", 2, 1, 4));
        assert_eq!(pool.mean_queue_wait, Duration::ZERO);
    }

    #[test]
    fn waiting_time_is_the_mean_of_the_interval() {
        let with_waits = |count, total| PoolSnapshot {
            queue_wait: summary(count, Duration::from_millis(total)),
            ..pool("a", count, count, Duration::from_secs(1))
        };
        let report = snapshot(2, vec![with_waits(4, 90)]).since(&snapshot(1, vec![with_waits(1, 30)]));
        assert_eq!(report.pools[0].mean_queue_wait, Duration::from_millis(20));
    }

    #[test]
    fn an_earlier_snapshot_of_something_else_counts_as_nothing() {
        let report = snapshot(1, vec![pool("a", 1, 1, Duration::from_secs(1))])
            .since(&snapshot(9, vec![pool("b", 7, 7, Duration::from_secs(1))]));
        assert_eq!((report.elapsed, report.batches, report.pools[0].batches), (Duration::ZERO, 0, 1));
    }
}
