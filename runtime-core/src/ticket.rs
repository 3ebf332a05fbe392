//! The two ends of one answer: the caller's [`Ticket`] and the runtime's [`Reply`].
//!
//! A reply answers its ticket exactly once. One that is dropped on the way, by whatever accident, answers
//! with [`TaskError::ShutDown`], so no caller waits for what will never come.
//!
//! ```
//! use skep_runtime_core::{Reply, TaskError};
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

use crate::error::TaskError;
use crate::priority::Priority;
use crate::runtime::{RuntimeId, on_thread_of};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::spin::Spin;
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, guarded};
use smallvec::SmallVec;
use std::cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The outputs of a task, in the order of the block's schema, or why there are none.
pub type TaskResult<T> = Result<Vec<T>, TaskError>;

/// Where a waiting task stands in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The task's priority.
    pub priority: Priority,
    /// Its number in the order of submission to its pool.
    pub seq: u64,
}

/// What a pool does for the ticket of a waiting task.
pub trait Cancel: Send + Sync {
    /// The ticket was dropped: take the task out of the queue if it is still there.
    fn cancel(&self, task: TaskKey);

    /// The runtime that will answer, once there is one.
    fn runtime(&self) -> Option<RuntimeId>;
}

/// The claim to one answer.
///
/// Wait for it ([`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout)), `.await` it on any executor,
/// or drop it: that cancels the task if it has not been cut into a batch yet.
///
/// It is one pointer, so that it costs little to hand on.
#[must_use = "dropping the ticket cancels the task"]
pub struct Ticket<T>(Arc<Cell<T>>);

/// What both ends share.
struct Cell<T> {
    state: Mutex<State<T>>,
    /// The answer is there, or was: what a thread that spins reads, because the lock is for whoever brings it.
    done: AtomicBool,
    origin: Option<Origin>,
}

/// Where a task waits.
struct Origin {
    /// Not counted among the pool's holders: the pool holds the other end.
    pool: Weak<dyn Cancel>,
    priority: Priority,
    /// [`UNQUEUED`](Self::UNQUEUED) before it is in the queue. Written by whoever makes the ticket, before anybody else
    /// has it.
    seq: AtomicU64,
    /// How long a thread that waits looks for the answer before it sleeps, in µs.
    spin: AtomicU32,
}

impl Origin {
    const UNQUEUED: u64 = u64::MAX;

    fn key(&self) -> Option<TaskKey> {
        let seq = self.seq.load(Relaxed);
        (seq != Self::UNQUEUED).then_some(TaskKey { priority: self.priority, seq })
    }
}

enum State<T> {
    Pending(Waiter),
    Done(TaskResult<T>),
    Taken,
}

enum Waiter {
    Nobody,
    Thread(Thread),
    Task(Waker),
}

impl<T> Cell<T> {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Takes the answer if it is there, else leaves `waiter` to be woken by it.
    #[inline]
    fn take_or_wait(&self, waiter: impl FnOnce(&mut Waiter)) -> Option<TaskResult<T>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Pending(current) => {
                waiter(current);
                None
            }
            State::Done(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => Some(result),
                State::Pending(_) | State::Taken => None,
            },
            // A future polled again after it was ready: there is no second answer.
            State::Taken => Some(Err(TaskError::Cancelled)),
        }
    }

    #[inline]
    fn complete(&self, result: TaskResult<T>) -> Option<Wake> {
        let mut state = self.state.lock();
        let wake = match &mut *state {
            State::Pending(waiter @ (Waiter::Thread(_) | Waiter::Task(_))) => {
                Some(Wake(std::mem::replace(waiter, Waiter::Nobody)))
            }
            State::Pending(Waiter::Nobody) | State::Done(_) | State::Taken => None,
        };
        *state = State::Done(result);
        drop(state);
        self.done.store(true, Ordering::Release);
        wake
    }
}

/// Whom a completed ticket wakes, when this is dropped.
struct Wake(Waiter);

impl Drop for Wake {
    #[inline]
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Waiter::Nobody) {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Task(waker) => {
                if let Err(message) = guarded(|| waker.wake()) {
                    tracing::error!(message, "waker of a ticket panicked");
                }
            }
            Waiter::Nobody => {}
        }
    }
}

