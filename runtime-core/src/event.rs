//! What the runtime tells about its work: one event per batch.
//!
//! Counts that belong to waiting tasks (submitted, refused, cancelled, expired in the queue) are kept by
//! the pool under the lock that it holds anyway, and read through [`Meter::counts`](crate::Meter::counts).

use crate::device::Pass;
use crate::error::DeviceLoss;
use crate::pool::{Meter, PoolId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One batch that is over.
///
/// The tickets are completed right **after** the event: who has an answer finds it counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchEvent<'a> {
    /// The pool that the batch was cut from.
    pub pool: PoolId,
    /// Forward or backward.
    pub pass: Pass,
    /// Rows that ran.
    pub rows: usize,
    /// For each task in the batch, when it was submitted. A task that was split over several batches
    /// stands in each of them.
    pub submitted: &'a [Instant],
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
    /// Whether the batch failed.
    pub failed: bool,
    /// Whether the batch failed and is run again in parts. Its tasks are not over: `submitted` is empty, and
    /// they come again with the parts.
    pub taken_apart: bool,
    /// Tasks that got their outputs with this batch.
    pub tasks_succeeded: usize,
    /// Tasks that got an error with this batch.
    pub tasks_failed: usize,
}

impl<'a> BatchEvent<'a> {
    /// A batch that was over as soon as it was cut, with nothing to tell yet: set the other fields.
    /// For runtimes, and for whoever tests an observer.
    pub fn new(pool: PoolId, pass: Pass, submitted: &'a [Instant], cut: Instant) -> Self {
        Self {
            pool,
            pass,
            rows: 0,
            submitted,
            cut,
            gather: Duration::ZERO,
            device: Duration::ZERO,
            scatter: Duration::ZERO,
            done: cut,
            failed: false,
            taken_apart: false,
            tasks_succeeded: 0,
            tasks_failed: 0,
        }
    }
}

/// Why tasks that had been cut were answered without being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unrun {
    /// Their deadline passed while their batch waited for the device.
    Expired,
    /// The runtime stopped first, or its device was lost.
    ShutDown,
}

/// Who is told of the runtime's work. Called on the runtime's threads, outside its locks: be quick.
///
/// A panic in an observer is caught and logged; it does not touch the tasks.
pub trait Observer: Send + Sync + 'static {
    /// The runtime has started. `pools` are all its pools, at the index of their [`PoolId`].
    fn started(&self, device: &str, at: Instant, pools: &[Arc<dyn Meter>]);

    /// A batch is over.
    fn batch(&self, event: &BatchEvent<'_>);

    /// `tasks` tasks of `pool` that had been cut were answered without being run.
    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize);

    /// The device is lost, every task is about to get its answer, and the pools will not be the runtime's any
    /// more: this is the time to read their counts for good. Comes before [`stopped`](Self::stopped), which does not come at
    /// all if the device thread never returns.
    fn lost(&self, loss: &DeviceLoss) {
        let _ = loss;
    }

    /// The runtime has stopped: nothing more will come.
    fn stopped(&self, at: Instant);
}
