//! The pool as the runtime sees it.

use crate::admission::check;
use crate::answers::{Leftovers, give_up, settle_expired};
use crate::queue::item::{Key, Place};
use crate::queue::segment::Items;
use crate::queue::{Queue, Taken};
use crate::room::tell;
use crate::seats::{Bells, ring};
use crate::shared::{Inner, State};
use crate::task::{Task, into_batch};
use crate::view::View;
use skep_runtime_core::pool::{
    AfterAnswer, Batch, Cancel, Doorbell, Expired, Look, Rank, Returned, Settled, TaskKey, Terms,
};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::sync::{discard, discard_all, guarded};
use skep_runtime_core::{
    Counts, DeviceLoss, Meter, Pass, RuntimeId, Shutdown, SubmitError, TaskError, TensorOps,
};
use std::sync::Arc;
use std::time::Instant;

impl<O: TensorOps> Meter for Inner<O> {
    fn name(&self) -> &str {
        &self.name
    }

    fn counts(&self) -> Counts {
        let state = self.state.lock();
        state.gone + state.present()
    }
}

impl<T> State<T> {
    /// The counts of those who feed from the pool now, with what waits.
    pub(crate) fn present(&self) -> Counts {
        // Who has expired waits until that is answered.
        let (tasks, rows) = self.queue.overdue();
        let (waiting, waiting_rows) = (self.queue.waiting() + tasks, self.queue.rows() + rows);
        self.counts.waiting(waiting as u64).waiting_rows(waiting_rows as u64)
    }
}

impl<O: TensorOps> Inner<O> {
    pub(crate) fn claim(&self, view: u32, shares: bool, by: RuntimeId) -> bool {
        let mut state = self.state.lock();
        let is_taken = state.seats.of(view).is_none() && !state.seats.is_empty();
        if is_taken && (!shares || state.closed.is_some()) {
            return false;
        }
        let claimed = state.seats.claim(view, by);
        self.note_shared(&state);
        claimed
    }

    pub(crate) fn attach(&self, view: u32, doorbell: Doorbell) {
        let clock = Arc::clone(doorbell.clock());
        let now = clock.now();
        let keeps_places = doorbell.policy().is_strict_order();
        let mut state = self.state.lock();
        if state.removed || !state.seats.start(view, doorbell) {
            return;
        }
        // Nothing waits by the clock of a runtime that was lost.
        let former = state.loss.is_some().then(|| self.set_clock(clock)).flatten();
        state.rising = state.seats.bell().is_some_and(|bell| bell.policy().listens());
        if !keeps_places {
            self.rank_anew(&mut state, now);
        }
        if state.loss.take().is_some() {
            state.closed = None;
        }
        // What has been waiting since before the start may expire too.
        let in_line = state.line.first_deadline();
        if let Some(first) = state.queue.first_deadline().into_iter().chain(in_line).min() {
            state.arm(first);
        }
        drop(state);
        discard(former);
    }

    /// Looks at the queue for a runtime; where a batch may have changed ranks, `again`.
    pub(crate) fn look(&self, view: u32, now: Instant, most_rows: usize, again: bool) -> Look {
        let mut state = self.state.lock();
        let Some(seat) = state.seats.looks(view) else { return Look::Idle };
        seat.most_rows = most_rows;
        if again {
            state.with_queue(&self.options, now, Queue::let_fall);
        }
        self.look_at(&mut state, now)
    }

    pub(crate) fn cut(&self, view: u32, terms: &Terms) -> Option<Batch<O::Tensor>> {
        let taken = self.take(&mut self.state.lock(), view, None, terms);
        taken.map(|taken| self.batch(taken))
    }

    pub(crate) fn cut_if(
        &self,
        view: u32,
        rank: Rank,
        terms: &Terms,
        look: &mut Look,
    ) -> Option<Batch<O::Tensor>> {
        // The runtime may have read the clock before the task came, and what devices leave to each other is a matter of time: its
        // patience would be over as soon as it begins, and its batch before it ends.
        let mut terms = *terms;
        if self.is_shared.load(Ordering::Relaxed) {
            terms.now = terms.now.max(self.now());
            terms.begins = terms.begins.max(terms.now);
        }
        let mut state = self.state.lock();
        *look = Look::Idle;
        state.seats.looks(view)?;
        if let Some(waits) = self.leave_to_another(&mut state, view, &terms) {
            *look = waits;
            return None;
        }
        let waited = state.queue.rows();
        let taken = self.take(&mut state, view, Some(rank), &terms);
        if taken.is_some() && terms.price.is_some() {
            let rows = waited.saturating_sub(state.queue.rows());
            state.seats.has_cut(view, &terms, rows);
        }
        // Fewer rows because of a deadline say nothing about the room.
        *look = self.look_at(&mut state, terms.now);
        drop(state);
        taken.map(|taken| self.batch(taken))
    }

    pub(crate) fn after_cut(&self) {
        if self.crowded.load(Ordering::SeqCst) {
            let mut state = self.state.lock();
            let bell = self.let_in(&mut state);
            let news = state.line.take_news();
            let leftovers = std::mem::take(&mut state.leftovers);
            if state.line.is_empty() {
                self.crowded.store(false, Ordering::SeqCst);
            }
            drop(state);
            tell(bell, news);
            discard_all(leftovers);
        }
    }

