//! All that callers and the runtime share of a pool.

use crate::answers::Leftovers;
use crate::line::Line;
use crate::options::PoolOptions;
use crate::queue::Queue;
use crate::queue::moment::Moment;
use crate::queue::segment::Items;
use crate::seats::{Bells, Seats};
use crate::task::Task;
use skep_runtime_core::Price;
use skep_runtime_core::pool::Rank;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use skep_runtime_core::{
    Clock, Counts, DeviceLoss, Pass, Priority, Schema, Shutdown, SubmitError, TaskHeader, TensorOps,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) struct Inner<O: TensorOps> {
    pub(crate) name: String,
    pub(crate) pass: Pass,
    pub(crate) ops: Arc<O>,
    pub(crate) schema: Schema,
    pub(crate) options: PoolOptions,
    clock: OwnClock,
    pub(crate) state: Mutex<State<O::Tensor>>,
    /// The buffer that the tasks of the last batch were in, for tasks to come.
    pub(crate) spare: Mutex<Items<Task<O::Tensor>>>,
    /// There may be callers in the line, or news for them. Written under the lock of the state.
    pub(crate) crowded: AtomicBool,
    /// Several runtimes feed from the pool, so what one of them loses goes on with the others.
    pub(crate) is_shared: AtomicBool,
    views: AtomicU32,
}

pub(crate) struct State<T> {
    pub(crate) queue: Queue<Task<T>>,
    /// Callers who wait for room.
    pub(crate) line: Line<T>,
    /// The counts of the runtimes that feed from the pool now.
    pub(crate) counts: Counts,
    /// Those of the runtimes that have left.
    pub(crate) gone: Counts,
    pub(crate) closed: Option<Shutdown>,
    /// It is closed because its block leaves the runtime.
    pub(crate) removed: bool,
    /// The runtime has lost its device, and no other has taken the pool over.
    pub(crate) loss: Option<DeviceLoss>,
    /// The runtimes that feed from the pool.
    pub(crate) seats: Seats,
    /// Tensors of tasks that have expired, to be freed by a thread that may wait.
    pub(crate) leftovers: Leftovers<T>,
    /// The ranks of waiting tasks rise.
    pub(crate) rising: bool,
    /// What batches cost, as far as the runtime knows.
    pub(crate) price: Option<Price>,
}

/// The clock of the runtime: another one's after a take-over.
struct OwnClock {
    /// Mostly there is no other, and it is asked for each task: without a lock.
    first: Arc<dyn Clock>,
    is_later: AtomicBool,
    later: Mutex<Option<Arc<dyn Clock>>>,
}

impl OwnClock {
    #[inline]
    fn now(&self) -> Instant {
        if !self.is_later.load(Ordering::SeqCst) {
            return self.first.now();
        }
        // A clock is code of others, so it is asked outside of the lock.
        let later = self.later.lock().clone();
        later.as_ref().unwrap_or(&self.first).now()
    }
}

impl<O: TensorOps> Inner<O> {
    pub(crate) fn new(
        name: String,
        pass: Pass,
        ops: Arc<O>,
        schema: Schema,
        options: PoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name,
            pass,
            ops,
            schema,
            options,
            clock: OwnClock { first: clock, is_later: AtomicBool::new(false), later: Mutex::new(None) },
            state: Mutex::new(State::new()),
            spare: Mutex::new(Items::<Task<O::Tensor>>::new()),
            crowded: AtomicBool::new(false),
            is_shared: AtomicBool::new(false),
            views: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Goes by another clock from now on. Returns the former one, if nobody goes by it any more.
    pub(crate) fn set_clock(&self, clock: Arc<dyn Clock>) -> Option<Arc<dyn Clock>> {
        let former = self.clock.later.lock().replace(clock);
        self.clock.is_later.store(true, Ordering::SeqCst);
        former
    }

    /// The number of the next view of this pool.
    pub(crate) fn next_view(&self) -> u32 {
        self.views.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.state.lock().seats.is_own_thread()
    }
}

impl<T> State<T> {
    fn new() -> Self {
        Self {
            queue: Queue::new(),
            line: Line::new(),
            counts: Counts::default(),
            gone: Counts::default(),
            closed: None,
            removed: false,
            loss: None,
            seats: Seats::new(),
            leftovers: Vec::new(),
            rising: false,
            price: None,
        }
    }

