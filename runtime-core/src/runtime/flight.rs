//! The replies of a batch on its way, apart from its tensors.
//!
//! Others may reach them: the timer, to answer tasks whose deadline passes before their batch has started, a
//! shutdown whose time is up, and whoever finds that the device is lost. Whoever takes a reply out answers it, or has
//! another device do so; nobody else can. A loss takes all of them at once or none, so outputs that come all the same
//! meet all of their tasks or none.

use crate::contract::answer::reply::{Part, Reply, Settled};
use crate::contract::batch::BatchTask;
use crate::contract::id::PoolId;
use crate::sync::{Mutex, discard_all};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// The replies of one batch.
pub(crate) struct Flight<T> {
    pub(crate) pool: PoolId,
    /// True if any of the tasks has a deadline; most batches have none and skip all this.
    has_deadline: bool,
    /// Others can run the tasks when the device is lost.
    is_shared: bool,
    state: Mutex<State<T>>,
}

struct State<T> {
    started: bool,
    /// Since when the device works on it, while it does and somebody watches that.
    at_work: Option<Instant>,
    tasks: Vec<Option<BatchTask<T>>>,
    /// For each task its tensors once more, for others to run it when the device is lost: [spares](super::spares). None
    /// of one that cannot go on; empty before they are laid down.
    spares: Vec<Vec<T>>,
    /// A thread has it in hand that sees to it when the device is lost, unless it is the one that hangs.
    in_hand: bool,
    /// The device was lost while it was in hand.
    is_lost: bool,
    /// Answers that wait for the observer to be told of the batch.
    held_back: SmallVec<[Settled<T>; 1]>,
}

/// A task that nobody has answered, and its tensors once more if others can run it.
pub(crate) type Open<T> = (BatchTask<T>, Vec<T>);

/// Places of tasks, each with where its outputs go if it is a part.
type Places<T> = Vec<(usize, Option<Part<T>>)>;

/// What was taken out of a flight.
pub(crate) struct Taken<T> {
    /// For each task that was there, true if nobody had taken it.
    pub(crate) kept: Vec<bool>,
    pub(crate) open: Vec<Open<T>>,
    /// Tensors that nobody needs, to be freed once no lock is held.
    pub(crate) useless: Vec<T>,
    pub(crate) started: bool,
}

impl<T> State<T> {
    fn new(tasks: Vec<Option<BatchTask<T>>>) -> Self {
        let (spares, held_back) = (Vec::new(), SmallVec::new());
        Self { started: false, at_work: None, tasks, spares, in_hand: false, is_lost: false, held_back }
    }

    /// Takes all tasks out, in one step.
    fn take(&mut self) -> Taken<T> {
        let (tasks, mut spares) = (std::mem::take(&mut self.tasks), std::mem::take(&mut self.spares));
        spares.resize_with(tasks.len(), Vec::new);
        let kept = tasks.iter().map(Option::is_some).collect();
        let (mut open, mut useless) = (Vec::with_capacity(tasks.len()), Vec::new());
        for (task, spare) in tasks.into_iter().zip(spares) {
            match task {
                Some(task) => open.push((task, spare)),
                None => useless.extend(spare),
            }
        }
        Taken { kept, open, useless, started: self.started }
    }

    fn take_expired(&mut self, now: Instant) -> Vec<BatchTask<T>> {
        self.tasks.iter_mut().filter_map(|task| task.take_if(|task| task.header.is_expired(now))).collect()
    }
}

impl<T> Flight<T> {
    /// The replies of a batch that was just cut. If it `is_shared`, it is in the hand of the thread that has cut it until its
    /// spares are [laid down](Self::lay_down).
    pub(crate) fn new(pool: PoolId, tasks: Vec<BatchTask<T>>, is_shared: bool) -> Arc<Self> {
        let has_deadline = tasks.iter().any(|task| task.header.deadline.is_some());
        let tasks = tasks.into_iter().map(Some).collect();
        let state = State { in_hand: is_shared, ..State::new(tasks) };
        Arc::new(Self { pool, has_deadline, is_shared, state: Mutex::new(state) })
    }

