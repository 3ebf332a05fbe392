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

use super::cell::{AfterAnswer, Cancel, Cell, Origin, TaskKey, TaskResult, Wake};
use super::parts::{JoinParts, Parts, To};
use super::ticket::Ticket;
use crate::contract::error::task::TaskError;
use crate::sync::guarded;
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

impl<T> Reply<T> {
    /// Creates a ticket and the reply that answers it.
    pub fn pair() -> (Ticket<T>, Self) {
        Self::with_origin(None)
    }

    /// Creates the same for a task of a pool, which notes with [`queued`](Self::queued) that it is in its queue.
    #[inline]
    pub fn pair_in(pool: Weak<dyn Cancel>) -> (Ticket<T>, Self) {
        Self::with_origin(Some(Origin::new(pool)))
    }

    #[inline]
    fn with_origin(origin: Option<Origin>) -> (Ticket<T>, Self) {
        let cell = Arc::new(Cell::new(origin));
        (Ticket(Arc::clone(&cell)), Self { to: Some(To::Ticket(cell)) })
    }

    /// Notes the task's position in its queue, by which dropping the ticket cancels it; and the
    /// time that a thread that waits looks for the answer before it sleeps: as long as
    /// [`Doorbell::spin`](super::super::doorbell::Doorbell::spin) returns if no other task waits in the pool, so that
    /// this one may be answered soon; else not at all.
    ///
    /// Only the pool holds the reply, so only the pool says which of its tasks the ticket cancels. To be called under
    /// the lock under which the pool hears of cancelled tasks.
    #[inline]
    pub fn queued(&self, task: TaskKey, spin: Duration) {
        if let Some(To::Ticket(cell)) = &self.to {
            cell.queued(task, spin);
        }
    }

    /// Makes the reply that of a task that is answered in parts: the ticket gets what `join` makes of the outputs of
    /// all, in the order in which they are [taken off](Self::split_off), or the first error.
    ///
    /// ```
    /// use skep_runtime_core::pool::Reply;
    ///
    /// let (ticket, reply) = Reply::<u8>::pair();
    /// let mut rest = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
    /// let first = rest.split_off();
    /// rest.answer(Ok(vec![2]));
    /// assert!(!ticket.is_done());
    /// first.answer(Ok(vec![1]));
    /// assert_eq!(ticket.wait()?, [1, 2]);
    /// # Ok::<(), skep_runtime_core::TaskError>(())
    /// ```
    pub fn in_parts(mut self, join: JoinParts<T>) -> Self {
        let to = match self.to.take() {
            Some(To::Ticket(cell)) => Some(To::Part(Arc::new(Parts::new(cell, join)), 0)),
            to => to,
        };
        Self { to }
    }

    /// Takes the reply of the next part off; this one stays that of the rest. All of it comes off, and nothing stays, if
    /// it is not answered in parts.
    pub fn split_off(&mut self) -> Self {
        match &mut self.to {
            Some(To::Part(parts, at)) => {
                let part = To::Part(Arc::clone(parts), *at);
                *at = parts.go_on();
                Self { to: Some(part) }
            }
            whole => Self { to: whole.take() },
        }
    }

