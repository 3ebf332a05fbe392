//! The place of one answer, which both of its ends share.

use crate::contract::error::task::TaskError;
use crate::contract::id::RuntimeId;
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::Thread;
use crate::sync::{Mutex, guarded, log};
use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64};
use std::task::Waker;
use std::time::Duration;

/// The outputs of a task, in the order of the block's schema, or the reason why there are none.
pub type TaskResult<T> = Result<Vec<T>, TaskError>;

/// The position of a waiting task in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    /// The rank with which it got into the queue.
    pub rank: Rank,
    /// Its number in the order of submission to its pool.
    pub seq: u64,
    /// The number that its pool has given to the task's shape, if it keeps shapes apart; else 0.
    pub shape: u32,
}

/// A pool's side of a ticket.
pub trait Cancel: Send + Sync {
    /// Takes a task, whose ticket was dropped, out of the queue if it is still there, whole or in part.
    fn cancel(&self, task: TaskKey);

    /// Takes what is left of a task out of the queue that is about to be answered, because one of its
    /// [parts](super::reply::Reply::in_parts) failed: whoever has the answer finds the task's room free. Called outside
    /// of all locks, and may not run code of others, which the answer would wait for: returns what remains to be done
    /// once the answer is given.
    fn forget(&self, task: TaskKey) -> Option<AfterAnswer>;

    /// Returns the runtime that will answer, once there is one.
    fn runtime(&self) -> Option<RuntimeId>;
}

/// Frees what a task has left behind, and wakes callers who wait for its room.
pub type AfterAnswer = Box<dyn FnOnce() + Send>;

pub(super) struct Cell<T> {
    state: Mutex<State<T>>,
    /// The answer is there, or was: what a thread that spins reads, because the lock is for whoever brings it.
    done: AtomicBool,
    /// How long a thread that waits looks for the answer before it sleeps, in µs. It stands beside `done`, where there is
    /// room: a task's memory is counted in multiples of 16 bytes.
    spin: AtomicU32,
    pub(super) origin: Option<Origin>,
}

/// The pool that a task waits in, and its position there.
pub(super) struct Origin {
    /// Not counted among the pool's holders: the pool holds the other end.
    pub(super) pool: Weak<dyn Cancel>,
    /// The rank: its class, and its number within it.
    class: AtomicI32,
    within: AtomicI64,
    /// [`UNQUEUED`](Self::UNQUEUED) before it is in the queue. Written under the pool's lock.
    seq: AtomicU64,
    shape: AtomicU32,
}

impl Origin {
    const UNQUEUED: u64 = u64::MAX;

    pub(super) fn new(pool: Weak<dyn Cancel>) -> Self {
        Self {
            pool,
            class: AtomicI32::new(0),
            within: AtomicI64::new(0),
            seq: AtomicU64::new(Self::UNQUEUED),
            shape: AtomicU32::new(0),
        }
    }

    /// Notes that the task is in its queue.
    #[inline]
    fn queued(&self, task: TaskKey) {
        self.class.store(task.rank.class().0, Relaxed);
        self.within.store(task.rank.key(), Relaxed);
        self.shape.store(task.shape, Relaxed);
        self.seq.store(task.seq, Relaxed);
    }

    /// The position of the task once it is in its queue.
    pub(super) fn key(&self) -> Option<TaskKey> {
        let seq = self.seq.load(Relaxed);
        let rank = Rank::new(Priority(self.class.load(Relaxed)), self.within.load(Relaxed));
        (seq != Self::UNQUEUED).then(|| TaskKey { rank, seq, shape: self.shape.load(Relaxed) })
    }

    /// Tells the pool something of the task, if it is in the queue or was.
    #[inline]
    pub(super) fn tell<R>(&self, tell: impl FnOnce(&dyn Cancel, TaskKey) -> R) -> Option<R> {
        let task = self.key()?;
        Some(tell(&*self.pool.upgrade()?, task))
    }
}

enum State<T> {
    Pending(Waiter),
    Done(TaskResult<T>),
    Taken,
}

pub(super) enum Waiter {
    Nobody,
    Thread(Thread),
    Task(Waker),
}

impl<T> Cell<T> {
    #[inline]
    pub(super) fn new(origin: Option<Origin>) -> Self {
        let state = Mutex::new(State::Pending(Waiter::Nobody));
        Self { state, done: AtomicBool::new(false), spin: AtomicU32::new(0), origin }
    }

    /// Notes that the task is in its queue.
    #[inline]
    pub(super) fn queued(&self, task: TaskKey, spin: Duration) {
        if let Some(origin) = &self.origin {
            origin.queued(task);
            if !spin.is_zero() {
                self.spin.store(u32::try_from(spin.as_micros()).unwrap_or(u32::MAX), Relaxed);
            }
        }
    }

    #[inline]
    pub(super) fn spin(&self) -> Duration {
        Duration::from_micros(self.spin.load(Relaxed).into())
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Takes the answer if it is there, else leaves `waiter` to be woken by it.
    #[inline]
    pub(super) fn take_or_wait(&self, waiter: impl FnOnce(&mut Waiter)) -> Option<TaskResult<T>> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Pending(current) => {
                waiter(current);
                None
            }
            State::Done(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => {
                    // Who has left it may not have said so yet.
                    self.done.store(true, Ordering::Release);
                    Some(result)
                }
                State::Pending(_) | State::Taken => None,
            },
            // A future polled again after it was ready: there is no second answer.
            State::Taken => Some(Err(TaskError::Taken)),
        }
    }

    /// Leaves the answer, and returns whom to wake.
    #[inline]
    pub(super) fn complete(&self, result: TaskResult<T>) -> Option<Wake> {
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

/// Whoever waits for an answer that has come. Dropping it wakes them.
pub(super) struct Wake(Waiter);

impl Wake {
    /// Wakes a thread; a waker, which is code of others, comes back.
    pub(super) fn into_waker(mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.0, Waiter::Nobody) {
            Waiter::Task(waker) => Some(waker),
            waiter => {
                drop(Self(waiter));
                None
            }
        }
    }
}

impl Drop for Wake {
    #[inline]
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Waiter::Nobody) {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Task(waker) => {
                if let Err(message) = guarded(|| waker.wake()) {
                    log(|| tracing::error!(message, "waker of a ticket panicked"));
                }
            }
            Waiter::Nobody => {}
        }
    }
}