    /// Refuses a task for which there will be no room.
    #[inline]
    pub(crate) fn admits(&self, deadline: Option<Instant>, now: Instant) -> Result<(), SubmitError> {
        if let Some(loss) = &self.loss {
            Err(SubmitError::DeviceLost(loss.clone()))
        } else if self.closed.is_some() {
            Err(if self.removed { SubmitError::Removed } else { SubmitError::ShutDown })
        } else if deadline.is_some_and(|deadline| deadline <= now) {
            Err(SubmitError::DeadlinePassed)
        } else {
            Ok(())
        }
    }

    /// Refuses a task that would be answered too late even by a device that does nothing else.
    pub(crate) fn is_in_time(&self, header: &TaskHeader, now: Instant) -> Result<(), SubmitError> {
        let (Some(price), Some(deadline)) = (self.price, header.deadline) else { return Ok(()) };
        let (takes, left) = (price.of(header.rows), deadline.saturating_duration_since(now));
        if takes > left { Err(SubmitError::TooLate { takes, left }) } else { Ok(()) }
    }

    /// Returns true if a task may get into the queue: if it has room, and nobody waits whose turn it is.
    #[inline]
    pub(crate) fn has_room(&self, header: &TaskHeader, options: &PoolOptions) -> bool {
        self.is_next(header.priority) && self.fits(header, options)
    }

    /// Returns true if no caller is in the line who is as urgent.
    #[inline]
    pub(crate) fn is_next(&self, priority: Priority) -> bool {
        self.line.first().is_none_or(|(_, first)| priority < first.priority)
    }

    #[inline]
    pub(crate) fn fits(&self, header: &TaskHeader, options: &PoolOptions) -> bool {
        let room = options.room(header.priority);
        self.queue.tasks() < room.tasks && header.rows <= room.rows.saturating_sub(self.queue.rows())
    }

    /// Returns true if no company can come for what waits, because there is no room for it.
    fn is_full(&self, options: &PoolOptions) -> bool {
        let room = options.room(options.priority);
        !self.line.is_empty() || self.queue.tasks() >= room.tasks || self.queue.rows() >= room.rows
    }

    pub(crate) fn full(&self, priority: Priority, options: &PoolOptions) -> SubmitError {
        let room = options.room(priority);
        let (tasks, rows) = (self.queue.tasks(), self.queue.rows());
        let wait = self.wait(options);
        SubmitError::Full { tasks, capacity: room.tasks, rows, capacity_rows: room.rows, wait }
    }

    /// The device time that all that waits will take, in full batches.
    fn wait(&self, options: &PoolOptions) -> Option<Duration> {
        let (price, rows) = (self.price?, self.queue.rows());
        let (full, rest) = (rows / options.max_rows, rows % options.max_rows);
        let full = price.of(options.max_rows).saturating_mul(u32::try_from(full).unwrap_or(u32::MAX));
        Some(if rest > 0 { full.saturating_add(price.of(rest)) } else { full })
    }

    /// The rank of a task. Before there is a runtime, that of the default policy.
    #[inline]
    pub(crate) fn rank(&self, task: &TaskHeader) -> Rank {
        match self.seats.bell() {
            Some(bell) => bell.rank(task),
            None => Rank::at(task.priority, task.submitted),
        }
    }

    /// Works with the queue, as things are now.
    #[inline]
    pub(crate) fn with_queue<R>(
        &mut self,
        options: &PoolOptions,
        now: Instant,
        work: impl FnOnce(&mut Queue<Task<T>>, &Moment<'_>) -> R,
    ) -> R {
        let at_once = self.closed.is_some() || self.is_full_below(options);
        let (most_rows, bell, rises) = (self.seats.most_rows(), self.seats.bell(), self.rising);
        work(
            &mut self.queue,
            &Moment { now, options, most_rows, at_once, bell, rising: bell.filter(|_| rises) },
        )
    }

    /// Returns true if what waits has too few rows, and no company can come for it.
    #[inline]
    pub(crate) fn is_full_below(&self, options: &PoolOptions) -> bool {
        options.min_rows > 1 && self.is_full(options)
    }

    /// Notes that there is news, and returns the bells to ring once the lock is released.
    #[inline]
    pub(crate) fn ring(&mut self) -> Option<Bells> {
        self.seats.ring()
    }

    /// The timer looks in a moment at what has expired before its turn came, and callers get its room.
    #[inline]
    pub(crate) fn note_overdue(&mut self, now: Instant) {
        if self.queue.has_overdue() {
            self.arm(now);
        }
    }

    /// Makes the runtimes ask for expired tasks at `at`.
    #[inline]
    pub(crate) fn arm(&mut self, at: Instant) {
        self.seats.arm(at);
    }
}
