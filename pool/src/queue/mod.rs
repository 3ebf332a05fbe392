//! The queue: the tasks that wait in a pool, and the decision when to cut a batch of them.
//!
//! Pure data over any kind of item: no clock, no lock, no thread, no reply.

pub(crate) mod item;
pub(crate) mod lanes;

use self::item::Item;
use self::lanes::{Items, Lanes};
use crate::options::PoolOptions;
use skep_runtime_core::Dims;
use skep_runtime_core::pool::{Look, OldestFirst, Outlook, TaskKey};
use smallvec::SmallVec;
use std::time::Instant;

/// Tasks whose free dims agree, so that they can run in one batch.
struct Group<I> {
    free: Dims,
    lanes: Lanes<I>,
    rows: usize,
}

impl<I: Item> Group<I> {
    fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        let Some((key, first)) = self.lanes.first() else { return Look::Idle };
        let ready = Look::Ready(Outlook::new(key.priority, first.header().submitted));
        if draining || self.rows >= options.min_rows {
            return ready;
        }
        let oldest = self
            .lanes
            .heads()
            .map(|(_, item)| item.header().submitted)
            .min()
            .unwrap_or(first.header().submitted);
        match options.max_delay.and_then(|delay| oldest.checked_add(delay)) {
            Some(time) if time > now => Look::At(time),
            // `min_rows` is above 1 only where there is a delay; a delay past all time is none.
            _ => ready,
        }
    }
}

/// Most blocks have no free dims, and then there is nothing to compare.
#[inline]
fn same(a: &Dims, b: &Dims) -> bool {
    (a.is_empty() && b.is_empty()) || a == b
}

/// All waiting tasks of a pool.
pub(crate) struct Queue<I> {
    groups: SmallVec<[Group<I>; 1]>,
    tasks: usize,
    rows: usize,
    /// Tasks that had expired when their turn came; answered at the next [`expire`](Self::expire).
    overdue: Vec<I>,
    next_seq: u64,
}

/// The items of a batch, taken out of the queue in the shortest time.
pub(crate) enum Taken<I> {
    /// The only one of a group.
    One(I),
    /// All of a segment, and how many they are.
    Segment(Items<I>, usize),
    Some(Vec<I>),
}

