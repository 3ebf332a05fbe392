//! The numbers at one moment, as plain values.

use crate::parts::{By, Part};
use crate::summary::{Summary, micros};
use crate::tally::{Gone, Reading, Reloads, Tally, Verification};
use serde::{Deserialize, Serialize};
use skep_runtime_core::{Counts, CutReason, Flow, Priority, Training};
use std::collections::BTreeMap;
use std::time::Duration;

/// The numbers of a runtime at one moment.
///
/// Displays as an aligned table. Serialized, every duration is in microseconds, in a field whose name ends in
/// `_us`. Two of them make a [`Report`](crate::Report) of the time between them ([`since`](Self::since)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The device's name; empty before the runtime has started.
    pub device: String,
    /// The time since the runtime started, until now or until it stopped.
    #[serde(rename = "elapsed_us", with = "micros")]
    pub elapsed: Duration,
    /// The part of `elapsed` in which the device ran batches, `0.0..=1.0`.
    pub device_busy: f64,
    /// All pools together, those included that have left the runtime. Its percentiles are over the tasks and batches of all
    /// of them.
    pub total: PoolSnapshot,
    /// Each pool that is there, in the order of their places: a place that came free is let again.
    pub pools: Vec<PoolSnapshot>,
    /// Blocks that were brought back onto the device; `None` if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reloads: Option<ReloadSnapshot>,
}

/// Blocks that had left the device for others, and were to be brought back
/// ([`RuntimeBuilder::budget`](skep_runtime_core::RuntimeBuilder::budget)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReloadSnapshot {
    /// Those that failed.
    pub failed: u64,
    /// The time that each took, those that failed included; its count is how often that was.
    pub times: Summary,
}

/// The numbers of one pool, or of all pools together, since the runtime started.
///
/// Every task is in exactly one place: `submitted` = `succeeded` + `failed` + `cancelled` + `expired` +
/// `evicted` + `refused` + `waiting` + `in_flight`. A split task counts once: it waits until its first part is cut, and is
/// in flight from then on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// The pool's name; `total` for all pools together.
    pub name: String,
    /// The number of pools that the runtime got before this one: it tells pools apart that had one name, one after the other.
    #[serde(default)]
    pub number: u32,
    /// Tasks that callers handed in, the refused ones included.
    pub submitted: u64,
    /// Tasks that got their outputs.
    pub succeeded: u64,
    /// Tasks that got an error because their batch failed, they could not be cut to fit one, or the runtime stopped.
    pub failed: u64,
    /// Those of `failed` that were given up at shutdown.
    pub shut_down: u64,
    /// Tasks whose ticket was dropped before all of them was cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they ran.
    pub expired: u64,
    /// Tasks that had to leave a full queue for more urgent ones.
    pub evicted: u64,
    /// Tasks given back at submit.
    pub refused: u64,
    /// Those of `refused` by the [reason](skep_runtime_core::Refusals); reasons that never were are left out.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// Tasks in the queue at this moment.
    pub waiting: u64,
    /// Tasks cut into a batch and not answered yet at this moment.
    pub in_flight: u64,
    /// Batches that ran, the failed ones included.
    pub batches: u64,
    /// Batches that failed.
    pub failed_batches: u64,
    /// Those of `failed_batches` that ran again in parts, which are batches too.
    pub taken_apart: u64,
    /// Rows that ran, those of failed batches included.
    pub rows: u64,
    /// `rows / batches`; 0 without batches.
    pub mean_batch_rows: f64,
    /// The time from submit until the batch was cut, for each task; of a split one until its first was.
    pub queue_wait: Summary,
    /// The time for joining the inputs and placing them on the device, for each batch.
    pub gather: Summary,
    /// The time of the block on the device thread, until the device was done, for each batch.
    pub device: Summary,
    /// The time for bringing the outputs back and splitting them, for each batch.
    pub scatter: Summary,
    /// The time from submit until the batch was over, for each task; of a split one until its last was.
    pub end_to_end: Summary,
    /// How the training of the pool's block stands; `None` for pools of forward passes, and before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingSnapshot>,
    /// Batches by the [reason](skep_runtime_core::CutReason) for which they were cut when they were; those that never
    /// were are left out.
    pub cuts: BTreeMap<String, u64>,
    /// The time for which cuts were put off although there was room, for all batches together.
    #[serde(rename = "put_off_us", with = "micros")]
    pub put_off: Duration,
    /// The part of the elements of padded batches that is padding; 0 without any.
    #[serde(default)]
    pub padding: f64,
    /// Batches whose device time was foreseen.
    pub foreseen_batches: u64,
    /// By how much of their device time the forecasts of those were off, on average; 0 without any.
    pub forecast_error: f64,
    /// What came of verified batches; `None` if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSnapshot>,
    /// The tasks by their class, the most urgent first; empty while all are of one class and one flow, and then the
    /// pool's numbers are those of it.
    #[serde(default)]
    pub classes: Vec<PartSnapshot>,
    /// The tasks by their flow; empty likewise, and of [stats without flows](crate::Stats::without_flows).
    #[serde(default)]
    pub flows: Vec<PartSnapshot>,
}

