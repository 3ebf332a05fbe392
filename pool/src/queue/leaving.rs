//! Ways out of the queue that are no batch: cancelled, expired, evicted, given up.

use super::item::{Item, Key, Place};
use super::moment::Moment;
use super::{Queue, Taken, is_there};
use skep_runtime_core::Priority;
use std::time::Instant;

/// The most tasks that one other may put out of the queue, so that this takes a bounded time.
pub(super) const MOST_EVICTED: usize = 16;

impl<I: Item> Taken<I> {
    /// Tasks of which this is all, or the first part.
    pub(crate) fn firsts(&self) -> usize {
        let is_first = |item: &&I| item.header().is_first;
        match self {
            Self::One(item) => usize::from(item.header().is_first),
            Self::Segment(items, _) => {
                items.iter().filter_map(|(_, item)| item.as_ref()).filter(is_first).count()
            }
            Self::Some(items) => items.iter().filter(is_first).count(),
        }
    }
}

impl<I: Item<Rank = Place>> Queue<I> {
    /// Adds a task that has left, and comes back; or a part of one.
    pub(crate) fn push_again(&mut self, at: usize, rank: Place, item: I, moment: &Moment<'_>) {
        self.started += usize::from(item.is_started());
        self.push(at, rank, item, moment);
    }

    /// Takes out a task by its place and the number that its ticket knows. Returns true beside it if an earlier look
    /// at the queue may be out of date.
    pub(crate) fn remove(&mut self, at: usize, key: Key<I::Rank>, moment: &Moment<'_>) -> Option<(I, bool)> {
        let key = if self.moved.is_empty() { key } else { self.moved.get(&key.seq).copied().unwrap_or(key) };
        let items = &mut self.groups.get_mut(at)?.items;
        let was_first = items.first().is_some_and(|(first, _)| first == key);
        let item = items.remove(key)?;
        self.left(at, key, &item, moment);
        Some((item, was_first))
    }

    /// Takes out the tasks whose deadline has passed, and returns the time at which the next one passes.
    pub(crate) fn expire(&mut self, moment: &Moment<'_>) -> (Vec<I>, Option<Instant>) {
        let mut expired = std::mem::take(&mut self.overdue);
        while let Some((at, key)) = self.deadlines.pop(moment.now) {
            if let Some(item) = self.groups.get_mut(at).and_then(|group| group.items.remove(key)) {
                self.left(at, key, &item, moment);
                expired.push(item);
            }
        }
        (expired, self.first_deadline())
    }

    /// The time at which the first of the waiting tasks expires.
    pub(crate) fn first_deadline(&mut self) -> Option<Instant> {
        let groups = &self.groups;
        self.deadlines.first(|place| is_there(groups, place))
    }

    /// Takes out the least urgent tasks, if all of them are less urgent than `than` and leave room for `tasks` more and
    /// `rows` more rows; else none. What has left in part stays.
    pub(crate) fn evict(&mut self, than: Priority, tasks: usize, rows: usize, moment: &Moment<'_>) -> Vec<I> {
        let mut places: Vec<(Key<I::Rank>, usize)> = Vec::new();
        let only = if self.groups.len() == 1 { Some(0) } else { None };
        let shapes = self.shapes.iter().flat_map(|shapes| shapes.index.least_urgent());
        for at in only.into_iter().chain(shapes).take(MOST_EVICTED) {
            let items = self.groups[at].items.iter_back().take(MOST_EVICTED);
            let less_urgent = items.filter(|(_, item)| item.header().priority > than && !item.is_started());
            places.extend(less_urgent.map(|(key, _)| (key, at)));
            if only.is_some() {
                break;
            }
        }
        places.sort_unstable_by(|a, b| b.cmp(a));
        let (mut left_tasks, mut left_rows) = (0, 0_usize);
        let enough = places.iter().take(MOST_EVICTED).position(|(key, at)| {
            left_tasks += 1;
            left_rows += self.groups[*at].items.get(*key).map_or(0, Item::rows);
            left_tasks >= tasks && left_rows >= rows
        });
        let Some(enough) = enough else { return Vec::new() };
        let places = places.into_iter().take(enough + 1);
        places.filter_map(|(key, at)| self.remove(at, key, moment)).map(|(item, _)| item).collect()
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Vec<I> {
        let mut all = std::mem::take(&mut self.overdue);
        self.groups.iter_mut().for_each(|group| group.items.take_all(&mut all));
        *self = Self { next_seq: self.next_seq, ..Self::new() };
        all
    }
}
