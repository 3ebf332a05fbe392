//! A batch on its way: cut, loaded onto the device, run, and answered.
//!
//! The replies are kept apart from the tensors, in a [`Flight`] that others may reach: the timer, to answer
//! tasks whose deadline passes before their batch has started, and a shutdown whose time is up. Whoever
//! takes a reply out answers it; nobody else can.

use crate::error::BatchError;
use crate::pool::{Batch, BatchTask, PoolId};
use crate::priority::Urgency;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::ticket::Reply;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The replies of one batch.
pub(crate) struct Flight<T> {
    pub(crate) pool: PoolId,
    /// Whether any of the tasks has a deadline; most batches have none and skip all this.
    has_deadline: bool,
    state: Mutex<State<T>>,
}

struct State<T> {
    started: bool,
    /// Since when the device works on it, while it does and somebody watches that.
    at_work: Option<Instant>,
    tasks: Vec<Option<BatchTask<T>>>,
}

/// A task that was given up: its reply and how long it had waited.
pub(crate) struct Expired<T> {
    pub(crate) reply: Reply<T>,
    pub(crate) waited: Duration,
}

impl<T> State<T> {
    fn take_expired(&mut self, now: Instant) -> Vec<Expired<T>> {
        let due = |task: &mut BatchTask<T>| task.deadline.is_some_and(|deadline| deadline <= now);
        let expired = self.tasks.iter_mut().filter_map(|task| task.take_if(due));
        expired
            .map(|task| Expired { reply: task.reply, waited: now.saturating_duration_since(task.submitted) })
            .collect()
    }
}

impl<T> Flight<T> {
    fn new(pool: PoolId, tasks: Vec<Option<BatchTask<T>>>, started: bool) -> Arc<Self> {
        let has_deadline = !started && tasks.iter().flatten().any(|task| task.deadline.is_some());
        Arc::new(Self { pool, has_deadline, state: Mutex::new(State { started, at_work: None, tasks }) })
    }

    /// Expires tasks of a batch that has not started, and says when the next one expires.
    pub(crate) fn expire(&self, now: Instant) -> (Vec<Expired<T>>, Option<Instant>) {
        if !self.has_deadline {
            return (Vec::new(), None);
        }
        let mut state = self.state.lock();
        if state.started {
            return (Vec::new(), None);
        }
        let expired = state.take_expired(now);
        let next = state.tasks.iter().flatten().filter_map(|task| task.deadline).min();
        (expired, next)
    }

    /// Notes since when the device works on this batch; `None` when it has come back from it.
    pub(crate) fn set_at_work(&self, since: Option<Instant>) {
        self.state.lock().at_work = since;
    }

    pub(crate) fn at_work(&self) -> Option<Instant> {
        self.state.lock().at_work
    }

    /// Takes all replies that nobody has taken yet, in the order of the tasks.
    pub(crate) fn take(&self) -> impl Iterator<Item = Reply<T>> + use<T> {
        let tasks = std::mem::take(&mut self.state.lock().tasks);
        tasks.into_iter().flatten().map(|task| task.reply)
    }
}

/// A batch that has been cut, with the tasks' tensors still apart. They are kept until the batch is
/// answered, because part of it may have to run again.
///
/// Boxed wherever it goes: it is handed on many times, and large.
pub(crate) struct Cut<T> {
    pub(crate) flight: Arc<Flight<T>>,
    /// How urgent the pool was when the batch was cut from it.
    pub(crate) urgency: Urgency,
    /// For each input of the block, the tasks' tensors.
    pub(crate) parts: Vec<Vec<T>>,
    /// Rows of each task.
    pub(crate) rows: SmallVec<[usize; 1]>,
    /// For each task an empty vector for its outputs, or none.
    pub(crate) vectors: Vec<Vec<T>>,
    /// When each task was submitted.
    pub(crate) submitted: SmallVec<[Instant; 1]>,
    /// When the tasks were cut from their pool.
    pub(crate) left_queue: Instant,
    /// When this batch was chosen: the same time, or later where it is part of one that failed.
    pub(crate) chosen: Instant,
    /// The time that it took to place the inputs on the device.
    pub(crate) gather: Duration,
    /// The time in the block; `None` until the block has been called.
    pub(crate) device: Option<Duration>,
    /// What has come of the batch that this one was part of.
    pub(crate) trial: Option<Arc<Trial>>,
}

