//! What the loop needs of a queue.
//!
//! `skep-pool` has the queue that applications use; this contract is for those who bring their own.

use crate::device::Device;
use crate::error::DeviceLoss;
use crate::priority::Urgency;
use crate::runtime::Doorbell;
use crate::ticket::{Reply, Settled};
use std::fmt;
use std::time::Instant;

/// Which pool of a runtime: its position in the order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

impl PoolId {
    /// The position as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", self.0)
    }
}

/// What a pool has counted since it was made, or taken over by another runtime. Every task that was ever submitted is `refused`, `cancelled`,
/// `expired`, `shut_down`, still waiting, or was cut into a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that callers handed in, the refused ones included.
    pub submitted: u64,
    /// Tasks given back at once.
    pub refused: u64,
    /// Tasks whose ticket was dropped before they were cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they were cut.
    pub expired: u64,
    /// Tasks given up before they were cut, at shutdown or because the device was lost.
    pub shut_down: u64,
    /// Tasks waiting now.
    pub waiting: u64,
    /// Rows waiting now.
    pub waiting_rows: u64,
}

/// The name and the counts of a pool, without its tensor type.
pub trait Meter: Send + Sync {
    /// The pool's name.
    fn name(&self) -> &str;

    /// The counts at this moment.
    fn counts(&self) -> Counts;
}

/// What a pool says when the loop looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A batch can be cut now, and this is how urgent it is.
    Ready(Urgency),
    /// Tasks wait for company; look again at this time, unless the pool rings earlier.
    At(Instant),
    /// Nothing to do until the pool rings.
    Idle,
}

/// How the runtime treats batches of a pool that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRules {
    /// Whether a forward batch that failed is run again in halves, and these in halves again, until the
    /// tasks that make it fail are alone: only they get the error. A batch of `n` tasks one of which fails
    /// costs at most `2 log2(n)` further runs. A backward pass is never run again, because it may have
    /// changed the block.
    ///
    /// When eight tasks of a batch have failed alone and no part of it has succeeded, the block is taken to
    /// be broken, and the rest of the batch gets its error.
    pub rerun: bool,
    /// Whether outputs that are not finite count as a failure of the batch. Costs a look at each element.
    pub check_finite: bool,
}

impl Default for FailureRules {
    fn default() -> Self {
        Self { rerun: true, check_finite: false }
    }
}

/// How a runtime, and with it each pool, is closed. Either way it takes no more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Waiting tasks are still to run, without waiting for company.
    Drain,
    /// Waiting tasks are answered with [`TaskError::ShutDown`](crate::TaskError::ShutDown) at once.
    Abort,
}

/// One task of a batch.
pub struct BatchTask<T> {
    /// Its rows in the batch.
    pub rows: usize,
    /// When it was submitted.
    pub submitted: Instant,
    /// When it expires if it has not started to run.
    pub deadline: Option<Instant>,
    /// Where its outputs go.
    pub reply: Reply<T>,
}

/// Tasks that run together. The runtime answers each of them.
pub struct Batch<T> {
    /// For each input of the block, the tasks' tensors in the tasks' order.
    pub inputs: Vec<Vec<T>>,
    /// The tasks, in the order of their rows.
    pub tasks: Vec<BatchTask<T>>,
    /// For each task an empty vector for its outputs: the one that its inputs came in, say. That spares an allocation,
    /// and freeing on one thread what another has allocated. None where there are none.
    pub vectors: Vec<Vec<T>>,
}

/// A queue of tasks for one pass of one block.
///
/// The runtime calls a pool from its own threads. No method may wait. [`look`](Self::look) and
/// [`cut`](Self::cut) are called while the choice of the next batch is locked: they must not call back into
/// the runtime, nor wake or answer anybody, since a waker is code of others.
pub trait Pool<D: Device>: Meter {
    /// Gives the pool its doorbell when the runtime starts. A pool that was [lost](Self::lose) takes tasks
    /// again, for this runtime. From then on the pool rings whenever an
    /// earlier answer of [`look`](Self::look) would now be too late: at least when it goes from empty to
    /// non-empty, and when a more urgent task arrives.
    fn attach(&self, doorbell: Doorbell);

    /// Whether a batch can be cut now, and how urgent it is.
    fn look(&self, now: Instant) -> Look;

    /// How batches that fail are treated. Asked once, when the pool is registered.
    fn failure_rules(&self) -> FailureRules {
        FailureRules::default()
    }

    /// Cuts the most urgent batch, of at most `most_rows` rows: the device has no room for more at the
    /// moment. A single task of more rows is cut all the same, alone. `None` when there is none after all.
    fn cut(&self, now: Instant, most_rows: usize) -> Option<Batch<D::Tensor>>;

    /// Cuts a batch if the pool is as urgent as `expected`, and says how it looks now. A pool that is as urgent
    /// and gives nothing must not look ready. For pools that can do all this at less cost than
    /// [`look`](Self::look), [`cut`](Self::cut), `look`, which is what it does otherwise.
    fn cut_if(&self, expected: Urgency, now: Instant, most_rows: usize) -> (Option<Batch<D::Tensor>>, Look) {
        let look = self.look(now);
        if look != Look::Ready(expected) {
            return (None, look);
        }
        let batch = self.cut(now, most_rows);
        match self.look(now) {
            // It is left alone until it rings.
            Look::Ready(_) if batch.is_none() => (None, Look::Idle),
            look => (batch, look),
        }
    }

    /// Called after each cut, outside of all locks: the place to wake callers who wait for room.
    fn after_cut(&self) {}

    /// Answers the waiting tasks whose deadline has passed, and says when the next one passes.
    fn expire(&self, now: Instant) -> Option<Instant>;

    /// Takes no more tasks from now on. Called again with [`Shutdown::Abort`] when a drain is cut short, and
    /// when one of the other methods panicked: then its tasks must not wait for what will not come.
    fn close(&self, how: Shutdown);

    /// The runtime has lost its device and will not touch the pool again: settles the waiting tasks with
    /// [`TaskError::DeviceLost`](crate::TaskError::DeviceLost), and takes none until another runtime
    /// [attaches](Self::attach) itself. The runtime delivers the answers once everything is counted. A pool
    /// that cannot be taken over closes.
    fn lose(&self, loss: &DeviceLoss) -> Vec<Settled<D::Tensor>> {
        let _ = loss;
        self.close(Shutdown::Abort);
        Vec::new()
    }
}