/// The tasks of one class, or of one flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartSnapshot {
    /// The priority's value or the flow's number, 0 for tasks on their pool's account. `None` stands for those that are
    /// told apart no more, because there are more than 256.
    pub of: Option<i64>,
    /// Rows that ran.
    pub rows: u64,
    /// Its share of the device time: of each batch, by rows.
    #[serde(rename = "device_us", with = "micros")]
    pub device: Duration,
    /// The time from submit until the batch was cut, for each task.
    pub queue_wait: Summary,
    /// The time from submit until the batch was over, for each task.
    pub end_to_end: Summary,
}

fn parts<K: Copy>(by: &By<K>, number: impl Fn(K) -> i64) -> Vec<PartSnapshot> {
    let part = |(of, part): (&Option<K>, &Part)| PartSnapshot {
        of: of.map(&number),
        rows: part.rows,
        device: part.device,
        queue_wait: part.queue_wait.summary(),
        end_to_end: part.end_to_end.summary(),
    };
    // Those without a name come last.
    let named = by.iter().filter(|(of, _)| of.is_some());
    named.chain(by.iter().filter(|(of, _)| of.is_none())).map(part).collect()
}

/// What came of the batches of a pool of which a task was run alone, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerificationSnapshot {
    /// Batches that were verified.
    pub batches: u64,
    /// Those of them in which a task got something else in company than alone: the block mixes rows up.
    pub differing: u64,
    /// The largest difference of an element, for numbers above 1 in parts of them; the largest number that there is if
    /// outputs could not be compared.
    pub largest_difference: f64,
    /// The largest that is no finding.
    pub tolerance: f64,
}

impl From<Verification> for VerificationSnapshot {
    fn from(verification: Verification) -> Self {
        let Verification { batches, differing, largest, tolerance } = verification;
        Self { batches, differing, largest_difference: largest, tolerance }
    }
}

/// How the training of a block stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingSnapshot {
    /// Steps that were taken.
    pub steps: u64,
    /// Steps whose gradients were scaled down to the largest norm that is allowed.
    pub clipped: u64,
    /// Steps that were refused, because they would have destroyed the parameters.
    pub refused: u64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// The norm of all gradients of the last step together, before it was clipped.
    pub gradient_norm: f64,
}

impl From<Training> for TrainingSnapshot {
    fn from(training: Training) -> Self {
        let Training { steps, clipped, refused, learning_rate, gradient_norm, .. } = training;
        Self { steps, clipped, refused, learning_rate, gradient_norm }
    }
}

impl Snapshot {
    pub(crate) fn new(device: &str, elapsed: Duration, pools: &[(u32, Reading)], gone: Gone) -> Self {
        let Gone { counts: mut all_counts, tally: mut all } = gone;
        let pools = pools
            .iter()
            .map(|(number, pool)| {
                let name = pool.meter.name();
                let (seen, counts) = pool.read(|tally| {
                    if let Some(tally) = tally {
                        all.add(tally);
                    }
                    PoolSnapshot::of(name, tally)
                });
                all_counts = all_counts + counts;
                PoolSnapshot { number: *number, ..seen.with(counts) }
            })
            .collect();
        let total = PoolSnapshot::of("total", Some(&all)).with(all_counts);
        let device_busy = ratio(total.device.total.as_secs_f64(), elapsed.as_secs_f64()).min(1.0);
        Self { device: device.to_owned(), elapsed, device_busy, total, pools, reloads: None }
    }

