//! A batch on its way: cut, loaded onto the device, run, and answered.
//!
//! The replies are kept apart from the tensors, in a [`Flight`] that others may reach: the timer, to answer
//! tasks whose deadline passes before their batch has started, and a shutdown whose time is up. Whoever
//! takes a reply out answers it; nobody else can.

use crate::error::BatchError;
use crate::pool::{Batch, PoolId};
use crate::sync::Mutex;
use crate::ticket::Reply;
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
    tasks: Vec<Option<Pending<T>>>,
}

struct Pending<T> {
    reply: Reply<T>,
    submitted: Instant,
    deadline: Option<Instant>,
}

/// A task that was given up: its reply and how long it had waited.
pub(crate) struct Expired<T> {
    pub(crate) reply: Reply<T>,
    pub(crate) waited: Duration,
}

impl<T> State<T> {
    fn take_expired(&mut self, now: Instant) -> Vec<Expired<T>> {
        let due = |task: &mut Pending<T>| task.deadline.is_some_and(|deadline| deadline <= now);
        let expired = self.tasks.iter_mut().filter_map(|task| task.take_if(due));
        expired
            .map(|task| Expired { reply: task.reply, waited: now.saturating_duration_since(task.submitted) })
            .collect()
    }
}

impl<T> Flight<T> {
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

    /// Takes all replies that nobody has taken yet, in the order of the tasks.
    pub(crate) fn take(&self) -> Vec<Reply<T>> {
        let tasks = std::mem::take(&mut self.state.lock().tasks);
        tasks.into_iter().flatten().map(|task| task.reply).collect()
    }
}

/// A batch whose inputs are on the device.
pub(crate) struct Loaded<T> {
    pub(crate) flight: Arc<Flight<T>>,
    /// Rows of each task.
    pub(crate) rows: Vec<usize>,
    /// When each task was submitted.
    pub(crate) submitted: Vec<Instant>,
    pub(crate) cut: Instant,
    /// One tensor per input, all tasks joined.
    pub(crate) inputs: Vec<T>,
    pub(crate) gather: Duration,
}

/// A batch that has just been cut, with the tasks' tensors still apart.
pub(crate) struct Cut<T> {
    pub(crate) parts: Vec<Vec<T>>,
    pub(crate) loaded: Loaded<T>,
}

impl<T> Cut<T> {
    pub(crate) fn new(pool: PoolId, batch: Batch<T>, now: Instant) -> Self {
        let rows = batch.tasks.iter().map(|task| task.rows).collect();
        let submitted = batch.tasks.iter().map(|task| task.submitted).collect();
        let has_deadline = batch.tasks.iter().any(|task| task.deadline.is_some());
        let tasks = batch
            .tasks
            .into_iter()
            .map(|task| {
                Some(Pending { reply: task.reply, submitted: task.submitted, deadline: task.deadline })
            })
            .collect();
        let state = Mutex::new(State { started: false, tasks });
        let flight = Arc::new(Flight { pool, has_deadline, state });
        let inputs = Vec::new();
        let loaded = Loaded { flight, rows, submitted, cut: now, inputs, gather: Duration::ZERO };
        Self { parts: batch.inputs, loaded }
    }
}

/// What a batch has lost between being loaded and being started.
pub(crate) struct Start<T> {
    /// Tasks to be told now that they have expired.
    pub(crate) expired: Vec<Expired<T>>,
    /// For each task of the batch, whether it is still to run; `None` when all are.
    pub(crate) keep: Option<Vec<bool>>,
}

impl<T> Loaded<T> {
    /// From here on no task of this batch can expire.
    pub(crate) fn start(&self, now: Instant) -> Start<T> {
        if !self.flight.has_deadline {
            return Start { expired: Vec::new(), keep: None };
        }
        let mut state = self.flight.state.lock();
        state.started = true;
        let expired = state.take_expired(now);
        let keep: Vec<bool> = state.tasks.iter().map(Option::is_some).collect();
        Start { expired, keep: keep.contains(&false).then_some(keep) }
    }

    pub(crate) fn total_rows(&self) -> usize {
        self.rows.iter().sum()
    }
}

/// A batch that is over: outputs on the device, or why there are none.
pub(crate) struct Done<T> {
    /// Its inputs have served; they are freed where the batch is delivered, not on the device thread.
    pub(crate) batch: Loaded<T>,
    pub(crate) device: Duration,
    pub(crate) outputs: Result<Vec<T>, BatchError>,
}
