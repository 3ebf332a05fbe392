//! The pool as the runtime sees it.

use crate::queue::Taken;
use crate::queue::item::Item;
use crate::shared::{Inner, State};
use crate::task::{Task, into_batch};
use skep_runtime_core::pool::{Batch, Cancel, Doorbell, Expired, Look, Outlook, Pool, Settled, TaskKey};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::sync::discard_all;
use skep_runtime_core::{Counts, DeviceLoss, FailureRules, Meter, RuntimeId, Shutdown, TaskError, TensorOps};
use std::time::Instant;

impl<O: TensorOps> Meter for Inner<O> {
    fn name(&self) -> &str {
        &self.name
    }

    fn counts(&self) -> Counts {
        let state = self.state.lock();
        let (waiting, waiting_rows) = (state.queue.tasks() as u64, state.queue.rows() as u64);
        Counts { waiting, waiting_rows, ..state.counts }
    }
}

impl<O: TensorOps> Pool<O::Tensor> for Inner<O> {
    fn attach(&self, doorbell: Doorbell) {
        let mut state = self.state.lock();
        state.doorbell = Some(doorbell);
        if state.loss.take().is_some() {
            // Nothing waits, and everything that was counted is the former runtime's.
            (state.counts, state.closed, state.armed, state.rung) = (Counts::default(), None, None, false);
        }
        // What has been waiting since before the start may expire too.
        if let Some(first) = state.queue.first_deadline() {
            state.arm(first);
        }
        drop(state);
        self.room.notify(usize::MAX);
    }

    fn look(&self, now: Instant) -> Look {
        let mut state = self.state.lock();
        state.rung = false;
        state.queue.look(now, &self.options, state.closed.is_some())
    }

    fn failure_rules(&self) -> FailureRules {
        self.options.failures
    }

    fn cut(&self, now: Instant, most_rows: usize) -> Option<Batch<O::Tensor>> {
        let taken = self.take(&mut self.state.lock(), &|_| true, now, most_rows);
        self.batch(taken)
    }

    fn cut_if(
        &self,
        wanted: &dyn Fn(&Outlook) -> bool,
        now: Instant,
        most_rows: usize,
    ) -> (Option<Batch<O::Tensor>>, Look) {
        let mut state = self.state.lock();
        state.rung = false;
        let taken = self.take(&mut state, wanted, now, most_rows);
        let look = state.queue.look(now, &self.options, state.closed.is_some());
        drop(state);
        (self.batch(taken), look)
    }

    fn after_cut(&self) {
        if self.crowded.load(Ordering::SeqCst) {
            let freed = std::mem::take(&mut self.state.lock().freed);
            self.room.notify_additional(freed);
        }
    }

    fn expire(&self, now: Instant) -> Expired<O::Tensor> {
        let mut state = self.state.lock();
        let (expired, next) = state.queue.expire(now);
        state.armed = next;
        // Callers who wait for room have deadlines of their own: `after_cut` tells them all.
        state.freed = usize::MAX;
        let bell = if expired.is_empty() { None } else { state.ring() };
        let (settled, inputs) = settle_expired(&mut state.counts, expired, now);
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
        discard_all(inputs);
        Expired { settled, next }
    }

    fn close(&self, how: Shutdown) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        if state.closed != Some(Shutdown::Abort) {
            state.closed = Some(how);
        }
        let waiting = if how == Shutdown::Abort { state.queue.clear() } else { Vec::new() };
        let (mut settled, inputs) = give_up(&mut state.counts, waiting, now, &TaskError::ShutDown);
        drop(state);
        Settled::deliver_all(&mut settled);
        self.room.notify(usize::MAX);
        discard_all(inputs);
    }

    fn lose(&self, loss: &DeviceLoss) -> Vec<Settled<O::Tensor>> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.loss = Some(loss.clone());
        let waiting = state.queue.clear();
        let error = TaskError::DeviceLost(loss.clone());
        let (settled, inputs) = give_up(&mut state.counts, waiting, now, &error);
        drop(state);
        self.room.notify(usize::MAX);
        discard_all(inputs);
        settled
    }
}

