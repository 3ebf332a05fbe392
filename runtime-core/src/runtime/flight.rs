//! The replies of a batch on its way, apart from its tensors.
//!
//! Others may reach them: the timer, to answer tasks whose deadline passes before their batch has started, and a
//! shutdown whose time is up. Whoever takes a reply out answers it; nobody else can.

use crate::contract::answer::reply::{Part, Reply, Settled};
use crate::contract::batch::{BatchTask, Returned};
use crate::contract::id::PoolId;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, discard_all};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// The replies of one batch.
pub(crate) struct Flight<T> {
    pub(crate) pool: PoolId,
    /// True if any of the tasks has a deadline; most batches have none and skip all this.
    has_deadline: bool,
    /// The tasks' tensors were kept once more.
    spared: AtomicBool,
    /// They were, or need not be: the device may have them now.
    passed: AtomicBool,
    state: Mutex<State<T>>,
}

struct State<T> {
    started: bool,
    /// Since when the device works on it, while it does and somebody watches that.
    at_work: Option<Instant>,
    tasks: Vec<Option<BatchTask<T>>>,
    /// For each task its tensors once more, if others can run it when the device is lost.
    spares: Vec<Vec<T>>,
    /// Answers that wait for the observer to be told of the batch.
    held_back: SmallVec<[Settled<T>; 1]>,
}

impl<T> State<T> {
    fn take_expired(&mut self, now: Instant) -> Vec<BatchTask<T>> {
        self.tasks.iter_mut().filter_map(|task| task.take_if(|task| task.header.is_expired(now))).collect()
    }
}

impl<T> Flight<T> {
    pub(crate) fn new(pool: PoolId, tasks: Vec<BatchTask<T>>) -> Arc<Self> {
        Self::of(pool, tasks, false)
    }

    /// The replies of a batch. If its tasks have `started`, none of them expires any more.
    pub(crate) fn of(pool: PoolId, tasks: Vec<BatchTask<T>>, started: bool) -> Arc<Self> {
        let has_deadline = !started && tasks.iter().any(|task| task.header.deadline.is_some());
        let tasks = tasks.into_iter().map(Some).collect();
        Arc::new(Self {
            pool,
            has_deadline,
            spared: AtomicBool::new(false),
            passed: AtomicBool::new(false),
            state: Mutex::new(State {
                started,
                at_work: None,
                tasks,
                spares: Vec::new(),
                held_back: SmallVec::new(),
            }),
        })
    }

    /// Takes out the tasks that have expired, unless the batch has started, and returns the time at which the next
    /// one expires.
    pub(crate) fn expire(&self, now: Instant) -> (Vec<BatchTask<T>>, Option<Instant>) {
        if !self.has_deadline {
            return (Vec::new(), None);
        }
        let mut state = self.state.lock();
        if state.started {
            return (Vec::new(), None);
        }
        let expired = state.take_expired(now);
        let next = state.tasks.iter().flatten().filter_map(|task| task.header.deadline).min();
        (expired, next)
    }

    /// From here on no task can expire. Returns those that have and, for each of `tasks` tasks, true if it is
    /// still to run: `None` if all are.
    pub(crate) fn start(&self, tasks: usize, now: Instant) -> (Vec<BatchTask<T>>, Option<Vec<bool>>) {
        if !self.has_deadline {
            return (Vec::new(), None);
        }
        let mut state = self.state.lock();
        state.started = true;
        let expired = state.take_expired(now);
        // A shutdown that has given the batch up has taken them all, those that had expired before too.
        let mut left = state.tasks.iter();
        let keep: Vec<_> = (0..tasks).map(|_| left.next().is_some_and(Option::is_some)).collect();
        (expired, keep.contains(&false).then_some(keep))
    }

    /// Returns true if its tasks cannot expire any more.
    pub(crate) fn is_started(&self) -> bool {
        self.state.lock().started
    }

    /// For each task, false if it is a part of one that has been answered; `None` if none is.
    pub(crate) fn worth_running(&self) -> Option<Vec<bool>> {
        let state = self.state.lock();
        let is_worth_it =
            |task: &Option<BatchTask<T>>| task.as_ref().is_none_or(|task| !task.reply.is_void());
        let keep: Vec<_> = state.tasks.iter().map(is_worth_it).collect();
        keep.contains(&false).then_some(keep)
    }