    /// The replies of tasks that were in this batch. If they have `started`, none of them expires any more.
    pub(crate) fn again(&self, open: Vec<Open<T>>, started: bool) -> Arc<Self> {
        let has_deadline = !started && open.iter().any(|(task, _)| task.header.deadline.is_some());
        let (tasks, mut spares): (Vec<_>, Vec<_>) =
            open.into_iter().map(|(task, spare)| (Some(task), spare)).unzip();
        if spares.iter().all(Vec::is_empty) {
            spares.clear();
        }
        let state = State { started, spares, ..State::new(tasks) };
        Arc::new(Self { pool: self.pool, has_deadline, is_shared: self.is_shared, state: Mutex::new(state) })
    }

    /// Returns true if others can run the tasks when the device is lost.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
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

    /// For each task, false if it is a part of one that has been answered; `None` if none is.
    pub(crate) fn worth_running(&self) -> Option<Vec<bool>> {
        let state = self.state.lock();
        let is_worth_it =
            |task: &Option<BatchTask<T>>| task.as_ref().is_none_or(|task| !task.reply.is_void());
        let keep: Vec<_> = state.tasks.iter().map(is_worth_it).collect();
        keep.contains(&false).then_some(keep)
    }

    /// Takes tasks out for good, whose places the others close up: those that are not to be kept. `None` for one that
    /// somebody has taken already. Beside them are tensors to be freed.
    pub(crate) fn leave_out(&self, keep: &[bool]) -> (Vec<Option<BatchTask<T>>>, Vec<T>) {
        let mut state = self.state.lock();
        if state.tasks.len() != keep.len() {
            // Somebody has given the batch up.
            return (Vec::new(), Vec::new());
        }
        let (kept, left_out): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.tasks).into_iter().zip(keep).partition(|(_, keep)| **keep);
        state.tasks = kept.into_iter().map(|(task, _)| task).collect();
        let (kept, useless): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.spares).into_iter().zip(keep).partition(|(_, keep)| **keep);
        state.spares = kept.into_iter().map(|(spare, _)| spare).collect();
        let useless = useless.into_iter().flat_map(|(spare, _)| spare).collect();
        (left_out.into_iter().map(|(task, _)| task).collect(), useless)
    }

    /// Returns the places of the tasks that nobody has taken, each with where its outputs go if it is a part. From here on
    /// the batch is in the hand of the thread that answers it: the outputs of a part go where they belong before its
    /// reply is taken, so nobody else is to run it again. Beside them are tensors to be freed.
    pub(crate) fn parts(&self) -> (Places<T>, Vec<Vec<T>>) {
        let mut state = self.state.lock();
        state.in_hand = self.is_shared;
        let open = state.tasks.iter().enumerate().filter_map(|(at, task)| Some((at, task.as_ref()?)));
        let parts = open.map(|(at, task)| (at, task.reply.part())).collect();
        (parts, std::mem::take(&mut state.spares))
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

    /// Returns true if it has no spares, and may have.
    pub(crate) fn needs_spares(&self) -> bool {
        self.is_shared && self.state.lock().spares.is_empty()
    }

    /// Lays spares down for each task, where whoever finds that the device is lost reaches them: it is in nobody's hand any
    /// more. Returns true if the device was lost meanwhile, and tensors to be freed.
    pub(crate) fn lay_down(&self, mut spares: Vec<Vec<T>>) -> (bool, Vec<Vec<T>>) {
        let mut state = self.state.lock();
        state.in_hand = false;
        if state.tasks.len() == spares.len() {
            std::mem::swap(&mut state.spares, &mut spares);
        }
        (state.is_lost, spares)
    }

    /// Takes the spares of a batch that is over, to be freed.
    pub(crate) fn take_spares(&self) -> Vec<Vec<T>> {
        std::mem::take(&mut self.state.lock().spares)
    }

    /// Takes all tasks out, because the device is lost. `None` if that is left to the thread that has the batch in hand,
    /// which is not to be waited for if it has been at work for as long as `hangs` says.
    pub(crate) fn lose(&self, hangs: impl Fn(Instant) -> bool) -> Option<Taken<T>> {
        let mut state = self.state.lock();
        if state.in_hand && !state.at_work.is_some_and(hangs) {
            state.is_lost = true;
            return None;
        }
        Some(state.take())
    }

    /// Takes all tasks out.
    pub(crate) fn take_open(&self) -> Taken<T> {
        self.state.lock().take()
    }

    /// Returns true if there is a reply that nobody has taken.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().tasks.iter().any(Option::is_some)
    }

    /// Takes all replies that nobody has taken yet, in the order of the tasks.
    pub(crate) fn take(&self) -> impl Iterator<Item = Reply<T>> + use<T> {
        std::mem::take(&mut self.state.lock().tasks).into_iter().flatten().map(|task| task.reply)
    }
}