impl<O: TensorOps> Cancel for Inner<O> {
    fn cancel(&self, task: TaskKey) {
        let mut state = self.state.lock();
        let (cancelled, news) = state.queue.cancel(task);
        let bell = if news { state.ring() } else { None };
        let freed = cancelled.iter().filter(|item| item.is_last()).count();
        let (mut settled, inputs) = settle(cancelled, |_| TaskError::Cancelled);
        state.counts.cancelled += settled.len() as u64;
        drop(state);
        if let Some(bell) = bell {
            bell.ring();
        }
        Settled::deliver_all(&mut settled);
        self.room.notify_additional(freed);
        discard_all(inputs);
    }

    fn runtime(&self) -> Option<RuntimeId> {
        self.state.lock().doorbell.as_ref().map(Doorbell::runtime)
    }
}

impl<O: TensorOps> Inner<O> {
    /// Takes the tasks of the next batch out of the queue. That is all that happens under the lock: the tensors
    /// are in the memory of other processors, and callers wait.
    fn take(
        &self,
        state: &mut State<O::Tensor>,
        wanted: &dyn Fn(&Outlook) -> bool,
        now: Instant,
        most_rows: usize,
    ) -> Option<Taken<Task<O::Tensor>>> {
        let draining = state.closed.is_some();
        let before = state.queue.tasks();
        let spare = || std::mem::take(&mut *self.spare.lock());
        let taken = state.queue.cut(wanted, now, &self.options, draining, most_rows, spare);
        // More than the batch holds: what need not run any more has left as well.
        let freed = before - state.queue.tasks();
        if self.crowded.load(Ordering::SeqCst) {
            state.freed = state.freed.saturating_add(freed);
        }
        if taken.is_none() && freed > 0 {
            // No batch, so nobody says when the locks are released. The timer looks at the pool in a moment.
            state.arm(now);
        }
        taken
    }

    fn batch(&self, taken: Option<Taken<Task<O::Tensor>>>) -> Option<Batch<O::Tensor>> {
        let (batch, buffer) = into_batch(taken?);
        if buffer.capacity() > 0 {
            *self.spare.lock() = buffer;
        }
        Some(batch)
    }
}

/// The fixed answers of tasks that were taken out of the queue, and their inputs, to be freed outside of the lock. They
/// are counted under it: whoever reads the counts finds each task in one place.
type Answers<T> = (Vec<Settled<T>>, Vec<Vec<T>>);

fn settle<T>(items: Vec<Task<T>>, error: impl Fn(&Task<T>) -> TaskError) -> Answers<T> {
    let (mut settled, mut inputs) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for item in items {
        let error = error(&item);
        inputs.push(item.inputs);
        settled.extend(item.reply.settle(Err(error)));
    }
    (settled, inputs)
}

fn settle_expired<T>(counts: &mut Counts, items: Vec<Task<T>>, now: Instant) -> Answers<T> {
    let (settled, inputs) = settle(items, |item| TaskError::Expired { waited: item.header.waited(now) });
    counts.expired += settled.len() as u64;
    (settled, inputs)
}

/// Settles tasks that waited when the pool was closed.
fn give_up<T>(counts: &mut Counts, waiting: Vec<Task<T>>, now: Instant, error: &TaskError) -> Answers<T> {
    // What the timer has not come to yet had expired all the same.
    let (expired, given_up) = waiting.into_iter().partition(|item: &Task<T>| item.header.is_expired(now));
    let (mut settled, mut inputs) = settle_expired(counts, expired, now);
    let (shut_down, of_them) = settle(given_up, |_| error.clone());
    counts.shut_down += shut_down.len() as u64;
    settled.extend(shut_down);
    inputs.extend(of_them);
    (settled, inputs)
}