impl<I: Item> Queue<I> {
    pub(crate) fn new() -> Self {
        Self { groups: SmallVec::new(), tasks: 0, rows: 0, overdue: Vec::new(), next_seq: 0 }
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

    /// Adds a task, or the next part of one. Returns true if an earlier look at the queue may be out of date.
    #[inline]
    pub(crate) fn push(&mut self, free: &Dims, item: I, options: &PoolOptions) -> bool {
        let key = TaskKey { priority: item.header().priority, seq: self.next_seq };
        let at = self.groups.iter().position(|group| same(&group.free, free)).unwrap_or_else(|| {
            self.groups.push(Group { free: free.clone(), lanes: Lanes::new(), rows: 0 });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let before = group.rows;
        self.rows += item.rows();
        self.tasks += usize::from(item.is_last());
        self.next_seq += 1;
        group.rows += item.rows();
        group.lanes.push(key.seq, item, options.max_rows);
        let first = group.lanes.first().is_some_and(|(first, _)| first == key);
        first || (before < options.min_rows && group.rows >= options.min_rows)
    }

    /// Reports if a batch can be cut, or when to look again.
    pub(crate) fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        self.best(now, options, draining).1
    }

    /// The group that is first to be cut from, and its look.
    fn best(&self, now: Instant, options: &PoolOptions, draining: bool) -> (usize, Look) {
        let mut best = (0, Look::Idle);
        for (at, group) in self.groups.iter().enumerate() {
            let look = group.look(now, options, draining);
            let better = match (best.1, look) {
                (_, Look::Idle) | (Look::Ready(_), Look::At(_)) => false,
                (Look::Idle, _) | (Look::At(_), Look::Ready(_)) => true,
                (Look::Ready(best), Look::Ready(other)) => OldestFirst.rank(&other) < OldestFirst.rank(&best),
                (Look::At(best), Look::At(other)) => other < best,
            };
            if better {
                best = (at, look);
            }
        }
        best
    }

    /// Takes the tasks of the next batch: in order, of one group, as many as fit into `max_rows` and
    /// `most_rows`, but one at least; only if `wanted` accepts the queue's outlook. `spare` makes a
    /// buffer for tasks to come, if one is wanted.
    pub(crate) fn cut(
        &mut self,
        wanted: &dyn Fn(&Outlook) -> bool,
        now: Instant,
        options: &PoolOptions,
        draining: bool,
        most_rows: usize,
        spare: impl Fn() -> Items<I>,
    ) -> Option<Taken<I>> {
        let mut wanted = Some(wanted);
        while let (at, Look::Ready(outlook)) = self.best(now, options, draining) {
            if wanted.take().is_some_and(|wanted| !wanted(&outlook)) {
                return None;
            }
            let room = options.max_rows.min(most_rows);
            let taken = match self.groups[at].lanes.take_only() {
                Some(item) => self.only(at, now, item),
                None => self.take_segment(at, room, &spare).or_else(|| self.take_some(at, now, room)),
            };
            self.drop_group_if_empty(at);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// A group's only task, if it is worth running.
    fn only(&mut self, at: usize, now: Instant, item: I) -> Option<Taken<I>> {
        self.forget(at, &item);
        if !item.is_moot(now) {
            return Some(Taken::One(item));
        }
        if !item.is_void() {
            self.overdue.push(item);
        }
        None
    }

    /// Takes a batch that is one segment of a lane, if it happens to be.
    fn take_segment(&mut self, at: usize, room: usize, spare: impl Fn() -> Items<I>) -> Option<Taken<I>> {
        let group = self.groups.get_mut(at)?;
        let (items, tasks, rows) = group.lanes.take_segment(room, spare)?;
        group.rows -= rows;
        self.rows -= rows;
        self.tasks -= tasks;
        Some(Taken::Segment(items, tasks))
    }

    fn take_some(&mut self, at: usize, now: Instant, mut room: usize) -> Option<Taken<I>> {
        let mut taken = Vec::with_capacity(self.tasks.min(room));
        let (mut is_first, mut all_run) = (true, true);
        let fits = |item: &I| {
            if item.is_moot(now) {
                all_run = false;
            } else if item.rows() > room && !is_first {
                return false;
            } else {
                is_first = false;
                room = room.saturating_sub(item.rows());
            }
            true
        };
        self.groups.get_mut(at)?.lanes.take_while(fits, &mut taken);
        for item in &taken {
            self.forget(at, item);
        }
        if !all_run {
            let (moot, run) = taken.into_iter().partition::<Vec<_>, _>(|item| item.is_moot(now));
            self.overdue.extend(moot.into_iter().filter(|item| !item.is_void()));
            taken = run;
        }
        (!taken.is_empty()).then_some(Taken::Some(taken))
    }

    /// Takes out a task that was cancelled: those of its parts that are still here. Returns true beside them if
    /// an earlier look at the queue may be out of date.
    pub(crate) fn cancel(&mut self, key: TaskKey) -> (Vec<I>, bool) {
        for at in 0..self.groups.len() {
            let first = self.groups[at].lanes.first().map(|(first, _)| first);
            let removed =
                self.groups[at].lanes.remove(key, |seq, item| seq - u64::from(item.part().at) == key.seq);
            if !removed.is_empty() {
                for item in &removed {
                    self.forget(at, item);
                }
                let news = first != self.groups[at].lanes.first().map(|(first, _)| first);
                self.drop_group_if_empty(at);
                return (removed, news);
            }
        }
        (Vec::new(), false)
    }

    /// Takes out the tasks whose deadline has passed, and returns the time at which the next one passes.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<I>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut expired = std::mem::take(&mut self.overdue);
        expired.extend(self.take_if(|item| {
            if item.header().is_expired(now) {
                return true;
            }
            next = next.into_iter().chain(item.header().deadline).min();
            false
        }));
        (expired, next)
    }

    /// The time at which the first of the waiting tasks expires.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let items = self.groups.iter().flat_map(|group| group.lanes.iter());
        items.filter_map(|item| item.header().deadline).min()
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Vec<I> {
        let mut all = std::mem::take(&mut self.overdue);
        all.extend(self.take_if(|_| true));
        all
    }

    fn take_if(&mut self, mut unwanted: impl FnMut(&I) -> bool) -> Vec<I> {
        let mut taken = Vec::new();
        for at in (0..self.groups.len()).rev() {
            let removed = self.groups[at].lanes.take_if(&mut unwanted);
            for item in &removed {
                self.forget(at, item);
            }
            self.drop_group_if_empty(at);
            taken.extend(removed);
        }
        taken
    }

    fn forget(&mut self, at: usize, item: &I) {
        self.groups[at].rows -= item.rows();
        self.rows -= item.rows();
        self.tasks -= usize::from(item.is_last());
    }

    /// Shapes come and go; the group of tasks without free dims stays, and keeps its memory.
    fn drop_group_if_empty(&mut self, at: usize) {
        if self.groups[at].lanes.is_empty() && !self.groups[at].free.is_empty() {
            self.groups.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