    pub(crate) fn expire(&self, view: u32, by: RuntimeId, now: Instant) -> Expired<O::Tensor> {
        let mut state = self.state.lock();
        if state.seats.own(view, by).is_none() {
            return Expired::none();
        }
        let (expired, next) = state.with_queue(&self.options, now, Queue::expire);
        // `after_cut` tells callers of their fate.
        let next = next.into_iter().chain(Self::expire_line(&mut state, now)).min();
        state.seats.will_ask(view, next);
        let bell = if expired.is_empty() { None } else { state.ring() };
        let (settled, leftovers) = settle_expired(&mut state.counts, expired, now);
        self.leave(&mut state, leftovers);
        drop(state);
        ring(bell);
        Expired::new(settled, next)
    }

    /// Takes no more tasks of this runtime's from now on: it ends, or it lets the block leave. Others who feed from the
    /// pool go on with all that waits.
    pub(crate) fn end(&self, view: &View<O>, by: RuntimeId, how: Shutdown, leaves: bool) {
        let now = self.now();
        let mut state = self.state.lock();
        let Some(seat) = state.seats.own(view.number, by) else { return };
        let runs = seat.doorbell.is_some();
        if state.loss.is_some() || (!runs && state.seats.are_several()) {
            // It has not fed from the pool yet, and another runtime may.
            state.seats.leave(view.number, Counts::default());
            return;
        }
        if state.seats.others_run(view.number) {
            let bell = self.leave_to_others(&mut state, view, now);
            drop(state);
            return ring(bell);
        }
        if state.closed != Some(Shutdown::Abort) {
            state.closed = Some(how);
        }
        state.removed |= leaves;
        let (refusal, error) = if leaves {
            (SubmitError::Removed, TaskError::Removed)
        } else {
            (SubmitError::ShutDown, TaskError::ShutDown)
        };
        let waiting = if how == Shutdown::Abort { state.queue.clear() } else { Vec::new() };
        let (mut settled, leftovers) = give_up(&mut state.counts, waiting, now, &error);
        Self::turn_away(&mut state, &refusal);
        let news = state.line.take_news();
        // Nothing will be queued any more. The bell keeps what the runtime has.
        let buffers = (leaves && how == Shutdown::Abort)
            .then(|| (std::mem::replace(&mut state.queue, Queue::new()), state.seats.silence()));
        drop(state);
        Settled::deliver_all(&mut settled);
        tell(None, news);
        discard_all(leftovers);
        if buffers.is_some() {
            discard(buffers);
            discard(std::mem::take(&mut *self.spare.lock()));
        }
    }

    /// Queues tasks again that a runtime has cut and cannot run, with their age and deadlines. Returns those that only it
    /// could have run.
    pub(crate) fn take_back(
        &self,
        view: &View<O>,
        tasks: Vec<Returned<O::Tensor>>,
    ) -> Vec<Returned<O::Tensor>> {
        let now = self.now();
        // Tensors are looked at outside of the lock.
        let shape = |task: &Returned<O::Tensor>| check(&*self.ops, &self.schema, &task.inputs, usize::MAX);
        let shapes = tasks.iter().map(|task| guarded(|| shape(task)).ok()?.ok()).collect::<Vec<_>>();
        let mut state = self.state.lock();
        if state.closed == Some(Shutdown::Abort) || !state.seats.others_run(view.number) {
            return tasks;
        }
        let (mut kept, mut whole) = (Vec::new(), 0);
        for (task, shape) in tasks.into_iter().zip(shapes) {
            match shape {
                Some(shape) => {
                    whole += u64::from(task.header.is_first);
                    self.put_back(&mut state, task, &self.class(shape.free).0, now);
                }
                None => kept.push(task),
            }
        }
        view.count_back(&mut state, whole);
        let bell = state.ring();
        drop(state);
        ring(bell);
        kept
    }

    pub(crate) fn lose(&self, view: &View<O>, by: RuntimeId, loss: &DeviceLoss) -> Vec<Settled<O::Tensor>> {
        let now = self.now();
        let mut state = self.state.lock();
        if state.seats.own(view.number, by).is_none() {
            return Vec::new();
        }
        if state.seats.others_run(view.number) {
            let bell = self.leave_to_others(&mut state, view, now);
            drop(state);
            ring(bell);
            return Vec::new();
        }
        // A pool that leaves is no other runtime's to take over.
        if !state.removed {
            state.loss = Some(loss.clone());
        }
        let waiting = state.queue.clear();
        let error = TaskError::DeviceLost(loss.clone());
        let (settled, leftovers) = give_up(&mut state.counts, waiting, now, &error);
        // `after_cut` tells them.
        Self::turn_away(&mut state, &SubmitError::DeviceLost(loss.clone()));
        self.leave(&mut state, leftovers);
        view.leave(&mut state);
        settled
    }
}