impl<T> Ticket<T> {
    /// For the pool of [`Reply::pair_in`]: gives the task's number in its queue, by which dropping this ticket cancels
    /// it, and for how long a thread that waits looks for the answer before it sleeps: as long as
    /// [`Doorbell::spin`](crate::Doorbell::spin) says where no other task waits in the pool, so that this one may be
    /// answered soon; else not at all.
    #[inline]
    pub fn queued(&self, seq: u64, spin: Duration) {
        if let Some(origin) = &self.0.origin {
            origin.seq.store(seq, Relaxed);
            origin.spin.store(u32::try_from(spin.as_micros()).unwrap_or(u32::MAX), Relaxed);
        }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// Why the task has no outputs. On a thread of the runtime that is to answer, an answer that is not
    /// there yet is [`TaskError::WouldDeadlock`], and the task is cancelled.
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

    /// Waits for the answer for at most `limit`. `None` means that it is not there yet; the ticket stays
    /// valid. After an answer was returned, further calls return [`TaskError::Cancelled`].
    pub fn wait_timeout(&mut self, limit: Duration) -> Option<TaskResult<T>> {
        let until = Instant::now().checked_add(limit);
        self.spin(limit);
        loop {
            if let Some(result) = self.take_or_park() {
                return Some(result);
            }
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Looks for the answer for at most `limit`, where it may come soon.
    #[inline]
    fn spin(&self, limit: Duration) {
        thread_local! {
            static SPIN: cell::Cell<Spin> = const { cell::Cell::new(Spin::new()) };
        }
        let Some(origin) = &self.0.origin else { return };
        let spin = Duration::from_micros(origin.spin.load(Relaxed).into()).min(limit);
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
            && let Some(task) = origin.key()
            && let Some(pool) = origin.pool.upgrade()
        {
            pool.cancel(task);
        }
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("done", &self.0.is_done()).finish_non_exhaustive()
    }
}

/// Joins the outputs of a task's parts, given in the parts' order.
pub type JoinParts<T> = Box<dyn Fn(Vec<Vec<T>>) -> TaskResult<T> + Send + Sync>;

/// The promise of one answer. Dropping it answers with [`TaskError::ShutDown`].
#[must_use = "dropping the reply answers its ticket with an error"]
pub struct Reply<T> {
    to: Option<To<T>>,
}

enum To<T> {
    Ticket(Arc<Cell<T>>),
    Part(Arc<Whole<T>>, u32),
}

/// A task that runs as several parts.
struct Whole<T> {
    state: Mutex<WholeState<T>>,
    join: JoinParts<T>,
}

struct WholeState<T> {
    /// `None` once the task has been answered.
    reply: Option<Reply<T>>,
    parts: Vec<Option<Vec<T>>>,
    missing: usize,
}

impl<T> Reply<T> {
    /// A ticket and the reply that answers it.
    pub fn pair() -> (Ticket<T>, Self) {
        Self::with_origin(None)
    }

    /// The same for a task of a pool, which says with [`Ticket::queued`] when it is in its queue.
    #[inline]
    pub fn pair_in(pool: Weak<dyn Cancel>, priority: Priority) -> (Ticket<T>, Self) {
        let (seq, spin) = (AtomicU64::new(Origin::UNQUEUED), AtomicU32::new(0));
        Self::with_origin(Some(Origin { pool, priority, seq, spin }))
    }

    #[inline]
    fn with_origin(origin: Option<Origin>) -> (Ticket<T>, Self) {
        let state = Mutex::new(State::Pending(Waiter::Nobody));
        let cell = Arc::new(Cell { state, done: AtomicBool::new(false), origin });
        (Ticket(Arc::clone(&cell)), Self { to: Some(To::Ticket(cell)) })
    }

    /// Answers for `parts` parts of the task: the ticket gets what `join` makes of the outputs of all, or
    /// the first error.
    pub fn split(self, parts: usize, join: JoinParts<T>) -> Vec<Self> {
        let state = WholeState {
            reply: Some(self),
            parts: std::iter::repeat_with(|| None).take(parts).collect(),
            missing: parts,
        };
        let whole = Arc::new(Whole { state: Mutex::new(state), join });
        (0..).take(parts).map(|i| Self { to: Some(To::Part(Arc::clone(&whole), i)) }).collect()
    }

    /// Whether this is the reply of a part whose task has been answered already, because another part
    /// failed or the task was cancelled. Running the part would help nobody.
    pub fn is_void(&self) -> bool {
        match &self.to {
            Some(To::Part(whole, _)) => whole.state.lock().reply.is_none(),
            Some(To::Ticket(_)) | None => false,
        }
    }

    /// Whether this is the reply of a part of a task.
    pub fn is_part(&self) -> bool {
        matches!(self.to, Some(To::Part(..)))
    }

    /// Answers.
    pub fn answer(self, result: TaskResult<T>) {
        if let Some(settled) = self.settle(result) {
            settled.deliver();
        }
    }

    /// Fixes the answer without telling the caller yet. `None` when other parts of the task are still
    /// missing, or the task has been answered already.
    #[inline]
    pub fn settle(mut self, result: TaskResult<T>) -> Option<Settled<T>> {
        match self.to.take()? {
            To::Ticket(cell) => Some(Settled { cell, result: Some(result) }),
            To::Part(whole, part) => whole.settle(part as usize, result),
        }
    }
}

impl<T> Whole<T> {
    #[inline]
    fn settle(&self, part: usize, result: TaskResult<T>) -> Option<Settled<T>> {
        let (reply, result) = {
            let mut state = self.state.lock();
            match result {
                Err(error) => (state.reply.take()?, Err(error)),
                Ok(outputs) => {
                    state.parts[part] = Some(outputs);
                    state.missing -= 1;
                    if state.missing > 0 {
                        return None;
                    }
                    (state.reply.take()?, Ok(std::mem::take(&mut state.parts)))
                }
            }
        };
        reply.settle(result.and_then(|parts| (self.join)(parts.into_iter().flatten().collect())))
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

/// An answer that is fixed and not yet delivered. Dropping it delivers it.
pub struct Settled<T> {
    cell: Arc<Cell<T>>,
    result: Option<TaskResult<T>>,
}

impl<T> Settled<T> {
    /// Whether the task succeeded.
    pub fn is_ok(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    /// Completes the ticket.
    #[inline]
    pub fn deliver(self) {}

    /// Completes all tickets, and only then wakes who waits for them: a caller with several tasks in the
    /// batch finds all of its answers when it wakes, instead of going to sleep again for each.
    #[inline]
    pub(crate) fn deliver_all(settled: &mut [Self]) {
        let mut wakes: SmallVec<[Wake; 8]> = SmallVec::new();
        for settled in settled {
            if let Some(result) = settled.result.take() {
                wakes.extend(settled.cell.complete(result));
            }
        }
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
