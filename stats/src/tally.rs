//! The tally of one pool. Made at the pool's first event, because it takes kilobytes, and hundreds of them when the pool is busy.

use crate::parts::{Part, Parts};
use crate::summary::Distribution;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Counts, CutReason, Meter, Reloaded, Training, Verified};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Default)]
pub(crate) struct Tally {
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    pub(crate) taken_apart: u64,
    pub(crate) batch_rows: Distribution,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) queue_wait: Distribution,
    pub(crate) gather: Distribution,
    pub(crate) device: Distribution,
    pub(crate) scatter: Distribution,
    pub(crate) end_to_end: Distribution,
    /// As the last backward pass left it.
    pub(crate) training: Option<Training>,
    /// Batches by the reason for which they were cut then.
    pub(crate) reasons: [u64; CutReason::ALL.len()],
    /// How long cuts were put off in all.
    pub(crate) put_off: Duration,
    /// Batches whose device time was foreseen, how long they took, and by how much they were off.
    pub(crate) foreseen: u64,
    pub(crate) foreseen_time: Duration,
    pub(crate) foreseen_off: Duration,
    /// Elements that were padding, and all of the batches that were padded.
    pub(crate) padding: u64,
    pub(crate) padded: u64,
    /// By class and by flow.
    pub(crate) parts: Parts,
    pub(crate) verification: Option<Verification>,
}

/// Blocks that were to be brought back onto the device.
#[derive(Clone, Default)]
pub(crate) struct Reloads {
    pub(crate) failed: u64,
    /// The times of all, those that failed included.
    pub(crate) times: Distribution,
}

impl Reloads {
    pub(crate) fn note(&mut self, event: &Reloaded<'_>) {
        self.failed += u64::from(event.failed);
        self.times.record(event.took);
    }
}

/// What came of verified batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Verification {
    pub(crate) batches: u64,
    pub(crate) differing: u64,
    pub(crate) largest: f64,
    pub(crate) tolerance: f64,
}

impl Verification {
    fn batch(&mut self, verified: Verified) {
        self.batches += 1;
        self.differing += u64::from(!verified.holds());
        self.largest = self.largest.max(verified.difference);
        self.tolerance = verified.tolerance;
    }
}

impl Tally {
    /// A tally of nothing yet, which tells flows apart or does not.
    pub(crate) fn new(flows: bool) -> Self {
        Self { parts: Parts::new(flows), ..Self::default() }
    }

    pub(crate) fn batch(&mut self, event: &BatchEvent<'_>) {
        if !self.parts.are_of_one(event) {
            let mut parts = std::mem::take(&mut self.parts);
            parts.batch(event, || self.whole());
            self.parts = parts;
        }
        self.batches += 1;
        self.training = event.training.or(self.training);
        if let Some(verified) = event.verified {
            self.verification.get_or_insert_default().batch(verified);
        }
        self.failed_batches += u64::from(event.failed);
        self.taken_apart += u64::from(event.taken_apart);
        self.batch_rows.record_number(event.rows as u64);
        self.succeeded += event.tasks_succeeded as u64;
        self.failed += event.tasks_failed as u64;
        self.gather.record(event.gather);
        self.device.record(event.device);
        self.scatter.record(event.scatter);
        self.reasons[event.forecast.reason.index()] += 1;
        self.put_off = self.put_off.saturating_add(event.forecast.put_off);
        self.padding += event.forecast.padding as u64;
        self.padded += event.forecast.padded as u64;
        if let Some(predicted) = event.predicted().filter(|_| !event.failed) {
            self.foreseen += 1;
            self.foreseen_time = self.foreseen_time.saturating_add(event.device);
            self.foreseen_off = self.foreseen_off.saturating_add(event.device.abs_diff(predicted));
        }
        let ran = event.done.saturating_duration_since(event.cut);
        for task in event.tasks {
            // A split task is one task: it has waited when its first part is cut, and is over with its last.
            let waited = task.waited(event.cut);
            if task.is_first {
                self.queue_wait.record(waited);
            }
            if task.is_last {
                self.end_to_end.record(waited.saturating_add(ran));
            }
        }
    }

    /// What is known of all tasks together.
    pub(crate) fn whole(&self) -> Part {
        Part {
            rows: self.batch_rows.total(),
            device: Duration::from_nanos(self.device.total()),
            queue_wait: self.queue_wait.clone(),
            end_to_end: self.end_to_end.clone(),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.add(&other.parts, || self.whole(), || other.whole());
        self.parts = parts;
        self.batches += other.batches;
        self.failed_batches += other.failed_batches;
        self.taken_apart += other.taken_apart;
        self.batch_rows.add(&other.batch_rows);
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.queue_wait.add(&other.queue_wait);
        self.gather.add(&other.gather);
        self.device.add(&other.device);
        self.scatter.add(&other.scatter);
        self.end_to_end.add(&other.end_to_end);
        for (reason, more) in self.reasons.iter_mut().zip(other.reasons) {
            *reason += more;
        }
        self.put_off = self.put_off.saturating_add(other.put_off);
        self.padding += other.padding;
        self.padded += other.padded;
        self.foreseen += other.foreseen;
        self.foreseen_time = self.foreseen_time.saturating_add(other.foreseen_time);
        self.foreseen_off = self.foreseen_off.saturating_add(other.foreseen_off);
    }
}

/// The numbers of a pool: counted of it, and by it.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) meter: Arc<dyn Meter>,
    /// `None` until the pool's first event.
    pub(crate) tally: Option<Arc<Mutex<Tally>>>,
}

impl Reading {
    /// Returns what `look` makes of the tally, which it keeps from being added to, and the counts.
    pub(crate) fn read<R>(&self, look: impl FnOnce(Option<&Tally>) -> R) -> (R, Counts) {
        // In this order: a task that ends in between counts as in flight. The other way round, it could
        // end without having been submitted.
        let seen = match &self.tally {
            Some(tally) => look(Some(&tally.lock())),
            None => look(None),
        };
        (seen, self.meter.counts())
    }
}

/// The last numbers of pools that have left, together.
#[derive(Clone, Default)]
pub(crate) struct Gone {
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
}

/// The last numbers of a pool that has left.
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only metrics are published for each pool"))]
pub(crate) struct Departed {
    /// The number of pools that came before it.
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) tally: Tally,
    pub(crate) counts: Counts,
}
