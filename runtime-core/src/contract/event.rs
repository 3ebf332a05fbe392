//! Events: one per batch, for whoever observes a runtime.
//!
//! Counts that belong to waiting tasks (submitted, refused, cancelled, expired in the queue) are kept by
//! the pool under the lock that it holds anyway, and read through [`Meter::counts`](crate::Meter::counts).

use crate::contract::backend::{Pass, Training};
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::id::PoolId;
use crate::contract::meter::Meter;
use crate::contract::price::Price;
use crate::contract::task::TaskHeader;
use crate::contract::verify::Verified;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reason why a batch was cut when it was, and as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CutReason {
    /// It had as many rows as a batch may have.
    Full,
    /// The device was free, or about to be as far as is known, and no more tasks waited.
    #[default]
    Empty,
    /// The running batch was about to end.
    JustInTime,
    /// It had waited for callers who were just answered.
    Linger,
    /// It was made smaller, or cut earlier, for a deadline.
    Deadline,
    /// Its tasks had waited as long as the pool lets them.
    Delay,
    /// It had as many elements as a batch may have.
    Elements,
    /// The pool takes no more tasks.
    Drain,
    /// It is half of a batch that failed.
    Half,
}

impl CutReason {
    /// All reasons, in the order of [`index`](Self::index).
    pub const ALL: [Self; 9] = [
        Self::Full,
        Self::Empty,
        Self::JustInTime,
        Self::Linger,
        Self::Deadline,
        Self::Delay,
        Self::Elements,
        Self::Drain,
        Self::Half,
    ];

    /// Returns the reason in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Empty => "empty",
            Self::JustInTime => "just in time",
            Self::Linger => "linger",
            Self::Deadline => "deadline",
            Self::Delay => "delay",
            Self::Elements => "elements",
            Self::Drain => "drain",
            Self::Half => "half",
        }
    }

    /// Returns the place among [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What was known of a batch when it was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Forecast {
    /// Why it was cut then and so.
    pub reason: CutReason,
    /// How long its cut had been put off, though there was room for it.
    pub put_off: Duration,
    /// The elements of a row; 1 if rows do not differ. Where rows of all sizes share a batch, in the middle.
    pub elements: usize,
    /// The elements that were added to make rows alike.
    pub padding: usize,
    /// The elements of all rows, with those; 0 where nothing is padded.
    pub padded: usize,
    /// What batches of such rows cost, if that was known.
    pub price: Option<Price>,
    /// The device time of a row of which the policy has heard.
    pub per_row: Duration,
}

/// One batch that is over.
///
/// The tickets are completed right **after** the event: who has an answer finds it counted. Only the batch with which a
/// device was lost comes after the answers of its tasks, which are given at once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchEvent<'a> {
    /// The pool that the batch was cut from.
    pub pool: PoolId,
    /// Forward or backward.
    pub pass: Pass,
    /// Rows that ran.
    pub rows: usize,
    /// The headers of the tasks in the batch. A task that was split over several batches stands in each of them.
    pub tasks: &'a [TaskHeader],
    /// When the batch was cut from its pool: the end of the tasks' waiting.
    pub cut: Instant,
    /// Joining the inputs and placing them on the device.
    pub gather: Duration,
    /// The block on the device thread, until the device was done.
    pub device: Duration,
    /// Bringing the outputs back and splitting them.
    pub scatter: Duration,
    /// When the batch was over.
    pub done: Instant,
    /// What was known of it when it was cut.
    pub forecast: Forecast,
    /// True if the batch failed.
    pub failed: bool,
    /// True if the batch failed and is run again in halves. Its tasks are not over: `tasks` is empty, and
    /// they come again with the halves.
    pub taken_apart: bool,
    /// Tasks that got their outputs with this batch.
    pub tasks_succeeded: usize,
    /// Tasks that got an error with this batch.
    pub tasks_failed: usize,
    /// How the block's training stands after a backward pass; `None` for others.
    pub training: Option<Training>,
    /// What came of the batch's verification; `None` for a batch that was not verified.
    pub verified: Option<Verified>,
}

