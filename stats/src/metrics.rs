//! The numbers for a monitoring system, through the `metrics` facade.
//!
//! Every metric carries the label `pool`. Times are in seconds.
//!
//! | metric | kind | what |
//! |---|---|---|
//! | `skep_submitted_total` | counter | tasks that callers handed in, the refused ones included |
//! | `skep_tasks_total` | counter | tasks answered, with the label `outcome`: `succeeded`, `failed`, `cancelled`, `expired`, `refused`, `shut_down` |
//! | `skep_waiting_tasks` | gauge | tasks in the queue |
//! | `skep_batches_total` | counter | batches that ran, the failed ones included |
//! | `skep_failed_batches_total` | counter | batches that failed |
//! | `skep_batches_taken_apart_total` | counter | failed batches that ran again in parts |
//! | `skep_rows_total` | counter | rows that ran |
//! | `skep_batch_rows` | histogram | rows of each batch |
//! | `skep_queue_wait_seconds` | histogram | for each task of a batch, from submit until the batch was cut |
//! | `skep_gather_seconds` | histogram | for each batch, joining the inputs and placing them on the device |
//! | `skep_device_seconds` | histogram | for each batch, the block on the device thread |
//! | `skep_scatter_seconds` | histogram | for each batch, bringing the outputs back and splitting them |
//! | `skep_end_to_end_seconds` | histogram | for each task of a batch, from submit until its batch was over |
//!
//! Unlike in a [`Snapshot`](crate::Snapshot), outcomes do not overlap: `failed` leaves out `shut_down`, so
//! that a sum over outcomes counts every task once.

use ::metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{Unit, gauge, histogram};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Counts, DeviceLoss, Meter, Observer, PoolId, Unrun};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Emits every event to the recorder that is installed when the pool has its first event: install it before
/// the runtime starts. One observer is for one runtime.
///
/// What a pool counts by itself (submitted, cancelled, refused, …) is emitted after each of its batches,
/// when the runtime stops, and by [`publish`](Self::publish).
#[derive(Default)]
pub struct MetricsObserver {
    pools: OnceLock<Box<[PoolSlot]>>,
}

struct PoolSlot {
    meter: Arc<dyn Meter>,
    /// Tasks that expired after they had been cut.
    expired: AtomicU64,
    /// Tasks that were given up at shutdown after they had been cut.
    shut_down: AtomicU64,
    /// What has been emitted, to add no more than what is new: another runtime may have pools of these names,
    /// before or after this one. `None` once the device is lost and the pool may count for that runtime.
    emitted: Mutex<Option<Counts>>,
    /// Made at the pool's first event, so that idle pools have no series.
    handles: OnceLock<Handles>,
}

struct Handles {
    submitted: Counter,
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
    expired: Counter,
    refused: Counter,
    shut_down: Counter,
    waiting: Gauge,
    batches: Counter,
    failed_batches: Counter,
    taken_apart: Counter,
    rows: Counter,
    batch_rows: Histogram,
    queue_wait: Histogram,
    gather: Histogram,
    device: Histogram,
    scatter: Histogram,
    end_to_end: Histogram,
}

impl MetricsObserver {
    /// Nothing is emitted before the runtime starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Emits what the pools count by themselves. Call it before a scrape, or now and then: a pool whose
    /// tasks are all refused has no batch that would do it.
    pub fn publish(&self) {
        self.pools.get().into_iter().flatten().for_each(PoolSlot::publish);
    }

    fn pool(&self, id: PoolId) -> Option<&PoolSlot> {
        self.pools.get()?.get(id.index())
    }
}

impl Observer for MetricsObserver {
    fn started(&self, device: &str, _at: Instant, pools: &[Arc<dyn Meter>]) {
        describe();
        if self.pools.set(pools.iter().map(PoolSlot::new).collect()).is_err() {
            tracing::warn!(device, "metrics already observe another runtime, give each runtime its own");
        }
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        let Some(pool) = self.pool(event.pool) else { return };
        pool.handles().batch(event);
        pool.publish();
    }

    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize) {
        let Some(pool) = self.pool(pool) else { return };
        let count = if why == Unrun::Expired { &pool.expired } else { &pool.shut_down };
        count.fetch_add(tasks as u64, Ordering::Relaxed);
        pool.publish();
    }

    fn lost(&self, _loss: &DeviceLoss) {
        for pool in self.pools.get().into_iter().flatten() {
            pool.publish();
            *pool.emitted.lock() = None;
        }
    }

    fn stopped(&self, _at: Instant) {
        self.publish();
    }
}