    /// Takes the reply of a part apart into those of its first rows and of its last, which make one answer as all parts
    /// do.
    ///
    /// # Errors
    ///
    /// Returns the reply if it is not that of a part.
    pub(crate) fn halve(mut self) -> Result<[Self; 2], Self> {
        match self.to.take() {
            Some(To::Part(parts, part)) => Ok(parts.halve(part).map(|to| Self { to: Some(to) })),
            to => Err(Self { to }),
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

    /// Returns where the outputs of the part go, if this is the reply of one.
    pub(crate) fn part(&self) -> Option<Part<T>> {
        match &self.to {
            Some(To::Part(parts, part)) => Some(Part(Arc::clone(parts), *part)),
            Some(To::Ticket(_)) | None => None,
        }
    }

    /// Fixes the answer of the task that this is the reply of a part of, or lets the others answer it if there is none.
    pub(crate) fn settle_whole(mut self, result: Option<TaskResult<T>>) -> Option<Settled<T>> {
        let to = self.to.take();
        let result = result?;
        match to? {
            To::Ticket(cell) => Some(Settled { cell, result: Some(result), in_parts: false }),
            To::Part(parts, _) => Some(Settled { cell: parts.take()?, result: Some(result), in_parts: true }),
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
        let (cell, result, in_parts) = match self.to.take()? {
            To::Ticket(cell) => (cell, result, false),
            To::Part(parts, part) => {
                let result = match result {
                    Ok(outputs) => parts.put(part, outputs)?,
                    error => error,
                };
                (parts.take()?, result, true)
            }
        };
        Some(Settled { cell, result: Some(result), in_parts })
    }
}

/// Where the outputs of a part go, while its reply stays within the reach of others: joining them is code of others, which
/// may hang.
pub(crate) struct Part<T>(Arc<Parts<T>>, u32);

impl<T> Part<T> {
    /// Takes the part's outputs. Returns what becomes of the task if they are the last.
    pub(crate) fn put(self, outputs: Vec<T>) -> Option<TaskResult<T>> {
        self.0.put(self.1, outputs)
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
    /// Others of its task's parts may be on their way.
    in_parts: bool,
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

    /// Completes the ticket. To be called outside of all locks, as the other ways to deliver it.
    #[inline]
    pub fn deliver(mut self) {
        self.complete();
    }

    /// Completes all tickets, and only then wakes who waits for them: a caller with several tasks in the
    /// batch finds all of its answers when it wakes, instead of going to sleep again for each.
    #[inline]
    pub fn deliver_all(settled: &mut [Self]) {
        let mut wakes: SmallVec<[Wake; 8]> = SmallVec::new();
        for settled in settled {
            // Pushed, because extending by an option costs more: measured.
            if let Some(wake) = settled.complete() {
                wakes.push(wake);
            }
        }
    }

    /// Completes all tickets and wakes the threads that wait for them. What is code of others comes back, to be run by
    /// a thread that may wait.
    pub(crate) fn complete_all(settled: &mut [Self]) -> After {
        let mut after = After::default();
        for settled in settled {
            let (wake, rest) = settled.complete_first();
            after.wakers.extend(wake.and_then(Wake::into_waker));
            after.rest.extend(rest);
        }
        after
    }

    #[inline]
    fn complete(&mut self) -> Option<Wake> {
        if !self.in_parts {
            return self.cell.complete(self.result.take()?);
        }
        let (wake, rest) = self.complete_first();
        if let Some(rest) = rest {
            rest();
        }
        wake
    }

    /// Completes the ticket, and returns what remains to be done.
    fn complete_first(&mut self) -> (Option<Wake>, Option<AfterAnswer>) {
        let Some(result) = self.result.take() else { return (None, None) };
        if !self.in_parts || result.is_ok() {
            return (self.cell.complete(result), None);
        }
        let rest = self.cell.origin.as_ref().and_then(|origin| origin.tell(|pool, task| pool.forget(task)));
        (self.cell.complete(result), rest.flatten())
    }
}

impl<T> Drop for Settled<T> {
    #[inline]
    fn drop(&mut self) {
        self.complete();
    }
}

/// The rest of the work once answers are given: code of others.
#[derive(Default)]
pub(crate) struct After {
    wakers: Vec<Waker>,
    rest: Vec<AfterAnswer>,
}

impl After {
    pub(crate) fn append(&mut self, mut other: Self) {
        self.wakers.append(&mut other.wakers);
        self.rest.append(&mut other.rest);
    }

    /// Does it, on a thread that may wait.
    pub(crate) fn run(self) {
        for waker in self.wakers {
            guarded(|| waker.wake()).ok();
        }
        for rest in self.rest {
            guarded(rest).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::id::RuntimeId;
    use crate::contract::priority::Priority;
    use crate::contract::rank::Rank;
    use std::sync::{Arc, Mutex, PoisonError};

    /// A queue that notes when it was told that the rest of a task is void, and whether the answer was there.
    #[derive(Default)]
    struct Queue {
        ticket: Mutex<Option<Ticket<u8>>>,
        told: Arc<Mutex<Vec<(&'static str, bool)>>>,
    }

    impl Queue {
        fn is_answered(&self) -> bool {
            self.ticket.lock().unwrap_or_else(PoisonError::into_inner).as_ref().unwrap().is_done()
        }
    }

    impl Cancel for Queue {
        fn cancel(&self, _: TaskKey) {}
        fn forget(&self, _: TaskKey) -> Option<AfterAnswer> {
            let told = Arc::clone(&self.told);
            told.lock().unwrap().push(("forget", self.is_answered()));
            Some(Box::new(move || told.lock().unwrap().push(("after", true))))
        }
        fn runtime(&self) -> Option<RuntimeId> {
            None
        }
    }

    #[test]
    fn a_part_that_is_cut_again_is_one_answer_still() {
        let (ticket, reply) = Reply::<u8>::pair();
        let mut rest = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
        let [first, last] = rest.split_off().halve().unwrap();
        let [middle, end] = last.halve().unwrap();
        rest.answer(Ok(vec![4]));
        end.answer(Ok(vec![3]));
        first.answer(Ok(vec![1]));
        assert!(!ticket.is_done() && !middle.is_void());
        middle.answer(Ok(vec![2]));
        assert_eq!(ticket.wait().unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_half_that_fails_fails_the_task() {
        let (ticket, reply) = Reply::<u8>::pair();
        let mut rest = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
        let [first, last] = rest.split_off().halve().unwrap();
        last.answer(Err(TaskError::Cancelled));
        assert!(first.is_void() && rest.is_void());
        assert!(matches!(ticket.wait(), Err(TaskError::Cancelled)));
        assert!(Reply::<u8>::pair().1.halve().is_err(), "a task that is no part");
    }

    #[test]
    fn the_rest_of_a_task_is_out_of_the_queue_before_its_caller_has_the_answer() {
        let queue = Arc::new(Queue::default());
        let (ticket, reply) = Reply::pair_in(Arc::downgrade(&queue) as Weak<_>);
        let key = TaskKey { rank: Rank::new(Priority::NORMAL, 0), seq: 0, shape: 0 };
        reply.queued(key, Duration::ZERO);
        *queue.ticket.lock().unwrap() = Some(ticket);
        let mut rest = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
        rest.split_off().answer(Err(TaskError::Cancelled));
        assert!(queue.is_answered() && rest.is_void());
        assert_eq!(*queue.told.lock().unwrap(), [("forget", false), ("after", true)]);
    }
}
