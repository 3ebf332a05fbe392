//! Pools: the promises that the runtime needs of a queue.
//!
//! `skep-pool` has the queue that applications use; this contract is for those who bring their own.

use crate::contract::answer::reply::Settled;
use crate::contract::batch::{Batch, Returned};
use crate::contract::doorbell::Doorbell;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::id::RuntimeId;
use crate::contract::meter::Meter;
use crate::contract::padding::Padding;
use crate::contract::policy::{Policy, times};
use crate::contract::price::Price;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::contract::verify::Verify;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The facts of a batch that a pool could have cut now. Pools compare nothing with other pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outlook {
    /// The rank of the pool's most urgent waiting task, by the [doorbell's](Doorbell::rank) policy.
    pub rank: Rank,
    /// The rows that wait and could run in one batch with that task, its own included.
    pub rows: usize,
    /// The most rows of a batch of this pool.
    pub max_rows: usize,
    /// The elements of a row, as in [`TaskHeader::elements`]. Where rows of all sizes share a batch, in the middle.
    pub elements: usize,
    /// True if it is for their elements that a batch has no more than `max_rows`.
    pub by_elements: bool,
    /// The first deadline of the tasks that wait.
    pub deadline: Option<Instant>,
    /// True if the batch is not to wait for company: the pool is closed, or its tasks have waited as long as they may.
    pub at_once: bool,
}

impl Outlook {
    /// Creates the outlook of a pool whose most urgent task has this rank and so many rows, and waits alone.
    pub const fn new(rank: Rank, rows: usize) -> Self {
        Self { rank, rows, max_rows: rows, elements: 1, by_elements: false, deadline: None, at_once: false }
    }

    /// Sets the rows that wait, and the most of a batch.
    pub const fn rows(mut self, waiting: usize, max_rows: usize) -> Self {
        (self.rows, self.max_rows) = (waiting, max_rows);
        self
    }

    /// Sets the elements of a row.
    pub const fn elements(mut self, elements: usize) -> Self {
        self.elements = elements;
        self
    }

    /// Sets if it is for their elements that a batch has no more rows.
    pub const fn by_elements(mut self, by_elements: bool) -> Self {
        self.by_elements = by_elements;
        self
    }

    /// Sets the first deadline.
    pub const fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets if the batch is not to wait for company.
    pub const fn at_once(mut self, at_once: bool) -> Self {
        self.at_once = at_once;
        self
    }
}

/// The terms on which a batch is cut.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Terms {
    /// The time now.
    pub now: Instant,
    /// When a batch that is cut now is expected to begin on the device.
    pub begins: Instant,
    /// The most rows: the device has no room for more at the moment, or no time.
    pub most_rows: usize,
    /// What a batch of the pool's most urgent rows costs, if that is known.
    pub price: Option<Price>,
    /// The elements of these rows.
    pub elements: usize,
    /// The part of its time by which a batch may become longer for tasks of a less urgent [class](Rank::class) than its
    /// first one.
    pub riders: f64,
    /// The device time of such a row of which the policy hears when a task leaves ([`expected`](Self::expected)); zero if nothing
    /// is known.
    pub per_row: Duration,
}

impl Terms {
    /// Creates the terms of a batch of at most so many rows.
    pub const fn new(now: Instant, most_rows: usize) -> Self {
        let (riders, per_row) = (f64::INFINITY, Duration::ZERO);
        Self { now, begins: now, most_rows, price: None, elements: 1, riders, per_row }
    }

    /// Returns the device time of a task, of which the policy is to hear when it leaves.
    pub fn expected(&self, task: &TaskHeader) -> Duration {
        times(self.per_row, Some(self.elements), task)
    }

    /// Returns the most rows of a batch of which `urgent` rows are of its most urgent class.
    pub fn rows_with_riders(&self, urgent: usize) -> usize {
        match self.price {
            Some(price) if self.riders.is_finite() => price.rows_with_riders(urgent, self.riders),
            _ => usize::MAX,
        }
    }
}

/// A pool's answer when the runtime looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Look {
    /// A batch can be cut now.
    Ready(Outlook),
    /// Tasks wait for company; look again at this time, unless the pool rings earlier.
    At(Instant),
    /// Nothing to do until the pool rings.
    Idle,
}

/// The answers of waiting tasks whose deadline has passed.
#[non_exhaustive]
pub struct Expired<T> {
    /// The answers, to be delivered.
    pub settled: Vec<Settled<T>>,
    /// The time at which the next deadline passes.
    pub next: Option<Instant>,
}