    pub(crate) fn with_reloads(mut self, reloads: &Reloads) -> Self {
        let times = reloads.times.summary();
        self.reloads = (times.count > 0).then_some(ReloadSnapshot { failed: reloads.failed, times });
        self
    }
}

impl PoolSnapshot {
    /// What was counted of a pool.
    fn of(name: &str, tally: Option<&Tally>) -> Self {
        let mut pool = Self { name: name.to_owned(), ..Self::default() };
        if let Some(tally) = tally {
            pool.succeeded = tally.succeeded;
            pool.failed = tally.failed;
            pool.batches = tally.batches;
            pool.failed_batches = tally.failed_batches;
            pool.taken_apart = tally.taken_apart;
            pool.rows = tally.batch_rows.total();
            pool.mean_batch_rows = ratio(pool.rows as f64, pool.batches as f64);
            pool.queue_wait = tally.queue_wait.summary();
            pool.gather = tally.gather.summary();
            pool.device = tally.device.summary();
            pool.scatter = tally.scatter.summary();
            pool.end_to_end = tally.end_to_end.summary();
            pool.training = tally.training.map(TrainingSnapshot::from);
            let cuts = CutReason::ALL.into_iter().zip(tally.reasons).filter(|(_, batches)| *batches > 0);
            pool.cuts = cuts.map(|(reason, batches)| (reason.name().to_owned(), batches)).collect();
            if let Some((classes, flows)) = tally.parts.several() {
                pool.classes = parts(classes, |Priority(value)| value.into());
                pool.flows = parts(flows, |Flow(number)| number.into());
            }
            pool.put_off = tally.put_off;
            pool.padding = ratio(tally.padding as f64, tally.padded as f64);
            pool.foreseen_batches = tally.foreseen;
            pool.forecast_error = ratio(tally.foreseen_off.as_secs_f64(), tally.foreseen_time.as_secs_f64());
            pool.verification = tally.verification.map(VerificationSnapshot::from);
        }
        pool
    }

    /// The same with what the pool has counted itself.
    fn with(mut self, counts: Counts) -> Self {
        self.submitted = counts.submitted;
        self.shut_down = counts.shut_down;
        self.cancelled = counts.cancelled;
        self.expired = counts.expired;
        self.evicted = counts.evicted;
        self.refused = counts.refused;
        self.refusals = counts.refusals.reasons().map(|(reason, tasks)| (reason.to_owned(), tasks)).collect();
        self.waiting = counts.waiting;
        self.failed += counts.failed + counts.shut_down;
        self.in_flight = self.submitted.saturating_sub(self.accounted());
        self
    }

    /// Returns the number of tasks that have been answered: succeeded, failed, cancelled, expired,
    /// evicted or refused.
    pub fn answered(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.expired + self.evicted + self.refused
    }

    /// Returns the number of tasks that were counted where they are: answered or waiting. (`in_flight` is no count,
    /// but the rest.) Once the runtime has stopped it equals `submitted`, or a task was lost or answered twice.
    pub fn accounted(&self) -> u64 {
        self.answered() + self.waiting
    }

    /// Returns one line that accounts for every task.
    ///
    /// ```
    /// let total = skep_stats::Stats::new().snapshot().total;
    /// assert_eq!(
    ///     total.accounts(),
    ///     "0 submitted = 0 succeeded + 0 failed + 0 cancelled + 0 expired + 0 evicted \
    ///      + 0 refused + 0 waiting + 0 in flight",
    /// );
    /// ```
    pub fn accounts(&self) -> String {
        format!(
            "{} submitted = {} succeeded + {} failed + {} cancelled + {} expired + {} evicted + {} refused \
             + {} waiting + {} in flight",
            self.submitted,
            self.succeeded,
            self.failed,
            self.cancelled,
            self.expired,
            self.evicted,
            self.refused,
            self.waiting,
            self.in_flight,
        )
    }
}

/// Returns `a / b`, or 0 if there is nothing to divide by.
pub(crate) fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}
