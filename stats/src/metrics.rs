//! The numbers for a monitoring system, through the `metrics` facade.
//!
//! Every metric carries the label `pool`. Times are in seconds.
//!
//! | metric | kind | meaning |
//! |---|---|---|
//! | `skep_submitted_total` | counter | tasks that callers handed in, the refused ones included |
//! | `skep_tasks_total` | counter | tasks answered, with the label `outcome`: `succeeded`, `failed`, `cancelled`, `expired`, `evicted`, `refused`, `shut_down` |
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
//! | `skep_refused_total` | counter | refused tasks, with the label `reason`: `invalid`, `full`, `deadline passed`, `too late`, `stopped`, `misuse` |
//! | `skep_cuts_total` | counter | batches, with the label `reason`: why they were cut when they were |
//! | `skep_padded_elements_total`, `skep_padding_elements_total` | counter | elements of batches that were padded, and those of them that are padding |
//! | `skep_cut_put_off_seconds` | gauge | the time for which cuts were put off although there was room |
//! | `skep_forecast_error` | gauge | by how much of their device time the forecasts of batches were off, on average |
//! | `skep_class_queue_wait_seconds` | histogram | `skep_queue_wait_seconds` with the label `class`; this and the next are there once there is more than one class or flow |
//! | `skep_class_end_to_end_seconds` | histogram | `skep_end_to_end_seconds` with the label `class` |
//! | `skep_flow_end_to_end_seconds` | histogram | the same with the label `flow`; `others` stands for those beyond the first 256 |
//! | `skep_flow_device_seconds` | gauge | the device time of each flow, by rows |
//! | `skep_training_steps` | gauge | steps that a block's optimizer has taken; this and the next are there for pools of backward passes |
//! | `skep_training_clipped_steps` | gauge | steps whose gradients were scaled down, since the block was loaded or restored |
//! | `skep_training_refused_steps` | gauge | steps that would have destroyed the parameters, since then |
//! | `skep_training_learning_rate` | gauge | of the last step |
//! | `skep_training_gradient_norm` | gauge | of the last step, before it was clipped |
//! | `skep_verified_batches_total` | counter | batches of which a task was run alone, too; this and the next are there for pools with such batches |
//! | `skep_differing_batches_total` | counter | those of them in which the task got something else alone |
//! | `skep_verified_difference` | gauge | the largest difference so far |
//! | `skep_reload_seconds` | histogram | bringing a block back onto the device; this and the next are there for runtimes with a budget |
//! | `skep_failed_reloads_total` | counter | those of them that failed |
//!
//! Counters are exact; the values in histograms are within 1 %. Unlike in a [`Snapshot`](crate::Snapshot),
//! outcomes do not overlap: `failed` leaves out `shut_down`, so that a sum over outcomes counts every task once.

use crate::collector::Stats;

use crate::parts::{By, Part};
use crate::snapshot::ratio;
use crate::summary::Distribution;
use crate::tally::{Departed, Reloads, Tally};
use ::metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use ::metrics::{Unit, gauge, histogram};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::sync::every::Every;
use skep_runtime_core::{Counts, CutReason, Flow, Priority};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Publishes the numbers of a [`Stats`] to the installed recorder, and only when asked to: the runtime pays for
/// nothing but its stats.
///
/// Call [`publish`](Self::publish) before each scrape, or let a thread do so [at an interval](Self::every).
/// Keeps a copy of the last published numbers of each pool, as large as those of the stats.
pub struct Metrics {
    stats: Stats,
    /// The numbers that were published, by the numbers of the pools. Another runtime may have pools of these names, and
    /// so may this one later, so counters are never set, but raised by the difference.
    pools: Mutex<HashMap<u32, Published>>,
    reloads: Mutex<Reloads>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Published {
    handles: Handles,
    counts: Counts,
    tally: Tally,
}

/// A thread that publishes at an interval. Dropping it ends the thread and publishes a last time.
#[must_use = "dropping it ends it"]
pub struct Publishing {
    /// `None` only while dropping.
    thread: Option<Every>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishing").finish_non_exhaustive()
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.thread = None;
        self.metrics.publish();
    }
}