/// A safety net: whoever answers the batch has freed them before.
impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        if self.is_shared {
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
        let flight = Flight::new(PoolId::new(0), vec![task(None), task(Some(now)), task(None)], false);
        assert_eq!(flight.expire(now).0.len(), 1);
        assert_eq!(flight.take().count(), 2);
        assert_eq!(flight.start(3, now).1, Some(vec![false; 3]));
    }

    #[test]
    fn a_batch_that_has_started_expires_no_more() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let flight = Flight::new(PoolId::new(0), vec![task(Some(now + second))], false);
        assert_eq!(flight.start(1, now).1, None);
        assert!(flight.expire(now + 2 * second).0.is_empty());
        assert_eq!(flight.take().count(), 1);
    }

    fn shared(tasks: Vec<BatchTask<u64>>) -> Arc<Flight<u64>> {
        Flight::new(PoolId::new(0), tasks, true)
    }

    fn spares(taken: Option<Taken<u64>>) -> Option<Vec<Vec<u64>>> {
        taken.map(|taken| taken.open.into_iter().map(|(_, spare)| spare).collect())
    }

    #[test]
    fn a_batch_that_is_being_gathered_is_left_to_its_thread() {
        let flight = shared(vec![task(None), task(None)]);
        assert!(spares(flight.lose(|_| true)).is_none(), "nobody hangs");
        assert_eq!(flight.lay_down(vec![vec![1], vec![2]]), (true, Vec::new()));
        assert_eq!(spares(Some(flight.take_open())), Some(vec![vec![1], vec![2]]));
        assert_eq!(flight.take().count(), 0);
    }

    #[test]
    fn a_batch_whose_thread_hangs_is_not_left_to_it() {
        let flight = shared(vec![task(None)]);
        flight.set_at_work(Some(Instant::now()));
        assert!(spares(flight.lose(|_| false)).is_none());
        assert_eq!(spares(flight.lose(|_| true)), Some(vec![Vec::new()]));
        assert_eq!(flight.lay_down(vec![vec![1]]), (true, vec![vec![1]]), "too late");
    }

    #[test]
    fn a_batch_whose_parts_are_answered_does_not_go_on() {
        let flight = shared(vec![task(None), task(None)]);
        assert!(!flight.lay_down(vec![vec![1], vec![2]]).0);
        let (parts, useless) = flight.parts();
        assert_eq!((parts.len(), useless), (2, vec![vec![1], vec![2]]));
        assert!(flight.lose(|_| true).is_none());
        assert!(flight.settle_at(1, |reply| reply.settle(Ok(Vec::new()))));
    }

    #[test]
    fn spares_stay_with_their_tasks() {
        let now = Instant::now();
        let flight = shared(vec![task(Some(now)), task(None), task(None), task(None)]);
        flight.lay_down((0..4).map(|at| vec![at]).collect());
        assert_eq!(flight.expire(now).0.len(), 1);
        let (left_out, useless) = flight.leave_out(&[true, true, false, true]);
        assert_eq!((left_out.len(), useless), (1, vec![2]));
        let taken = flight.take_open();
        assert_eq!((&taken.kept[..], &taken.useless[..]), (&[false, true, true][..], &[0][..]));
        let again = flight.again(taken.open, true);
        assert!(!again.needs_spares());
        assert_eq!(spares(again.lose(|_| false)), Some(vec![vec![1], vec![3]]));
    }
}
