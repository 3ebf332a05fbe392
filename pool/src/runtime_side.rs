//! The pool as the runtime sees it.

use crate::answers::{Leftovers, give_up, settle_expired};
use crate::queue::item::{Key, Place};
use crate::queue::{Queue, Taken};
use crate::room::tell;
use crate::shared::{Inner, State};
use crate::task::{Task, into_batch};
use skep_runtime_core::pool::{
    AfterAnswer, Batch, Cancel, Doorbell, Expired, Look, Lost, Pool, Rank, Settled, TaskKey, Terms,
};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::sync::{discard, discard_all};
use skep_runtime_core::{
    Counts, DeviceLoss, FailureRules, Meter, RuntimeId, Shutdown, SubmitError, TaskError, TensorOps, Verify,
};
use std::sync::Arc;
use std::time::Instant;

impl<O: TensorOps> Meter for Inner<O> {
    fn name(&self) -> &str {
        &self.name
    }

    fn counts(&self) -> Counts {
        let state = self.state.lock();
        // Who has expired waits until that is answered.
        let (tasks, rows) = state.queue.overdue();
        let (waiting, waiting_rows) = (state.queue.waiting() + tasks, state.queue.rows() + rows);
        let mut counts = state.counts;
        (counts.waiting, counts.waiting_rows) = (waiting as u64, waiting_rows as u64);
        counts
    }
}

impl<O: TensorOps> Pool<O::Tensor> for Inner<O> {
    fn claim(&self, by: RuntimeId) -> bool {
        *self.state.lock().owner.get_or_insert(by) == by
    }

    fn attach(&self, doorbell: Doorbell) {
        let clock = Arc::clone(doorbell.clock());
        let now = clock.now();
        let mut state = self.state.lock();
        if state.owner != Some(doorbell.runtime()) || state.removed {
            return;
        }
        // Nothing waits by the clock of a runtime that was lost.
        let former = state.loss.is_some().then(|| self.set_clock(clock)).flatten();
        state.rising = doorbell.policy().listens();
        let keeps_places = doorbell.policy().is_strict_order();
        state.doorbell = Some(doorbell);
        (state.most_rows, state.wake_at) = (usize::MAX, usize::MAX);
        if !keeps_places && state.queue.tasks() > 0 {
            state.with_queue(&self.options, now, Queue::rank_anew);
        }
        if state.loss.take().is_some() {
            // Nothing waits, and everything that was counted is the former runtime's.
            (state.counts, state.closed, state.armed, state.rung) = (Counts::default(), None, None, false);
        }
        // What has been waiting since before the start may expire too.
        let in_line = state.line.first_deadline();
        if let Some(first) = state.queue.first_deadline().into_iter().chain(in_line).min() {
            state.arm(first);
        }
        drop(state);
        discard(former);
    }

    fn look(&self, now: Instant, most_rows: usize) -> Look {
        let mut state = self.state.lock();
        state.rung = false;
        self.look_at(&mut state, now, most_rows)
    }

    fn look_again(&self, now: Instant, most_rows: usize) -> Look {
        let mut state = self.state.lock();
        state.rung = false;
        state.with_queue(&self.options, now, Queue::let_fall);
        self.look_at(&mut state, now, most_rows)
    }

    fn failure_rules(&self) -> FailureRules {
        self.options.failures
    }

    fn verify(&self) -> Option<Verify> {
        self.options.verify
    }

    fn cut(&self, terms: &Terms) -> Option<Batch<O::Tensor>> {
        let taken = self.take(&mut self.state.lock(), None, terms);
        self.batch(taken)
    }

    fn cut_if(&self, rank: Rank, terms: &Terms) -> (Option<Batch<O::Tensor>>, Look) {
        let mut state = self.state.lock();
        state.rung = false;
        let most_rows = state.most_rows;
        let taken = self.take(&mut state, Some(rank), terms);
        // Fewer rows because of a deadline say nothing about the room.
        let look = self.look_at(&mut state, terms.now, most_rows);
        drop(state);
        (self.batch(taken), look)
    }