struct Handles {
    submitted: Counter,
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
    expired: Counter,
    evicted: Counter,
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
    /// The pool.
    pool: String,
}

impl Metrics {
    /// Creates the publisher and describes its metrics to the recorder, which must be installed before.
    pub fn new(stats: Stats) -> Self {
        describe();
        stats.keep_departed();
        Self { stats, pools: Mutex::new(HashMap::new()), reloads: Mutex::default() }
    }

    /// Adds to the recorder's metrics the difference since the last time. A pool that never had a task has no
    /// series.
    pub fn publish(&self) {
        let mut published = self.pools.lock();
        self.see_off(&mut published);
        for (number, pool) in self.stats.pools() {
            let (tally, counts) = pool.read(|tally| Some(tally?.clone()));
            Self::publish_one(&mut published, number, pool.meter.name(), tally, counts);
        }
        self.publish_reloads();
    }

    /// Adds the last numbers of pools that have left, and nothing else. They are kept until they are published, up to 250 KB
    /// of each pool: call this now and then where nobody may ask for the others.
    pub fn publish_departed(&self) {
        self.see_off(&mut self.pools.lock());
    }

    fn see_off(&self, published: &mut HashMap<u32, Published>) {
        for Departed { number, name, tally, counts } in self.stats.departed() {
            Self::publish_one(published, number, &name, Some(tally), counts);
            if let Some(gone) = published.remove(&number)
                && !published.values().any(|other| other.handles.pool == gone.handles.pool)
            {
                gone.handles.waiting.set(0.0);
            }
        }
    }

    fn publish_reloads(&self) {
        let (now, mut before) = (self.stats.reloads(), self.reloads.lock());
        if now.times.count() > before.times.count() {
            record(&histogram!("skep_reload_seconds"), &now.times, &before.times, NANOSECOND);
            counter!("skep_failed_reloads_total").increment(now.failed - before.failed);
            *before = now;
        }
    }

    fn publish_one(
        published: &mut HashMap<u32, Published>,
        number: u32,
        name: &str,
        tally: Option<Tally>,
        counts: Counts,
    ) {
        if counts.submitted > 0 || tally.is_some() {
            let pool = published.entry(number).or_insert_with(|| Published::new(name));
            pool.publish(tally.unwrap_or_default(), counts);
        }
    }

    /// Starts the thread `skep-metrics`, which publishes every `interval`, the first time one interval from now.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the interval is zero, and the
    /// system's own error if it cannot start a thread.
    pub fn every(self, interval: Duration) -> io::Result<Publishing> {
        let metrics = Arc::new(self);
        let publishing = Arc::clone(&metrics);
        let thread = Every::start("skep-metrics", interval, move || publishing.publish())?;
        Ok(Publishing { thread: Some(thread), metrics })
    }
}

impl Published {
    fn new(pool: &str) -> Self {
        Self { handles: Handles::new(pool), counts: Counts::default(), tally: Tally::default() }
    }

