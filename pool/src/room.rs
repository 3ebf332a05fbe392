//! Room in a full queue: who waits for it, who is let in, and who has to leave for others.

use crate::answers::{Answers, settle};
use crate::enter::Candidate;
use crate::line::{Entry, Place};
use crate::seats::{Bells, ring};
use crate::shared::{Inner, State};
use skep_runtime_core::pool::{Reply, Settled};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::sync::discard;
use skep_runtime_core::{SubmitError, TaskError, TaskHeader, TaskResult, TensorOps, Ticket};
use std::sync::Arc;
use std::time::Instant;

/// A caller in the line. Dropping it leaves the line.
pub(crate) struct Waiter<O: TensorOps> {
    pool: Arc<Inner<O>>,
    place: Place,
    news: Option<Ticket<Entry<O::Tensor>>>,
}

impl<O: TensorOps> Waiter<O> {
    /// Blocks until the task is in, or refused.
    pub(crate) fn wait(mut self, candidate: &mut Candidate<O::Tensor>) -> Result<(), SubmitError> {
        let news = self.news.take().map(Ticket::wait);
        entered(news, candidate)
    }

    /// Awaits the same.
    pub(crate) async fn hear(mut self, candidate: &mut Candidate<O::Tensor>) -> Result<(), SubmitError> {
        let news = match &mut self.news {
            Some(news) => Some(news.await),
            None => None,
        };
        self.news = None;
        entered(news, candidate)
    }
}

fn entered<T>(news: Option<TaskResult<Entry<T>>>, candidate: &mut Candidate<T>) -> Result<(), SubmitError> {
    match news.and_then(Result::ok).and_then(|mut news| news.pop()) {
        Some(Entry::In) => Ok(()),
        Some(Entry::Refused(error, inputs)) => {
            candidate.take_back(inputs);
            Err(error)
        }
        // Nobody is left who would let it in.
        None => Err(SubmitError::ShutDown),
    }
}

impl<O: TensorOps> Drop for Waiter<O> {
    fn drop(&mut self) {
        // Whoever heard of its fate is in the line no more. One who was let in and has not heard of it has a ticket,
        // which cancels the task when it is dropped.
        if self.news.is_none() {
            return;
        }
        let mut state = self.pool.state.lock();
        let gone = state.line.remove(self.place);
        // It may have kept out others, for whom there is room.
        let bell = self.pool.let_in(&mut state);
        let news = state.line.take_news();
        drop(state);
        discard(gone);
        tell(bell, news);
    }
}

impl<O: TensorOps> Inner<O> {
    /// Gets into the queue, or into the line before it, unless `refuse` has a reason not to wait.
    pub(crate) fn enqueue_or_wait(
        self: &Arc<Self>,
        candidate: &mut Candidate<O::Tensor>,
        refuse: impl FnOnce(&Self) -> Option<SubmitError>,
    ) -> Result<Option<Waiter<O>>, SubmitError> {
        match self.enqueue(candidate, candidate.header.submitted) {
            Err(SubmitError::Full { .. }) => {}
            other => return other.map(|()| None),
        }
        if let Some(error) = refuse(self) {
            return Err(error);
        }
        let now = self.now();
        let mut state = self.state.lock();
        state.admits(candidate.header.deadline, now)?;
        let (news, told) = Reply::pair();
        let Some(entrant) = candidate.entrant(told) else { return Ok(None) };
        if let Some(deadline) = entrant.header.deadline {
            state.arm(deadline);
        }
        let place = state.line.join(entrant);
        self.crowded.store(true, Ordering::SeqCst);
        // There may be room by now; and if there is none, those who wait for company wait in vain.
        let bell = self.let_in(&mut state);
        let bell = if self.options.min_rows > 1 { state.ring().or(bell) } else { bell };
        let others = state.line.take_news();
        drop(state);
        tell(bell, others);
        Ok(Some(Waiter { pool: Arc::clone(self), place, news: Some(news) }))
    }

    /// Lets callers in for whom there is room, the most urgent first. Returns the bell to ring; their news is in the line.
    pub(crate) fn let_in(&self, state: &mut State<O::Tensor>) -> Option<Bells> {
        let mut bell = None;
        while let Some((place, header)) = state.line.first() {
            if state.closed.is_some() || state.loss.is_some() || !state.fits(header, &self.options) {
                break;
            }
            let Some(entrant) = state.line.remove(place) else { break };
            let rung = self.put(state, entrant.header, &entrant.free, entrant.inputs, entrant.reply);
            bell = rung.or(bell);
            state.line.tell(entrant.news.settle(Ok(vec![Entry::In])));
        }
        bell
    }

    /// Refuses everybody in the line. Their news is in the line.
    pub(crate) fn turn_away(state: &mut State<O::Tensor>, error: &SubmitError) {
        while let Some((place, _)) = state.line.first()
            && let Some(entrant) = state.line.remove(place)
        {
            let entry = Entry::Refused(error.clone(), entrant.inputs);
            state.line.tell(entrant.news.settle(Ok(vec![entry])));
        }
    }

    /// Refuses who has waited for too long, and returns the time at which the next one will have.
    pub(crate) fn expire_line(state: &mut State<O::Tensor>, now: Instant) -> Option<Instant> {
        while let Some(entrant) = state.line.pop_expired(now) {
            let entry = Entry::Refused(SubmitError::DeadlinePassed, entrant.inputs);
            state.line.tell(entrant.news.settle(Ok(vec![entry])));
        }
        state.line.first_deadline()
    }

    /// Makes room for a task by putting out the least urgent ones, if the pool does that, and returns their answers.
    pub(crate) fn evict(
        &self,
        state: &mut State<O::Tensor>,
        header: &TaskHeader,
        now: Instant,
    ) -> Result<Answers<O::Tensor>, SubmitError> {
        let full = state.full(header.priority, &self.options);
        if !self.options.eviction || !state.is_next(header.priority) {
            return Err(full);
        }
        let room = self.options.room(header.priority);
        let tasks = (state.queue.tasks() + 1).saturating_sub(room.tasks);
        // What is missing is no more than the task has.
        let rows = header.rows - header.rows.min(room.rows.saturating_sub(state.queue.rows()));
        let evicted = state.with_queue(&self.options, now, |queue, moment| {
            queue.evict(header.priority, tasks, rows, moment)
        });
        if evicted.is_empty() {
            return Err(full);
        }
        let answers = settle(evicted, |task| TaskError::Evicted { waited: task.header.waited(now) });
        state.counts.evicted += answers.0.len() as u64;
        Ok(answers)
    }
}

/// Rings, and tells callers who waited of their fate. To be called outside of all locks.
pub(crate) fn tell<T>(bell: Option<Bells>, mut news: Vec<Settled<Entry<T>>>) {
    ring(bell);
    Settled::deliver_all(&mut news);
}
