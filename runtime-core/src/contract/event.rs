//! Events: one per batch, for whoever observes a runtime.
//!
//! Counts that belong to waiting tasks (submitted, refused, cancelled, expired in the queue) are kept by
//! the pool under the lock that it holds anyway, and read through [`Meter::counts`](crate::Meter::counts).

use crate::contract::backend::{Pass, Training};
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::id::PoolId;
use crate::contract::meter::Meter;
use crate::contract::task::TaskHeader;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
}

impl<'a> BatchEvent<'a> {
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
            failed: false,
            taken_apart: false,
            tasks_succeeded: 0,
            tasks_failed: 0,
            training: None,
        }
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