    fn publish(&mut self, tally: Tally, counts: Counts) {
        let (handles, was, before) = (&self.handles, &self.counts, &self.tally);
        let count = |counter: &Counter, now: u64, before: u64| match now.saturating_sub(before) {
            0 => {}
            new => counter.increment(new),
        };
        count(&handles.submitted, counts.submitted, was.submitted);
        count(&handles.cancelled, counts.cancelled, was.cancelled);
        count(&handles.refused, counts.refused, was.refused);
        count(&handles.expired, counts.expired, was.expired);
        count(&handles.evicted, counts.evicted, was.evicted);
        count(&handles.shut_down, counts.shut_down, was.shut_down);
        count(&handles.succeeded, tally.succeeded, before.succeeded);
        count(&handles.failed, tally.failed + counts.failed, before.failed + was.failed);
        count(&handles.batches, tally.batches, before.batches);
        count(&handles.failed_batches, tally.failed_batches, before.failed_batches);
        count(&handles.taken_apart, tally.taken_apart, before.taken_apart);
        count(&handles.rows, tally.batch_rows.total(), before.batch_rows.total());
        if counts.waiting != was.waiting {
            handles.waiting.set(counts.waiting as f64);
        }

        record(&handles.batch_rows, &tally.batch_rows, &before.batch_rows, 1.0);
        record(&handles.queue_wait, &tally.queue_wait, &before.queue_wait, NANOSECOND);
        record(&handles.gather, &tally.gather, &before.gather, NANOSECOND);
        record(&handles.device, &tally.device, &before.device, NANOSECOND);
        record(&handles.scatter, &tally.scatter, &before.scatter, NANOSECOND);
        record(&handles.end_to_end, &tally.end_to_end, &before.end_to_end, NANOSECOND);
        self.explain(&tally, counts);
        if let Some(training) = tally.training.filter(|_| tally.training != before.training) {
            let set =
                |name: &'static str, value: f64| gauge!(name, "pool" => handles.pool.clone()).set(value);
            set("skep_training_steps", training.steps as f64);
            set("skep_training_clipped_steps", training.clipped as f64);
            set("skep_training_refused_steps", training.refused as f64);
            set("skep_training_learning_rate", training.learning_rate);
            set("skep_training_gradient_norm", training.gradient_norm);
        }
        if let Some(verification) = tally.verification.filter(|_| tally.verification != before.verification) {
            let was = before.verification.unwrap_or_default();
            let count =
                |name: &'static str, new: u64| counter!(name, "pool" => handles.pool.clone()).increment(new);
            count("skep_verified_batches_total", verification.batches - was.batches);
            count("skep_differing_batches_total", verification.differing - was.differing);
            gauge!("skep_verified_difference", "pool" => handles.pool.clone()).set(verification.largest);
        }
        (self.counts, self.tally) = (counts, tally);
    }

    /// Publishes what only some pools have.
    fn explain(&self, tally: &Tally, counts: Counts) {
        let pool = || self.handles.pool.clone();
        let before: BTreeMap<_, _> = self.counts.refusals.reasons().collect();
        for (reason, tasks) in counts.refusals.reasons() {
            let new = tasks.saturating_sub(before.get(reason).copied().unwrap_or(0));
            if new > 0 {
                counter!("skep_refused_total", "pool" => pool(), "reason" => reason).increment(new);
            }
        }
        for (reason, (now, before)) in
            CutReason::ALL.into_iter().zip(tally.reasons.into_iter().zip(self.tally.reasons))
        {
            if now > before {
                counter!("skep_cuts_total", "pool" => pool(), "reason" => reason.name())
                    .increment(now - before);
            }
        }
        if tally.padded > self.tally.padded {
            let (all, padding) = (tally.padded - self.tally.padded, tally.padding - self.tally.padding);
            counter!("skep_padded_elements_total", "pool" => pool()).increment(all);
            counter!("skep_padding_elements_total", "pool" => pool()).increment(padding);
        }
        if tally.put_off != self.tally.put_off {
            gauge!("skep_cut_put_off_seconds", "pool" => pool()).set(tally.put_off.as_secs_f64());
        }
        if tally.foreseen != self.tally.foreseen {
            let error = ratio(tally.foreseen_off.as_secs_f64(), tally.foreseen_time.as_secs_f64());
            gauge!("skep_forecast_error", "pool" => pool()).set(error);
        }
        let Some((classes, flows)) = tally.parts.several() else { return };
        let (old_classes, old_flows) = match self.tally.parts.several() {
            Some((classes, flows)) => (Some(classes), Some(flows)),
            None => (None, None),
        };
        each_new(classes, old_classes, |class, part, before| {
            let class = class.map_or_else(others, |Priority(value)| value.to_string());
            let wait =
                histogram!("skep_class_queue_wait_seconds", "pool" => pool(), "class" => class.clone());
            record(&wait, &part.queue_wait, &before.queue_wait, NANOSECOND);
            let whole = histogram!("skep_class_end_to_end_seconds", "pool" => pool(), "class" => class);
            record(&whole, &part.end_to_end, &before.end_to_end, NANOSECOND);
        });
        each_new(flows, old_flows, |flow, part, before| {
            let flow = flow.map_or_else(others, |Flow(number)| number.to_string());
            let whole = histogram!("skep_flow_end_to_end_seconds", "pool" => pool(), "flow" => flow.clone());
            record(&whole, &part.end_to_end, &before.end_to_end, NANOSECOND);
            gauge!("skep_flow_device_seconds", "pool" => pool(), "flow" => flow)
                .set(part.device.as_secs_f64());
        });
    }
}

