//! Batches as pools cut them.

use crate::contract::answer::reply::Reply;
use crate::contract::error::device::DeviceError;
use crate::contract::task::TaskHeader;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One task of a batch.
#[non_exhaustive]
pub struct BatchTask<T> {
    /// The task's header, as it was submitted.
    pub header: TaskHeader,
    /// The reply that gives the task's outputs to its caller.
    pub reply: Reply<T>,
}

impl<T> BatchTask<T> {
    /// Creates the task of a header and the reply that answers it.
    pub const fn new(header: TaskHeader, reply: Reply<T>) -> Self {
        Self { header, reply }
    }
}

impl<T> fmt::Debug for BatchTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchTask").field("header", &self.header).finish_non_exhaustive()
    }
}

/// A task that was cut and that its runtime cannot run any more: its device is lost.
#[non_exhaustive]
pub struct Returned<T> {
    /// The task's header, as it was submitted, or that of a part of a task.
    pub header: TaskHeader,
    /// The reply that gives the task's outputs to its caller.
    pub reply: Reply<T>,
    /// Its tensors, one for each input of the block.
    pub inputs: Vec<T>,
}

impl<T> Returned<T> {
    /// Creates the task of a header, the reply that answers it, and its tensors.
    pub const fn new(header: TaskHeader, reply: Reply<T>, inputs: Vec<T>) -> Self {
        Self { header, reply, inputs }
    }
}

impl<T> fmt::Debug for Returned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Tasks that run together. The runtime answers each of them.
#[non_exhaustive]
pub struct Batch<T> {
    /// For each input of the block a column: the tasks' tensors in the tasks' order, without those of the `pieces`.
    pub columns: Vec<Vec<T>>,
    /// The tasks, in the order of their rows.
    pub tasks: Vec<BatchTask<T>>,
    /// For each task an empty vector for its outputs: the one that its inputs came in, say. That spares an allocation,
    /// and freeing on one thread what another has allocated. None if there are none.
    pub vectors: Vec<Vec<T>>,
    /// The tasks whose tensors are not in the columns yet, in the order of the tasks.
    pub pieces: Vec<Piece<T>>,
    /// True if other runtimes feed from the pool as well and it takes tasks [back](crate::pool::Pool::take_back): then the
    /// runtime keeps the tensors of each task at hand until it is answered.
    pub shared: bool,
}

/// Cuts rows out of each of a task's tensors: one tensor for each input of the block.
pub type SliceRows<T> = Arc<dyn Fn(Range<usize>) -> Result<Vec<T>, DeviceError> + Send + Sync>;

/// A part of a task that is too large for one batch. Its tensors are cut out of the task's when nobody waits for a lock,
/// and in smaller pieces once more if the device has no room for them.
#[non_exhaustive]
pub struct Piece<T> {
    /// The part's place among the tasks of the batch.
    pub place: usize,
    /// Its rows among those of the task.
    pub rows: Range<usize>,
    /// Cuts rows out of the task's tensors.
    pub slice: SliceRows<T>,
}

impl<T> Piece<T> {
    /// Creates the piece of these rows, which is the task at `place` in its batch.
    pub const fn new(place: usize, rows: Range<usize>, slice: SliceRows<T>) -> Self {
        Self { place, rows, slice }
    }
}

impl<T> fmt::Debug for Piece<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("place", &self.place).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<T> Batch<T> {
    /// Creates a batch of whole tasks: their tensors in columns, and the tasks in the same order.
    pub fn new(columns: Vec<Vec<T>>, tasks: Vec<BatchTask<T>>) -> Self {
        Self { columns, tasks, vectors: Vec::new(), pieces: Vec::new(), shared: false }
    }
}

impl<T> fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}
