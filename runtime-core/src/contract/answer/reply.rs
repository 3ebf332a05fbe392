//! The runtime's end of an answer.
//!
//! A reply answers its ticket exactly once, by [`Reply::answer`] or [`Settled::deliver`]. One that is dropped on the
//! way, by whatever accident, answers with [`TaskError::ShutDown`], so no caller waits for what will never come.
//!
//! ```
//! use skep_runtime_core::TaskError;
//! use skep_runtime_core::pool::Reply;
//!
//! let (ticket, reply) = Reply::<u8>::pair();
//! std::thread::spawn(move || reply.answer(Ok(vec![7])));
//! assert_eq!(ticket.wait()?, vec![7]);
//!
//! let (ticket, reply) = Reply::<u8>::pair();
//! drop(reply);
//! assert!(matches!(ticket.wait(), Err(TaskError::ShutDown)));
//! # Ok::<(), TaskError>(())
//! ```

use super::cell::{Cancel, Cell, Origin, TaskResult, Wake};
use super::parts::{JoinParts, Parts};
use super::ticket::Ticket;
use crate::contract::error::task::TaskError;
use crate::contract::priority::Priority;
use smallvec::SmallVec;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

/// The promise of one answer, given by [`answer`](Self::answer). Dropping it, the safety net, answers with
/// [`TaskError::ShutDown`].
#[must_use = "dropping the reply answers its ticket with an error"]
pub struct Reply<T> {
    to: Option<To<T>>,
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

enum To<T> {
    Ticket(Arc<Cell<T>>),
    Part(Arc<Parts<T>>, u32),
}

/// The ticket of a task on its way into a queue.
///
/// Only the pool holds it, so only the pool says which of its tasks the ticket cancels. A caller cannot:
///
/// ```compile_fail
/// use skep_runtime_core::pool::Reply;
///
/// let (ticket, _reply) = Reply::<u8>::pair();
/// ticket.queued(3, std::time::Duration::ZERO); // of a stranger's task
/// ```
#[must_use = "the caller waits for the ticket"]
pub struct Unqueued<T>(Ticket<T>);

impl<T> fmt::Debug for Unqueued<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unqueued").field(&self.0).finish()
    }
}

impl<T> Unqueued<T> {
    /// Notes the task's number in its queue, by which dropping the ticket cancels it, and the time that a thread that
    /// waits looks for the answer before it sleeps: as long as [`Doorbell::spin`](super::super::doorbell::Doorbell::spin)
    /// returns if no other task waits in the pool, so that this one may be answered soon; else not at all.
    #[inline]
    pub fn queued(&self, seq: u64, spin: Duration) {
        if let Some(origin) = &self.0.0.origin {
            origin.queued(seq, spin);
        }
    }

    /// Returns the ticket, for the caller.
    #[inline]
    pub fn into_ticket(self) -> Ticket<T> {
        self.0
    }
}

impl<T> Reply<T> {
    /// Creates a ticket and the reply that answers it.
    pub fn pair() -> (Ticket<T>, Self) {
        Self::with_origin(None)
    }

    /// Creates the same for a task of a pool, which notes with [`Unqueued::queued`] that it is in its queue.
    #[inline]
    pub fn pair_in(pool: Weak<dyn Cancel>, priority: Priority) -> (Unqueued<T>, Self) {
        let (ticket, reply) = Self::with_origin(Some(Origin::new(pool, priority)));
        (Unqueued(ticket), reply)
    }

    #[inline]
    fn with_origin(origin: Option<Origin>) -> (Ticket<T>, Self) {
        let cell = Arc::new(Cell::new(origin));
        (Ticket(Arc::clone(&cell)), Self { to: Some(To::Ticket(cell)) })
    }

    /// Splits the reply into those of `parts` parts of the task: the ticket gets what `join` makes of the outputs of
    /// all, or the first error. A reply that is one of a part's already comes back alone.
    pub fn split(mut self, parts: usize, join: JoinParts<T>) -> Vec<Self> {
        match self.to.take() {
            Some(To::Ticket(cell)) => {
                let parts_of = Arc::new(Parts::new(cell, parts, join));
                (0..).take(parts).map(|i| Self { to: Some(To::Part(Arc::clone(&parts_of), i)) }).collect()
            }
            to => vec![Self { to }],
        }
    }

    /// Returns true if this is the reply of a part whose task has been answered already, because another part
    /// failed or the task was cancelled. Running the part would help nobody.
    pub fn is_void(&self) -> bool {
        match &self.to {
            Some(To::Part(parts, _)) => parts.is_over(),
            Some(To::Ticket(_)) | None => false,
        }
    }

    /// Returns true if this is the reply of a part of a task.
    pub fn is_part(&self) -> bool {
        matches!(self.to, Some(To::Part(..)))
    }

    /// Answers.
    pub fn answer(self, result: TaskResult<T>) {
        if let Some(settled) = self.settle(result) {
            settled.deliver();
        }
    }

    /// Fixes the answer without telling the caller yet. Returns `None` if other parts of the task are still
    /// missing, or the task has been answered already.
    #[inline]
    pub fn settle(mut self, result: TaskResult<T>) -> Option<Settled<T>> {
        let (cell, result) = match self.to.take()? {
            To::Ticket(cell) => (cell, result),
            To::Part(parts, part) => parts.settle(part as usize, result)?,
        };
        Some(Settled { cell, result: Some(result) })
    }
}

impl<T> Drop for Reply<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            Self { to: Some(to) }.answer(Err(TaskError::ShutDown));
        }
    }
}

/// An answer that is fixed and not yet delivered: see [`deliver`](Self::deliver). Dropping it, the safety net, delivers
/// it too.
#[must_use = "deliver the answer"]
pub struct Settled<T> {
    cell: Arc<Cell<T>>,
    result: Option<TaskResult<T>>,
}

impl<T> fmt::Debug for Settled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("is_ok", &self.is_ok()).finish_non_exhaustive()
    }
}

impl<T> Settled<T> {
    /// Returns true if the task succeeded.
    pub fn is_ok(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    /// Completes the ticket.
    #[inline]
    pub fn deliver(mut self) {
        if let Some(result) = self.result.take() {
            self.cell.complete(result);
        }
    }

    /// Completes all tickets, and only then wakes who waits for them: a caller with several tasks in the
    /// batch finds all of its answers when it wakes, instead of going to sleep again for each.
    #[inline]
    pub fn deliver_all(settled: &mut [Self]) {
        let mut wakes: SmallVec<[Wake; 8]> = SmallVec::new();
        for settled in settled {
            if let Some(result) = settled.result.take() {
                wakes.extend(settled.cell.complete(result));
            }
        }
    }
}

impl<T> Settled<T> {
    /// Completes all tickets and wakes the threads that wait for them. Wakers, which are code of others, come back, to
    /// be woken by a thread that may wait.
    pub(crate) fn complete_all(settled: &mut [Self]) -> Vec<Waker> {
        let results = settled.iter_mut().filter_map(|settled| Some((&settled.cell, settled.result.take()?)));
        results.filter_map(|(cell, result)| cell.complete(result)?.into_waker()).collect()
    }
}

impl<T> Drop for Settled<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            self.cell.complete(result);
        }
    }
}