impl<T> Cut<T> {
    pub(crate) fn new(pool: PoolId, urgency: Urgency, batch: Batch<T>, now: Instant) -> Box<Self> {
        let rows = batch.tasks.iter().map(|task| task.rows).collect();
        let submitted = batch.tasks.iter().map(|task| task.submitted).collect();
        let flight = Flight::new(pool, batch.tasks.into_iter().map(Some).collect(), false);
        Box::new(Self {
            flight,
            urgency,
            parts: batch.inputs,
            rows,
            vectors: batch.vectors,
            submitted,
            left_queue: now,
            chosen: now,
            gather: Duration::ZERO,
            device: None,
            trial: None,
        })
    }

    pub(crate) fn total_rows(&self) -> usize {
        self.rows.iter().sum()
    }

    /// From here on no task of this batch can expire. Gives those that have, and for each task whether it
    /// is still to run: `None` when all are.
    pub(crate) fn start(&self, now: Instant) -> (Vec<Expired<T>>, Option<Vec<bool>>) {
        if !self.flight.has_deadline {
            return (Vec::new(), None);
        }
        let mut state = self.flight.state.lock();
        state.started = true;
        let expired = state.take_expired(now);
        // A shutdown that has given the batch up has taken them all, those that had expired before too.
        let mut tasks = state.tasks.iter();
        let keep: Vec<_> = self.rows.iter().map(|_| tasks.next().is_some_and(Option::is_some)).collect();
        (expired, keep.contains(&false).then_some(keep))
    }

    /// Forgets tasks that have been answered.
    pub(crate) fn keep(&mut self, keep: &[bool]) {
        let next = || {
            let mut keep = keep.iter();
            move || keep.next().copied().unwrap_or(false)
        };
        for parts in &mut self.parts {
            let mut keep = next();
            parts.retain(|_| keep());
        }
        if self.vectors.len() == self.rows.len() {
            let mut keep = next();
            self.vectors.retain(|_| keep());
        }
        let (mut row, mut time) = (next(), next());
        self.rows.retain(|_| row());
        self.submitted.retain(|_| time());
    }

    /// Makes two batches of this one, each with half of the tasks that nobody has answered yet; the second
    /// is left out where there is only one. They count as started: none of their tasks expires any more.
    pub(crate) fn halves(mut self: Box<Self>) -> impl Iterator<Item = Box<Self>> {
        let tasks = std::mem::take(&mut self.flight.state.lock().tasks);
        // A batch that has started holds the tasks that are still to run, and no others.
        if tasks.len() == self.rows.len() {
            self.keep(&tasks.iter().map(Option::is_some).collect::<Vec<_>>());
        }
        let mut first: Vec<_> = tasks.into_iter().flatten().map(Some).collect();
        let middle = first.len().div_ceil(2);
        let second = first.split_off(middle);
        let rest = Box::new(Self {
            flight: Flight::new(self.flight.pool, second, true),
            urgency: self.urgency,
            parts: self.parts.iter_mut().map(|parts| parts.split_off(middle)).collect(),
            vectors: self.vectors.split_off(middle.min(self.vectors.len())),
            rows: self.rows.drain(middle..).collect(),
            submitted: self.submitted.drain(middle..).collect(),
            left_queue: self.left_queue,
            chosen: self.chosen,
            gather: Duration::ZERO,
            device: None,
            trial: self.trial.clone(),
        });
        self.flight = Flight::new(self.flight.pool, first, true);
        self.gather = Duration::ZERO;
        self.device = None;
        [self, rest].into_iter().filter(|half| !half.rows.is_empty())
    }
}

