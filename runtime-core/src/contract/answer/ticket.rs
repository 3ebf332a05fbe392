//! The caller's end of an answer.

use super::cell::{Cell, Origin, TaskResult, Waiter};
use crate::contract::error::task::TaskError;
use crate::contract::thread_mark::on_thread_of;
use crate::sync::spin::Spin;
use crate::sync::thread;
use std::cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The claim to one answer.
///
/// Wait for it ([`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout)), `.await` it on any executor,
/// or drop it: that cancels the task if it has not been cut into a batch yet; of one that runs in parts, what is left.
///
/// A block that waits for a task of its own runtime would wait for itself: [`wait`](Self::wait) refuses that. An `.await`
/// there cannot be told from one that may go on, so a block that blocks on one hangs.
///
/// It is one pointer, so that it costs little to hand on.
#[must_use = "dropping the ticket cancels the task"]
pub struct Ticket<T>(pub(super) Arc<Cell<T>>);

impl<T> Ticket<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// Returns the reason why the task has no outputs. On a thread of the runtime that is to answer, returns
    /// [`TaskError::WouldDeadlock`] if the answer is not there yet, and cancels the task.
    #[inline]
    pub fn wait(self) -> TaskResult<T> {
        self.spin(Duration::MAX);
        loop {
            if let Some(result) = self.take_or_park() {
                return result;
            }
            thread::park();
        }
    }

    /// Waits for the answer for at most `limit`.
    ///
    /// # Errors
    ///
    /// Returns the ticket if the answer is not there by then.
    pub fn wait_timeout(self, limit: Duration) -> Result<TaskResult<T>, Self> {
        let until = Instant::now().checked_add(limit);
        self.spin(limit);
        loop {
            if let Some(result) = self.take_or_park() {
                return Ok(result);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(self),
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Returns true if the answer is there.
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Cancels the task if it has not been cut into a batch yet, as dropping the ticket does.
    pub fn cancel(self) {}

    /// Looks for the answer for at most `limit`, where it may come soon.
    #[inline]
    fn spin(&self, limit: Duration) {
        thread_local! {
            static SPIN: cell::Cell<Spin> = const { cell::Cell::new(Spin::new()) };
        }
        let spin = self.0.spin().min(limit);
        if !spin.is_zero() && !self.0.is_done() && !self.would_deadlock() {
            let mut patience = SPIN.get();
            patience.until(spin, || self.0.is_done());
            SPIN.set(patience);
        }
    }

    #[inline]
    fn take_or_park(&self) -> Option<TaskResult<T>> {
        let refuse = self.would_deadlock();
        let result = self.0.take_or_wait(|waiter| {
            if !refuse {
                // Always anew: an earlier wait may have been another thread's.
                *waiter = Waiter::Thread(thread::current());
            }
        });
        if result.is_none() && refuse { Some(Err(TaskError::WouldDeadlock)) } else { result }
    }

    #[inline]
    fn would_deadlock(&self) -> bool {
        let runtime = |origin: &Origin| origin.pool.upgrade().and_then(|pool| pool.runtime());
        self.0.origin.as_ref().is_some_and(|origin| on_thread_of(|| runtime(origin)))
    }
}

impl<T> Future for Ticket<T> {
    type Output = TaskResult<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = self.0.take_or_wait(|waiter| match waiter {
            Waiter::Task(waker) => waker.clone_from(context.waker()),
            Waiter::Nobody | Waiter::Thread(_) => *waiter = Waiter::Task(context.waker().clone()),
        });
        result.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Drop for Ticket<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_done()
            && let Some(origin) = &self.0.origin
        {
            origin.tell(|pool, task| pool.cancel(task));
        }
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("done", &self.0.is_done()).finish_non_exhaustive()
    }
}