impl<T> fmt::Debug for Expired<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expired")
            .field("settled", &self.settled.len())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<T> Expired<T> {
    /// Creates the answer of a pool: the answers to be delivered, and the time at which the next deadline passes.
    pub const fn new(settled: Vec<Settled<T>>, next: Option<Instant>) -> Self {
        Self { settled, next }
    }

    /// Creates the answer of a pool in which no task has a deadline.
    pub const fn none() -> Self {
        Self { settled: Vec::new(), next: None }
    }
}

/// The runtime's rules for batches of a pool that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureRules {
    /// Runs a forward batch that failed again in halves, and these in halves again, until the
    /// tasks that make it fail are alone: only they get the error. A batch of `n` tasks one of which fails
    /// costs at most `2 log2(n)` further runs, and one of any number of them at most `2n - 1` runs in all. A backward
    /// pass is never run again, because it may have changed the block.
    ///
    /// If each of eight or more tasks of a batch has failed alone, the block may be broken: until something
    /// succeeds again, a batch that fails is tried with eight tasks alone, spread over it, and once with the rest,
    /// which gets the error if all of these fail.
    pub rerun: bool,
    /// Counts outputs that are not finite as a failure of the batch. Costs a look at each element.
    pub check_finite: bool,
}

impl FailureRules {
    /// Creates the default rules.
    pub const fn new() -> Self {
        Self { rerun: true, check_finite: false }
    }

    /// Sets [`rerun`](Self#structfield.rerun).
    pub fn rerun(mut self, rerun: bool) -> Self {
        self.rerun = rerun;
        self
    }

    /// Sets [`check_finite`](Self#structfield.check_finite).
    pub fn check_finite(mut self, check_finite: bool) -> Self {
        self.check_finite = check_finite;
        self
    }
}

impl Default for FailureRules {
    fn default() -> Self {
        Self::new()
    }
}

/// The way in which a runtime, and with it each pool, is closed. Either way it takes no more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Waiting tasks are still to run, without waiting for company.
    Drain,
    /// Waiting tasks are answered with [`TaskError::ShutDown`](crate::TaskError::ShutDown) at once.
    Abort,
}

/// A queue of tasks, whose tensors are `T`, for one pass of one block.
///
/// The runtime calls a pool from its own threads. No method may wait. [`claim`](Self::claim), [`look`](Self::look),
/// [`cut`](Self::cut) and [`counts`](Meter::counts) are called while the choice of the next batch is locked: they must not call back into
/// the runtime, nor wake or answer anybody, since a waker is code of others.
///
/// A pool has one owner at a time, the runtime that feeds from it or the builder of one, and heeds
/// [`expire`](Self::expire), [`close`](Self::close), [`remove`](Self::remove) and [`lose`](Self::lose) of that one only: a runtime whose device was
/// lost may be late with them. Where several runtimes feed from one queue, each of them has a `Pool` of its own.
///
/// [`cut_if`](Self::cut_if) and [`after_cut`](Self::after_cut) are opportunities, not promises: their defaults serve.
pub trait Pool<T>: Meter {
    /// Makes `by` the owner, if nobody else is, and returns true if it is the owner now.
    fn claim(&self, by: RuntimeId) -> bool;