impl PoolSlot {
    fn new(meter: &Arc<dyn Meter>) -> Self {
        Self {
            meter: Arc::clone(meter),
            expired: AtomicU64::new(0),
            shut_down: AtomicU64::new(0),
            emitted: Mutex::new(Some(Counts::default())),
            handles: OnceLock::new(),
        }
    }

    fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| Handles::new(self.meter.name()))
    }

    fn publish(&self) {
        let mut emitted = self.emitted.lock();
        let Some(before) = emitted.as_mut() else { return };
        let mut counts = self.meter.counts();
        if counts.submitted == 0 {
            return;
        }
        counts.expired += self.expired.load(Ordering::Relaxed);
        counts.shut_down += self.shut_down.load(Ordering::Relaxed);
        let handles = self.handles();
        handles.submitted.increment(counts.submitted.saturating_sub(before.submitted));
        handles.cancelled.increment(counts.cancelled.saturating_sub(before.cancelled));
        handles.refused.increment(counts.refused.saturating_sub(before.refused));
        handles.expired.increment(counts.expired.saturating_sub(before.expired));
        handles.shut_down.increment(counts.shut_down.saturating_sub(before.shut_down));
        handles.waiting.set(counts.waiting as f64);
        *before = counts;
    }
}

impl Handles {
    fn new(pool: &str) -> Self {
        let outcome = |outcome: &'static str| counter!("skep_tasks_total", "pool" => pool.to_owned(), "outcome" => outcome);
        let counter = |name: &'static str| counter!(name, "pool" => pool.to_owned());
        let histogram = |name: &'static str| histogram!(name, "pool" => pool.to_owned());
        Self {
            submitted: counter("skep_submitted_total"),
            succeeded: outcome("succeeded"),
            failed: outcome("failed"),
            cancelled: outcome("cancelled"),
            expired: outcome("expired"),
            refused: outcome("refused"),
            shut_down: outcome("shut_down"),
            waiting: gauge!("skep_waiting_tasks", "pool" => pool.to_owned()),
            batches: counter("skep_batches_total"),
            failed_batches: counter("skep_failed_batches_total"),
            taken_apart: counter("skep_batches_taken_apart_total"),
            rows: counter("skep_rows_total"),
            batch_rows: histogram("skep_batch_rows"),
            queue_wait: histogram("skep_queue_wait_seconds"),
            gather: histogram("skep_gather_seconds"),
            device: histogram("skep_device_seconds"),
            scatter: histogram("skep_scatter_seconds"),
            end_to_end: histogram("skep_end_to_end_seconds"),
        }
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.batches.increment(1);
        self.failed_batches.increment(u64::from(event.failed));
        self.taken_apart.increment(u64::from(event.taken_apart));
        self.rows.increment(event.rows as u64);
        self.succeeded.increment(event.tasks_succeeded as u64);
        self.failed.increment(event.tasks_failed as u64);
        self.batch_rows.record(event.rows as f64);
        self.gather.record(event.gather);
        self.device.record(event.device);
        self.scatter.record(event.scatter);
        for submitted in event.submitted {
            self.queue_wait.record(event.cut.saturating_duration_since(*submitted));
            self.end_to_end.record(event.done.saturating_duration_since(*submitted));
        }
    }
}

fn describe() {
    describe_counter!("skep_submitted_total", "tasks that callers handed in");
    describe_counter!("skep_tasks_total", "tasks answered, by outcome");
    describe_gauge!("skep_waiting_tasks", "tasks in the queue");
    describe_counter!("skep_batches_total", "batches that ran");
    describe_counter!("skep_failed_batches_total", "batches that failed");
    describe_counter!("skep_batches_taken_apart_total", "failed batches that ran again in parts");
    describe_counter!("skep_rows_total", "rows that ran");
    describe_histogram!("skep_batch_rows", "rows of each batch");
    for (name, what) in [
        ("skep_queue_wait_seconds", "from submit until the batch was cut, for each task"),
        ("skep_gather_seconds", "joining the inputs and placing them on the device, for each batch"),
        ("skep_device_seconds", "the block on the device thread, for each batch"),
        ("skep_scatter_seconds", "bringing the outputs back and splitting them, for each batch"),
        ("skep_end_to_end_seconds", "from submit until the batch was over, for each task"),
    ] {
        describe_histogram!(name, Unit::Seconds, what);
    }
}