    fn wake_at(&self, rows: usize) {
        self.state.lock().wake_at = rows;
    }

    fn after_cut(&self) {
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

    fn expire(&self, by: RuntimeId, now: Instant) -> Expired<O::Tensor> {
        let mut state = self.state.lock();
        if state.owner != Some(by) {
            return Expired::none();
        }
        let (expired, next) = state.with_queue(&self.options, now, Queue::expire);
        // `after_cut` tells callers of their fate.
        let next = next.into_iter().chain(Self::expire_line(&mut state, now)).min();
        state.armed = next;
        let bell = if expired.is_empty() { None } else { state.ring() };
        let (settled, leftovers) = settle_expired(&mut state.counts, expired, now);
        self.leave(&mut state, leftovers);
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
        Expired::new(settled, next)
    }

    fn close(&self, by: RuntimeId, how: Shutdown) {
        self.end(by, how, false);
    }

    fn remove(&self, by: RuntimeId, how: Shutdown) {
        self.end(by, how, true);
    }

    fn lose(&self, by: RuntimeId, loss: &DeviceLoss) -> Lost<O::Tensor> {
        let now = self.now();
        let mut state = self.state.lock();
        if state.owner.take_if(|owner| *owner == by).is_none() {
            return Lost::new(Vec::new(), state.counts);
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
        let counts = state.counts;
        drop(state);
        Lost::new(settled, counts)
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
        self.state.lock().doorbell.as_ref().map(Doorbell::runtime)
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

    /// Takes no more tasks from now on: the runtime ends, or it lets the block leave.
    fn end(&self, by: RuntimeId, how: Shutdown, leaves: bool) {
        let now = self.now();
        let mut state = self.state.lock();
        if state.owner != Some(by) {
            return;
        }
        if state.loss.is_some() {
            // It was to be taken over, and is not: another runtime may.
            state.owner = None;
            return;
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
            .then(|| (std::mem::replace(&mut state.queue, Queue::new()), state.doorbell.take()));
        drop(state);
        Settled::deliver_all(&mut settled);
        tell(None, news);
        discard_all(leftovers);
        if buffers.is_some() {
            discard(buffers);
            discard(std::mem::take(&mut *self.spare.lock()));
        }
    }

    fn look_at(&self, state: &mut State<O::Tensor>, now: Instant, most_rows: usize) -> Look {
        state.most_rows = most_rows;
        let look = state.with_queue(&self.options, now, Queue::look);
        state.note_overdue(now);
        look
    }

    /// Takes the tasks of the next batch out of the queue. That is all that happens under the lock: the tensors
    /// are in the memory of other processors, and callers wait.
    fn take(
        &self,
        state: &mut State<O::Tensor>,
        wanted: Option<Rank>,
        terms: &Terms,
    ) -> Option<Taken<Task<O::Tensor>>> {
        state.wake_at = usize::MAX;
        let spare = || std::mem::take(&mut *self.spare.lock());
        let taken = state
            .with_queue(&self.options, terms.now, |queue, moment| queue.cut(wanted, terms, moment, spare));
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
    ) -> Option<(Task<O::Tensor>, Option<Doorbell>)> {
        let key = Key { rank: Place::first(task.rank), seq: task.seq };
        let (removed, is_news) = state
            .with_queue(&self.options, now, |queue, moment| queue.remove(task.shape as usize, key, moment))?;
        let bell = if is_news { state.ring() } else { None };
        Some((removed, self.let_in(state).or(bell)))
    }

    fn batch(&self, taken: Option<Taken<Task<O::Tensor>>>) -> Option<Batch<O::Tensor>> {
        let (batch, buffer) = into_batch(taken?);
        if buffer.capacity() > 0 {
            *self.spare.lock() = buffer;
        }
        Some(batch)
    }
}