    /// Hears which policy ranks the tasks of the runtime that has claimed it, before that one starts.
    ///
    /// # Errors
    ///
    /// Returns the reason why the pool cannot be ranked so: one queue has one order, whoever feeds from it.
    fn rank_by(&self, by: RuntimeId, policy: &Arc<dyn Policy>) -> Result<(), &'static str> {
        let _ = (by, policy);
        Ok(())
    }

    /// Gives the pool its doorbell when the runtime that owns it starts. A pool that was
    /// [lost](Self::lose) takes tasks again, for this runtime and by [its clock](Doorbell::clock). From then on the pool rings whenever an
    /// earlier answer of [`look`](Self::look) would now be too late: at least when it goes from empty to
    /// non-empty, and when a more urgent task arrives.
    fn attach(&self, doorbell: Doorbell);

    /// Reports if a batch can be cut now, and the facts by which it is ranked. `most_rows` is the most that the device
    /// has room for: waiting for more would be in vain.
    fn look(&self, now: Instant, most_rows: usize) -> Look;

    /// Does what [`look`](Self::look) does, after a batch of the pool is over: where the ranks of waiting tasks depend on
    /// what has run ([`Policy::listens`](crate::pool::Policy::listens)), some may have fallen.
    fn look_again(&self, now: Instant, most_rows: usize) -> Look {
        self.look(now, most_rows)
    }

    /// Returns the rules for batches that fail. Asked once, when the pool is registered.
    fn failure_rules(&self) -> FailureRules {
        FailureRules::default()
    }

    /// Returns the rule by which batches are verified, or `None` if none are. Asked once, when the pool is registered.
    fn verify(&self) -> Option<Verify> {
        None
    }

    /// Returns the rule by which tasks of a batch are padded, if their free dims may differ. Asked once, when the pool is
    /// registered.
    fn padding(&self) -> Option<Padding> {
        None
    }

    /// Cuts the most urgent batch on these terms. A single task of more rows is cut all the same, alone. Returns `None` if
    /// there is none after all.
    fn cut(&self, terms: &Terms) -> Option<Batch<T>>;

    /// Cuts a batch if the pool is ready and its most urgent task has this rank, and writes how it looks now. A pool
    /// of which that is true and that gives nothing must not look ready. For pools that can do all this at less cost
    /// than [`look`](Self::look), [`cut`](Self::cut), `look`, which is the default.
    fn cut_if(&self, rank: Rank, terms: &Terms, look: &mut Look) -> Option<Batch<T>> {
        *look = self.look(terms.now, terms.most_rows);
        if !matches!(look, Look::Ready(outlook) if outlook.rank == rank) {
            return None;
        }
        let batch = self.cut(terms);
        *look = self.look(terms.now, terms.most_rows);
        if batch.is_none() && matches!(look, Look::Ready(_)) {
            // It is left alone until it rings.
            *look = Look::Idle;
        }
        batch
    }

    /// Hears that the runtime waits for company: the pool rings once so many rows wait, besides when it would anyway.
    fn wake_at(&self, rows: usize) {
        let _ = rows;
    }

    /// Called after each cut, each [`expire`](Self::expire) and [`lose`](Self::lose), outside of all locks and on a thread that may wait: the
    /// place to wake callers who wait for room, and to free tensors.
    fn after_cut(&self) {}

    /// Settles the waiting tasks whose deadline has passed, and counts them; the runtime delivers the answers. Called
    /// by the thread that keeps the deadlines of all pools, so it must wake nobody whose waker is code of others, nor free
    /// tensors, whose `Drop` is.
    fn expire(&self, by: RuntimeId, now: Instant) -> Expired<T>;

    /// Takes no more tasks from now on. Called again with [`Shutdown::Abort`] when a drain is cut short, and
    /// when one of the other methods panicked: then its tasks must not wait for what will not come. A pool that was lost, and
    /// whose new owner gives up before it starts, has no owner again instead.
    fn close(&self, by: RuntimeId, how: Shutdown);

    /// Hears that its block leaves the runtime, which goes on: as [`close`](Self::close), but who comes now is refused with
    /// [`SubmitError::Removed`](crate::SubmitError::Removed), and what is aborted is answered with
    /// [`TaskError::Removed`](crate::TaskError::Removed). Called with [`Shutdown::Abort`] in any case at last, when
    /// nothing waits: the time to let go of buffers. By default the same as `close`.
    fn remove(&self, by: RuntimeId, how: Shutdown) {
        self.close(by, how);
    }

    /// Queues tasks again, with their age and deadlines, that were cut for a runtime which has lost its device: for those who
    /// feed from the pool beside it. Returns the tasks that nobody else can run, which is all of them by default. Called
    /// before [`lose`](Self::lose) or after it, at most once for a task, and only for tasks of batches that were
    /// [shared](Batch#structfield.shared).
    fn take_back(&self, tasks: Vec<Returned<T>>) -> Vec<Returned<T>> {
        tasks
    }

    /// Hears that the runtime has lost its device and will cut no more. If others feed from the pool as well, what waits is
    /// theirs. Else settles the waiting tasks with [`TaskError::DeviceLost`](crate::TaskError::DeviceLost), returns the
    /// answers, which the runtime delivers once everything is counted, and takes no task until another runtime
    /// [attaches](Self::attach) itself. From now on the pool has no owner, and its [counts](Meter::counts) are the former
    /// one's for good, but for tasks that it takes [back](Self::take_back): another runtime has a `Pool` of its own.
    /// A pool that cannot be taken over closes.
    fn lose(&self, by: RuntimeId, loss: &DeviceLoss) -> Vec<Settled<T>> {
        let _ = loss;
        self.close(by, Shutdown::Abort);
        Vec::new()
    }
}