fn record(histogram: &Histogram, now: &Distribution, before: &Distribution, unit: f64) {
    for (number, times) in now.since(before) {
        histogram.record_many(number as f64 * unit, usize::try_from(times).unwrap_or(usize::MAX));
    }
}

fn others() -> String {
    "others".to_owned()
}

/// Calls `publish` with each part that has had tasks since, and what it was before.
fn each_new<K: Ord + Copy>(now: &By<K>, before: Option<&By<K>>, publish: impl Fn(Option<K>, &Part, &Part)) {
    let nothing = Part::default();
    for (of, part) in now {
        let was = before.and_then(|before| before.get(of)).unwrap_or(&nothing);
        if part.rows != was.rows {
            publish(*of, part, was);
        }
    }
}

/// One nanosecond in seconds.
const NANOSECOND: f64 = 1e-9;

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
            evicted: outcome("evicted"),
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
            pool: pool.to_owned(),
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
    describe_counter!("skep_refused_total", "refused tasks, by reason");
    describe_counter!("skep_cuts_total", "batches, by the reason for which they were cut when they were");
    describe_counter!("skep_padded_elements_total", "elements of batches that were padded");
    describe_counter!("skep_padding_elements_total", "elements that are padding");
    describe_gauge!("skep_cut_put_off_seconds", "the time for which cuts were put off");
    describe_gauge!("skep_forecast_error", "by how much of their device time forecasts were off");
    describe_gauge!("skep_flow_device_seconds", "device time, by flow");
    describe_counter!("skep_rows_total", "rows that ran");
    describe_counter!("skep_failed_reloads_total", "blocks that could not be brought back onto the device");
    describe_histogram!("skep_batch_rows", "rows of each batch");
    describe_counter!("skep_verified_batches_total", "batches of which a task was run alone, too");
    describe_counter!("skep_differing_batches_total", "verified batches whose task got something else alone");
    describe_gauge!("skep_verified_difference", "largest difference of a verified batch");
    for (name, what) in [
        ("skep_training_steps", "steps of the optimizer"),
        ("skep_training_clipped_steps", "steps whose gradients were scaled down"),
        ("skep_training_refused_steps", "steps that would have destroyed the parameters"),
        ("skep_training_learning_rate", "learning rate of the last step"),
        ("skep_training_gradient_norm", "norm of the gradients of the last step"),
    ] {
        describe_gauge!(name, what);
    }
    for (name, what) in [
        ("skep_queue_wait_seconds", "from submit until the batch was cut, for each task"),
        ("skep_reload_seconds", "bringing a block back onto the device, for each try"),
        ("skep_gather_seconds", "joining the inputs and placing them on the device, for each batch"),
        ("skep_device_seconds", "the block on the device thread, for each batch"),
        ("skep_scatter_seconds", "bringing the outputs back and splitting them, for each batch"),
        ("skep_end_to_end_seconds", "from submit until the batch was over, for each task"),
        ("skep_class_queue_wait_seconds", "from submit until the batch was cut, by class"),
        ("skep_class_end_to_end_seconds", "from submit until the batch was over, by class"),
        ("skep_flow_end_to_end_seconds", "from submit until the batch was over, by flow"),
    ] {
        describe_histogram!(name, Unit::Seconds, what);
    }
}