impl<'a> BatchEvent<'a> {
    /// Returns the device time that was expected, if any was.
    pub fn predicted(&self) -> Option<Duration> {
        self.forecast.price.map(|price| price.of(self.rows))
    }

    /// Creates the event of a batch that was over as soon as it was cut, with nothing to report yet: set the other
    /// fields. For runtimes, and for whoever tests an observer.
    pub fn new(pool: PoolId, pass: Pass, tasks: &'a [TaskHeader], cut: Instant) -> Self {
        Self {
            pool,
            pass,
            rows: 0,
            tasks,
            cut,
            gather: Duration::ZERO,
            device: Duration::ZERO,
            scatter: Duration::ZERO,
            done: cut,
            forecast: Forecast::default(),
            failed: false,
            taken_apart: false,
            tasks_succeeded: 0,
            tasks_failed: 0,
            training: None,
            verified: None,
        }
    }
}

/// One try to bring a block back that had left the device for others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reloaded<'a> {
    /// The block's name.
    pub block: &'a str,
    /// The time that it took to make the block again and to load it, on the porter's thread.
    pub took: Duration,
    /// True if it failed.
    pub failed: bool,
}

impl<'a> Reloaded<'a> {
    /// Creates the event of a block that is back at once. For tests of observers.
    pub fn new(block: &'a str) -> Self {
        Self { block, took: Duration::ZERO, failed: false }
    }
}

/// The reason why tasks that had been cut were answered without being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unrun {
    /// Their deadline passed while their batch waited for the device.
    Expired,
    /// The runtime stopped first, or its device was lost.
    ShutDown,
    /// Their tensors could not be cut out of those of the task that they are part of.
    Failed,
}

/// An observer of a runtime's work. Called on the runtime's threads, outside its locks: be quick.
///
/// A panic in an observer is caught and logged; it does not touch the tasks. An observer implements what it wants to hear
/// of.
pub trait Observer: Send + Sync + 'static {
    /// Hears that the runtime starts. Its pools follow, one [`pool_added`](Self::pool_added) each.
    fn started(&self, device: &str, at: Instant) {
        let _ = (device, at);
    }

    /// Hears that the runtime feeds from a pool, before the first event of that pool. Called on the thread that adds the
    /// pool, if the runtime has started before.
    fn pool_added(&self, pool: PoolId, meter: Arc<dyn Meter>) {
        let _ = (pool, meter);
    }

    /// Hears that the runtime feeds from a pool no more: the last event of that pool has been. Its place, but not its
    /// whole id, may be another pool's later, or already: this is told when the pool is gone.
    fn pool_removed(&self, pool: PoolId) {
        let _ = pool;
    }

    /// Hears that a batch is over.
    fn batch(&self, event: &BatchEvent<'_>) {
        let _ = event;
    }

    /// Hears that `tasks` tasks of `pool` that had been cut were answered without being run.
    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize) {
        let _ = (pool, why, tasks);
    }

    /// Hears that a block was brought back onto the device, or could not be
    /// ([`RuntimeBuilder::budget`](crate::RuntimeBuilder::budget)). Comes before the first batch of the block, and before
    /// tasks are answered that waited for it in vain.
    fn reloaded(&self, event: &Reloaded<'_>) {
        let _ = event;
    }

    /// Hears that the device is lost: every task has its answer, and the pools are not the runtime's any more. Their
    /// counts, as the runtime's meters give them, are those of the loss for good. Comes before [`stopped`](Self::stopped), which does
    /// not come at all if the device thread never returns.
    fn lost(&self, loss: &DeviceLoss) {
        let _ = loss;
    }

    /// Hears that the runtime has stopped: nothing more will come.
    fn stopped(&self, at: Instant) {
        let _ = at;
    }
}
