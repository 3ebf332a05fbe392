//! The tasks that wait in a pool, and the decision when to cut a batch of them.
//!
//! Pure data: no clock, no lock, no thread.

use crate::lanes::Lanes;
use crate::options::PoolOptions;
use skep_runtime_core::{Dims, Look, Reply, TaskKey, Urgency};
use std::time::Instant;

/// A task in the queue, or one part of a task that is split over several batches.
pub(crate) struct Queued<T> {
    pub(crate) inputs: Vec<T>,
    pub(crate) rows: usize,
    pub(crate) submitted: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: Reply<T>,
    /// The sequence number of the task's first part: the same for all of its parts.
    pub(crate) task: u64,
    /// The task's last part. Its place in the queue is free once this one has left.
    pub(crate) last: bool,
}

impl<T> Queued<T> {
    fn expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Tasks whose free dims agree, so that they can run in one batch.
struct Group<T> {
    free: Dims,
    lanes: Lanes<Queued<T>>,
    rows: usize,
}

impl<T> Group<T> {
    fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        let Some((key, first)) = self.lanes.first() else { return Look::Idle };
        let ready = Look::Ready(Urgency { priority: key.priority, since: first.submitted });
        if draining || self.rows >= options.min_rows {
            return ready;
        }
        let oldest = self.lanes.heads().map(|(_, item)| item.submitted).min().unwrap_or(first.submitted);
        match options.max_delay.and_then(|delay| oldest.checked_add(delay)) {
            Some(time) if time > now => Look::At(time),
            // `min_rows` is above 1 only where there is a delay; a delay past all time is none.
            _ => ready,
        }
    }
}

/// All waiting tasks of a pool.
pub(crate) struct Queue<T> {
    groups: Vec<Group<T>>,
    tasks: usize,
    rows: usize,
    /// Tasks that had expired when their turn came; answered at the next [`expire`](Self::expire).
    overdue: Vec<Queued<T>>,
    next_seq: u64,
}

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self { groups: Vec::new(), tasks: 0, rows: 0, overdue: Vec::new(), next_seq: 0 }
    }

    /// Tasks that wait, each counted once however many parts it has.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Adds a task, or the next part of one. Says whether an earlier look at the queue may be out of date.
    pub(crate) fn push(&mut self, free: &Dims, key: TaskKey, item: Queued<T>, options: &PoolOptions) -> bool {
        let at = self.groups.iter().position(|group| group.free == *free).unwrap_or_else(|| {
            self.groups.push(Group { free: free.clone(), lanes: Lanes::new(), rows: 0 });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let before = group.rows;
        self.rows += item.rows;
        self.tasks += usize::from(item.last);
        self.next_seq = key.seq + 1;
        group.rows += item.rows;
        group.lanes.push(key, item);
        let first = group.lanes.first().is_some_and(|(first, _)| first == key);
        first || (before < options.min_rows && group.rows >= options.min_rows)
    }

    /// Whether a batch can be cut, or when to look again.
    pub(crate) fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        let mut best = Look::Idle;
        for group in &self.groups {
            best = match (best, group.look(now, options, draining)) {
                (best, Look::Idle) => best,
                (Look::Idle, look) => look,
                (Look::Ready(a), Look::Ready(b)) => Look::Ready(a.min(b)),
                (Look::At(a), Look::At(b)) => Look::At(a.min(b)),
                (ready @ Look::Ready(_), Look::At(_)) | (Look::At(_), ready @ Look::Ready(_)) => ready,
            };
        }
        best
    }

    /// Takes the tasks of the next batch: in order, of one group, as many as fit into `max_rows`.
    pub(crate) fn cut(&mut self, now: Instant, options: &PoolOptions, draining: bool) -> Vec<Queued<T>> {
        let mut batch = Vec::new();
        while let Look::Ready(urgency) = self.look(now, options, draining)
            && batch.is_empty()
        {
            let ready = Look::Ready(urgency);
            let Some(at) = self.groups.iter().position(|g| g.look(now, options, draining) == ready) else {
                break;
            };
            let mut room = options.max_rows;
            while let Some((_, first)) = self.groups[at].lanes.first() {
                let (expired, rows) = (first.expired(now), first.rows);
                if !expired && rows > room {
                    break;
                }
                let Some(item) = self.groups[at].lanes.pop() else { break };
                self.forget(at, &item);
                if expired {
                    self.overdue.push(item);
                } else {
                    room -= rows;
                    batch.push(item);
                }
            }
            self.drop_group_if_empty(at);
        }
        batch
    }

    /// Takes out a task that was cancelled: those of its parts that are still here. Says as well whether
    /// an earlier look at the queue may be out of date.
    pub(crate) fn cancel(&mut self, key: TaskKey) -> (Vec<Queued<T>>, bool) {
        for at in 0..self.groups.len() {
            let first = self.groups[at].lanes.first().map(|(first, _)| first);
            let removed = self.groups[at].lanes.remove(key, |item| item.task == key.seq);
            if !removed.is_empty() {
                removed.iter().for_each(|item| self.forget(at, item));
                let news = first != self.groups[at].lanes.first().map(|(first, _)| first);
                self.drop_group_if_empty(at);
                return (removed, news);
            }
        }
        (Vec::new(), false)
    }

    /// Takes out the tasks whose deadline has passed, and says when the next one passes.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Queued<T>>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut expired = std::mem::take(&mut self.overdue);
        expired.extend(self.take_if(|item| {
            if item.expired(now) {
                return true;
            }
            next = next.into_iter().chain(item.deadline).min();
            false
        }));
        (expired, next)
    }

    /// When the first of the waiting tasks expires.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let items = self.groups.iter().flat_map(|group| group.lanes.iter());
        items.filter_map(|item| item.deadline).min()
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Vec<Queued<T>> {
        let mut all = std::mem::take(&mut self.overdue);
        all.extend(self.take_if(|_| true));
        all
    }

    fn take_if(&mut self, mut unwanted: impl FnMut(&Queued<T>) -> bool) -> Vec<Queued<T>> {
        let mut taken = Vec::new();
        for at in (0..self.groups.len()).rev() {
            let removed = self.groups[at].lanes.take_if(&mut unwanted);
            removed.iter().for_each(|item| self.forget(at, item));
            self.drop_group_if_empty(at);
            taken.extend(removed);
        }
        taken
    }

    fn forget(&mut self, at: usize, item: &Queued<T>) {
        self.groups[at].rows -= item.rows;
        self.rows -= item.rows;
        self.tasks -= usize::from(item.last);
    }

    /// Shapes come and go; the group of tasks without free dims stays, and keeps its memory.
    fn drop_group_if_empty(&mut self, at: usize) {
        if self.groups[at].lanes.is_empty() && !self.groups[at].free.is_empty() {
            self.groups.swap_remove(at);
        }
    }
}