impl<O: TensorOps> Cancel for Inner<O> {
    fn cancel(&self, task: TaskKey) {
        let now = self.now();
        let mut state = self.state.lock();
        let Some((cancelled, bell)) = self.remove(&mut state, task, now) else { return };
        let Task { inputs, split, reply, .. } = cancelled;
        let settled = reply.settle(Err(TaskError::Cancelled));
        state.counts.cancelled += u64::from(settled.is_some());
        let news = state.line.take_news();
        drop(state);
        if let Some(settled) = settled {
            settled.deliver();
        }
        tell(bell, news);
        discard_all(inputs);
        discard(split);
    }

    fn forget(&self, task: TaskKey) -> Option<AfterAnswer> {
        let now = self.now();
        let mut state = self.state.lock();
        let (forgotten, bell) = self.remove(&mut state, task, now)?;
        let news = state.line.take_news();
        Some(Box::new(move || {
            tell(bell, news);
            discard(forgotten);
        }))
    }

    fn runtime(&self) -> Option<RuntimeId> {
        self.state.lock().seats.bell().map(Doorbell::runtime)
    }
}

impl<O: TensorOps> Inner<O> {
    /// Leaves tensors to `after_cut`: freeing them is code of others, and this thread keeps deadlines.
    fn leave(&self, state: &mut State<O::Tensor>, mut leftovers: Leftovers<O::Tensor>) {
        if !leftovers.is_empty() {
            state.leftovers.append(&mut leftovers);
            self.crowded.store(true, Ordering::SeqCst);
        }
    }

    /// Takes a runtime's seat out. What waits is the others', and ranked by the policy of the next home. Returns the bells
    /// to ring once the lock is released.
    fn leave_to_others(&self, state: &mut State<O::Tensor>, view: &View<O>, now: Instant) -> Option<Bells> {
        let home = state.seats.bell().map(Doorbell::runtime);
        view.leave(state);
        if state.seats.bell().map(Doorbell::runtime) != home {
            state.rising = state.seats.bell().is_some_and(|bell| bell.policy().listens());
            self.rank_anew(state, now);
        }
        state.ring()
    }

    /// Gives what waits the ranks that the policy of its home says.
    fn rank_anew(&self, state: &mut State<O::Tensor>, now: Instant) {
        if state.queue.tasks() > 0 {
            state.with_queue(&self.options, now, Queue::rank_anew);
        }
    }

    /// Notes that several runtimes feed from the pool. For good: what they have in hand rests on it.
    fn note_shared(&self, state: &State<O::Tensor>) {
        if state.seats.are_several() && self.pass == Pass::Forward {
            self.is_shared.store(true, Ordering::SeqCst);
        }
    }

    fn look_at(&self, state: &mut State<O::Tensor>, now: Instant) -> Look {
        let look = state.with_queue(&self.options, now, Queue::look);
        state.note_overdue(now);
        look
    }

    /// Returns when to look again if another device will have done sooner what waits.
    fn leave_to_another(&self, state: &mut State<O::Tensor>, view: u32, terms: &Terms) -> Option<Look> {
        if !state.seats.are_several() || terms.price.is_none() {
            return None;
        }
        let look = self.look_at(state, terms.now);
        let Look::Ready(outlook) = look else { return Some(look) };
        let waiting = state.queue.rows();
        state.seats.leaves_until(view, terms, &outlook, waiting).map(Look::At)
    }

    /// Takes the tasks of the next batch out of the queue. That is all that happens under the lock: the tensors
    /// are in the memory of other processors, and callers wait.
    fn take(
        &self,
        state: &mut State<O::Tensor>,
        view: u32,
        wanted: Option<Rank>,
        terms: &Terms,
    ) -> Option<Taken<Task<O::Tensor>>> {
        if let Some(seat) = state.seats.of(view) {
            seat.wake_at = usize::MAX;
        }
        let spare = || std::mem::take(&mut *self.spare.lock());
        let taken = state
            .with_queue(&self.options, terms.now, |queue, moment| queue.cut(wanted, terms, moment, spare));
        if let Some(taken) = &taken {
            state.seats.count_cut(view, || taken.firsts());
        }
        state.price = terms.price.or(state.price);
        state.note_overdue(terms.now);
        taken
    }

    /// Takes a task out of the queue, and lets callers in who wait for its room. Their news is in the line.
    fn remove(
        &self,
        state: &mut State<O::Tensor>,
        task: TaskKey,
        now: Instant,
    ) -> Option<(Task<O::Tensor>, Option<Bells>)> {
        let key = Key { rank: Place::first(task.rank), seq: task.seq };
        let (removed, is_news) = state
            .with_queue(&self.options, now, |queue, moment| queue.remove(task.shape as usize, key, moment))?;
        let bell = if is_news { state.ring() } else { None };
        Some((removed, self.let_in(state).or(bell)))
    }

    fn batch(&self, taken: Taken<Task<O::Tensor>>) -> Batch<O::Tensor> {
        let mut buffer = Items::<Task<_>>::new();
        let mut batch = into_batch(taken, &mut buffer);
        batch.shared = self.is_shared.load(Ordering::Relaxed);
        if buffer.capacity() > 0 {
            *self.spare.lock() = buffer;
        }
        batch
    }
}