    /// Takes tasks out for good, whose places the others close up: those that are not to be kept. `None` for one that
    /// somebody has taken already.
    pub(crate) fn leave_out(&self, keep: &[bool]) -> Vec<Option<BatchTask<T>>> {
        let mut state = self.state.lock();
        if state.tasks.len() != keep.len() {
            // A shutdown has given the batch up.
            return Vec::new();
        }
        let (kept, left_out): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.tasks).into_iter().zip(keep).partition(|(_, keep)| **keep);
        state.tasks = kept.into_iter().map(|(task, _)| task).collect();
        left_out.into_iter().map(|(task, _)| task).collect()
    }

    /// Returns the places of the tasks that nobody has taken, each with where its outputs go if it is a part.
    pub(crate) fn parts(&self) -> Vec<(usize, Option<Part<T>>)> {
        let state = self.state.lock();
        let open = state.tasks.iter().enumerate().filter_map(|(at, task)| Some((at, task.as_ref()?)));
        open.map(|(at, task)| (at, task.reply.part())).collect()
    }

    /// Takes one task, if nobody has taken it already, and keeps what `settle` makes of its reply where others can
    /// reach it. Returns true if that is an answer.
    pub(crate) fn settle_at(&self, at: usize, settle: impl FnOnce(Reply<T>) -> Option<Settled<T>>) -> bool {
        let Some(task) = self.state.lock().tasks.get_mut(at).and_then(Option::take) else { return false };
        let Some(settled) = settle(task.reply) else { return false };
        self.state.lock().held_back.push(settled);
        true
    }

    /// Keeps answers where others can reach them, while an observer, which may hang, is told of the batch.
    pub(crate) fn hold_back(&self, settled: SmallVec<[Settled<T>; 1]>) {
        self.state.lock().held_back = settled;
    }

    pub(crate) fn take_held_back(&self) -> SmallVec<[Settled<T>; 1]> {
        std::mem::take(&mut self.state.lock().held_back)
    }

    /// Notes since when the device works on this batch; `None` when it has come back from it.
    pub(crate) fn set_at_work(&self, since: Option<Instant>) {
        self.state.lock().at_work = since;
    }

    pub(crate) fn at_work(&self) -> Option<Instant> {
        self.state.lock().at_work
    }

    /// Keeps the tasks' tensors once more; none if they cannot be. Returns those that were kept before.
    pub(crate) fn keep_spares(&self, spares: Vec<Vec<T>>) -> Vec<Vec<T>> {
        let mut state = self.state.lock();
        self.spared.store(true, Ordering::Relaxed);
        std::mem::replace(&mut state.spares, spares)
    }

    /// Notes that the device may have the tensors from now on.
    #[inline]
    pub(crate) fn pass(&self) {
        self.passed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.passed.load(Ordering::SeqCst)
    }

    /// Returns true if tensors may have been kept.
    #[inline]
    pub(crate) fn is_spared(&self) -> bool {
        self.spared.load(Ordering::Relaxed)
    }

    /// Takes those tensors, to be freed.
    pub(crate) fn take_spares(&self) -> Vec<Vec<T>> {
        std::mem::take(&mut self.state.lock().spares)
    }

    /// Takes the tasks that others can run, with their tensors. A task goes on with others once.
    pub(crate) fn take_for_others(&self) -> Vec<Returned<T>> {
        let mut state = self.state.lock();
        if state.spares.len() != state.tasks.len() {
            return Vec::new();
        }
        let (spares, started) = (std::mem::take(&mut state.spares), state.started);
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        for (task, inputs) in state.tasks.iter_mut().zip(spares) {
            match task.take_if(|task| !task.header.is_again) {
                Some(BatchTask { mut header, reply }) => {
                    // One that has begun to run does not expire.
                    header.deadline = header.deadline.filter(|_| !started);
                    taken.push(Returned::new(header, reply, inputs));
                }
                None => kept.push(inputs),
            }
        }
        // They are freed with those that are no use any more.
        state.spares = kept;
        taken
    }

    /// Takes tasks in again that nobody else could run.
    pub(crate) fn give_back(&self, tasks: Vec<Returned<T>>) {
        let mut state = self.state.lock();
        for Returned { header, reply, inputs } in tasks {
            state.tasks.push(Some(BatchTask { header, reply }));
            state.spares.push(inputs);
        }
    }

    /// Returns true if there is a reply that nobody has taken.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().tasks.iter().any(Option::is_some)
    }

    /// Takes all tasks, `None` for those that somebody has taken already.
    pub(crate) fn take_tasks(&self) -> Vec<Option<BatchTask<T>>> {
        std::mem::take(&mut self.state.lock().tasks)
    }

    /// Takes all replies that nobody has taken yet, in the order of the tasks.
    pub(crate) fn take(&self) -> impl Iterator<Item = Reply<T>> + use<T> {
        self.take_tasks().into_iter().flatten().map(|task| task.reply)
    }
}

/// A safety net: whoever answers the batch has freed them before.
impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        if self.is_spared() {
            self.take_spares().into_iter().for_each(discard_all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::task::TaskHeader;
    use std::time::Duration;

    fn task(deadline: Option<Instant>) -> BatchTask<u64> {
        let header = TaskHeader::new(1, Instant::now()).deadline(deadline);
        BatchTask { header, reply: Reply::pair().1 }
    }

    #[test]
    fn nothing_is_left_to_run_of_a_batch_that_was_given_up() {
        let now = Instant::now();
        let flight = Flight::new(PoolId::new(0), vec![task(None), task(Some(now)), task(None)]);
        assert_eq!(flight.expire(now).0.len(), 1);
        assert_eq!(flight.take().count(), 2);
        assert_eq!(flight.start(3, now).1, Some(vec![false; 3]));
    }

    #[test]
    fn a_batch_that_has_started_expires_no_more() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let flight = Flight::new(PoolId::new(0), vec![task(Some(now + second))]);
        assert_eq!(flight.start(1, now).1, None);
        assert!(flight.expire(now + 2 * second).0.is_empty());
        assert_eq!(flight.take().count(), 1);
    }
}