/// The inputs of a block, all tasks joined.
pub(crate) type Joined<T> = SmallVec<[T; 1]>;

/// A batch whose inputs are on the device.
pub(crate) struct Loaded<T> {
    pub(crate) batch: Box<Cut<T>>,
    pub(crate) inputs: Joined<T>,
}

/// What came of placing a batch's inputs on the device.
pub(crate) enum Gathered<T> {
    /// It can run.
    Loaded(Loaded<T>),
    /// It failed for good.
    Failed(Done<T>),
    /// It failed, and runs again in parts.
    TakenApart,
}

/// A batch that is over: outputs on the device, or why there are none.
pub(crate) struct Done<T> {
    pub(crate) batch: Box<Cut<T>>,
    /// They have served, and are freed where the batch is delivered, not on the device thread.
    pub(crate) inputs: Joined<T>,
    pub(crate) outputs: Result<Vec<T>, Arc<BatchError>>,
}

/// What has come of a batch that was taken apart, so far.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    failed_alone: AtomicUsize,
    succeeded: AtomicBool,
}

impl Trial {
    /// How many tasks may fail alone while no part of their batch succeeds, before the block is taken to be
    /// broken. Going on would run a block that fails whatever it is given twice for each task.
    const PATIENCE: usize = 8;

    /// Notes a part that succeeded.
    pub(crate) fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Notes a task that failed alone.
    pub(crate) fn failed_alone(&self) {
        self.failed_alone.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the fault seems to be the block's and not any task's.
    pub(crate) fn is_hopeless(&self) -> bool {
        !self.succeeded.load(Ordering::Relaxed) && self.failed_alone.load(Ordering::Relaxed) >= Self::PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::BatchTask;
    use crate::priority::Priority;

    fn batch(tasks: u64) -> Box<Cut<u64>> {
        let now = Instant::now();
        let tasks: Vec<_> = (0..tasks)
            .map(|_| BatchTask { rows: 1, submitted: now, deadline: None, reply: Reply::pair().1 })
            .collect();
        let inputs = vec![(0..tasks.len() as u64).collect()];
        let urgency = Urgency { priority: Priority::NORMAL, since: now };
        Cut::new(PoolId(0), urgency, Batch { inputs, tasks, vectors: Vec::new() }, now)
    }

    #[test]
    fn halves_hold_all_tasks_in_order() {
        let halves: Vec<_> = batch(5).halves().collect();
        assert_eq!(
            halves.iter().map(|half| half.parts[0].clone()).collect::<Vec<_>>(),
            [vec![0, 1, 2], vec![3, 4]]
        );
        assert_eq!(halves.iter().map(|half| half.total_rows()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(halves.iter().map(|half| half.flight.take().count()).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn halves_leave_out_who_has_been_answered() {
        let batch = batch(4);
        batch.flight.state.lock().tasks[1] = None;
        let halves: Vec<_> = batch.halves().map(|half| half.parts[0].clone()).collect();
        assert_eq!(halves, [vec![0, 2], vec![3]]);
    }

    #[test]
    fn nothing_is_left_to_run_of_a_batch_that_was_given_up() {
        let now = Instant::now();
        let mut batch = batch(3);
        Arc::get_mut(&mut batch.flight).unwrap().has_deadline = true;
        batch.flight.state.lock().tasks[1].as_mut().unwrap().deadline = Some(now);
        assert_eq!(batch.flight.expire(now).0.len(), 1);
        assert_eq!(batch.flight.take().count(), 2);
        assert_eq!(batch.start(now).1, Some(vec![false; 3]));
    }

    #[test]
    fn a_trial_is_hopeless_when_many_fail_alone_and_nothing_succeeds() {
        let trial = Trial::default();
        (0..Trial::PATIENCE).for_each(|_| trial.failed_alone());
        assert!(trial.is_hopeless());
        trial.succeeded();
        assert!(!trial.is_hopeless());
    }
}
