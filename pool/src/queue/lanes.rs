//! A queue by priority, first in first out within one priority, from the middle of which can be taken.
//!
//! A lane is cut into segments of as many rows as a batch may have, so that a batch of a long queue leaves as one
//! buffer, in a time that does not depend on how many tasks it has: callers wait for the lock under which it leaves.
//!
//! Taking from the middle leaves a hole that is passed over later. The first and the last entry of a segment
//! are never holes, and a segment with more holes than items closes them up, so both the cost per operation
//! (amortised) and the memory stay in proportion to the items.

use super::item::Item;
use skep_runtime_core::Priority;
use skep_runtime_core::pool::TaskKey;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// So many items share a segment whatever their rows, since a segment has a buffer of its own.
const FEWEST: usize = 16;

pub(crate) struct Lanes<V> {
    /// No lane is empty.
    by_priority: SmallVec<[Lane<V>; 1]>,
    len: usize,
    /// The buffer of a lane that became empty: mostly there is one lane, empty every other moment.
    spare: Items<V>,
}

/// Sequence numbers and items, `None` for an item that was taken from the middle.
pub(crate) type Items<V> = VecDeque<(u64, Option<V>)>;

struct Lane<V> {
    priority: Priority,
    /// What is taken next. Not empty.
    head: Segment<V>,
    /// What comes after it, in segments that are not empty.
    tail: VecDeque<Segment<V>>,
}

struct Segment<V> {
    /// By sequence number.
    items: Items<V>,
    /// How many there are, without the holes.
    count: usize,
    /// Rows of all items.
    rows: usize,
    /// Items that need a look.
    special: usize,
}

impl<V: Item> Segment<V> {
    fn new(items: Items<V>) -> Self {
        Self { items, count: 0, rows: 0, special: 0 }
    }

    #[inline]
    fn push(&mut self, seq: u64, item: V) {
        self.count += 1;
        self.rows += item.rows();
        self.special += usize::from(item.needs_look());
        self.items.push_back((seq, Some(item)));
    }

    fn first(&self) -> Option<(u64, &V)> {
        let (seq, item) = self.items.front()?;
        Some((*seq, item.as_ref()?))
    }

    /// Accounts for items that have left.
    fn forget_all(&mut self, items: &[V]) {
        for item in items {
            self.count -= 1;
            self.rows -= item.rows();
            self.special -= usize::from(item.needs_look());
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.items.front().is_some_and(|(_, item)| item.is_none()) {
            self.items.pop_front();
        }
        while self.items.back().is_some_and(|(_, item)| item.is_none()) {
            self.items.pop_back();
        }
        if self.items.len() > 2 * self.count + 16 {
            self.items.retain(|(_, item)| item.is_some());
        }
    }
}

impl<V: Item> Lane<V> {
    fn segments(&self) -> impl Iterator<Item = &Segment<V>> {
        std::iter::once(&self.head).chain(&self.tail)
    }

    fn segments_mut(&mut self) -> impl Iterator<Item = &mut Segment<V>> {
        std::iter::once(&mut self.head).chain(&mut self.tail)
    }

    fn first(&self) -> Option<(TaskKey, &V)> {
        let (seq, item) = self.head.first()?;
        Some((TaskKey { priority: self.priority, seq }, item))
    }

    /// Takes the segment that is next off, where there is another one.
    fn next_segment(&mut self) -> Option<Segment<V>> {
        Some(std::mem::replace(&mut self.head, self.tail.pop_front()?))
    }
}

impl<V: Item> Lanes<V> {
    pub(crate) fn new() -> Self {
        Self { by_priority: SmallVec::new(), len: 0, spare: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item whose sequence number is higher than any before. `most` are the rows of a batch.
    #[inline]
    pub(crate) fn push(&mut self, seq: u64, item: V, most: usize) {
        let priority = item.header().priority;
        let at = match self.by_priority.binary_search_by_key(&priority, |lane| lane.priority) {
            Ok(at) => at,
            Err(at) => {
                let head = Segment::new(std::mem::take(&mut self.spare));
                self.by_priority.insert(at, Lane { priority, head, tail: VecDeque::new() });
                at
            }
        };
        let lane = &mut self.by_priority[at];
        let last = lane.tail.back_mut().unwrap_or(&mut lane.head);
        if last.count >= FEWEST && last.rows.saturating_add(item.rows()) > most {
            let mut segment = Segment::new(VecDeque::with_capacity(last.count));
            segment.push(seq, item);
            lane.tail.push_back(segment);
        } else {
            last.push(seq, item);
        }
        self.len += 1;
    }

    /// The most urgent item.
    pub(crate) fn first(&self) -> Option<(TaskKey, &V)> {
        self.by_priority.first()?.first()
    }

    /// The first item of each priority.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (TaskKey, &V)> {
        self.by_priority.iter().filter_map(Lane::first)
    }

    /// Every item, in no order that matters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        let segments = self.by_priority.iter().flat_map(Lane::segments);
        segments.flat_map(|segment| &segment.items).filter_map(|(_, item)| item.as_ref())
    }

    /// Takes the only item, if there are no others.
    pub(crate) fn take_only(&mut self) -> Option<V> {
        if self.len != 1 {
            return None;
        }
        let (_, item) = self.by_priority.first_mut()?.head.items.pop_front()?;
        self.len = 0;
        self.drop_lane(0);
        item
    }

    /// Takes the first items, as many as fit into `room` rows, if they happen to be a segment of which none needs a
    /// look. Returns their buffer, their number, and their rows. `spare` becomes the buffer for those to come if
    /// the lane is empty then.
    pub(crate) fn take_segment(
        &mut self,
        room: usize,
        spare: impl FnOnce() -> Items<V>,
    ) -> Option<(Items<V>, usize, usize)> {
        let lane = self.by_priority.first()?;
        let (head, next) = (&lane.head, lane.tail.front().or(self.by_priority.get(1).map(|lane| &lane.head)));
        let next = next.and_then(Segment::first).map(|(_, item)| item.rows());
        if head.special > 0
            || head.rows > room
            || next.is_some_and(|next| head.rows.saturating_add(next) <= room)
        {
            return None;
        }
        let lane = self.by_priority.first_mut()?;
        let segment = if let Some(segment) = lane.next_segment() {
            segment
        } else {
            let segment = std::mem::replace(&mut lane.head, Segment::new(VecDeque::new()));
            self.drop_lane(0);
            self.spare = spare();
            segment
        };
        self.len -= segment.count;
        Some((segment.items, segment.count, segment.rows))
    }

    /// Takes items, the most urgent first, up to the first one that is not wanted.
    pub(crate) fn take_while(&mut self, mut wanted: impl FnMut(&V) -> bool, taken: &mut Vec<V>) {
        while let Some(lane) = self.by_priority.first_mut() {
            let segment = &mut lane.head;
            let unwanted =
                segment.items.iter().position(|(_, item)| item.as_ref().is_some_and(|item| !wanted(item)));
            let from = taken.len();
            let items = segment.items.drain(..unwanted.unwrap_or(segment.items.len()));
            taken.extend(items.filter_map(|(_, item)| item));
            segment.forget_all(&taken[from..]);
            self.len -= taken.len() - from;
            if unwanted.is_some() {
                return;
            }
            if lane.next_segment().is_none() {
                self.drop_lane(0);
            }
        }
    }

    /// Takes the items of this priority from the sequence number of `key` on, for as long as `belongs`
    /// says so.
    pub(crate) fn remove(&mut self, key: TaskKey, belongs: impl Fn(u64, &V) -> bool) -> Vec<V> {
        let Ok(at) = self.by_priority.binary_search_by_key(&key.priority, |lane| lane.priority) else {
            return Vec::new();
        };
        let lane = &mut self.by_priority[at];
        let before = |segment: &Segment<V>| segment.items.back().is_some_and(|(seq, _)| *seq < key.seq);
        let passed = if before(&lane.head) { 1 + lane.tail.partition_point(before) } else { 0 };
        let mut removed = Vec::new();
        for segment in lane.segments_mut().skip(passed) {
            let from = segment.items.partition_point(|(seq, _)| *seq < key.seq);
            let first = removed.len();
            let mut over = false;
            for (seq, item) in segment.items.range_mut(from..) {
                match item.take_if(|item| belongs(*seq, item)) {
                    Some(item) => removed.push(item),
                    None if item.is_some() => {
                        over = true;
                        break;
                    }
                    None => {}
                }
            }
            segment.forget_all(&removed[first..]);
            if over {
                break;
            }
        }
        self.close_up(at, removed.len());
        removed
    }

    /// Takes every item for which `unwanted` says so.
    pub(crate) fn take_if(&mut self, mut unwanted: impl FnMut(&V) -> bool) -> Vec<V> {
        let mut taken = Vec::new();
        for at in (0..self.by_priority.len()).rev() {
            let from = taken.len();
            for segment in self.by_priority[at].segments_mut() {
                let of_segment = taken.len();
                let items = segment.items.iter_mut();
                taken.extend(items.filter_map(|(_, item)| item.take_if(|item| unwanted(item))));
                segment.forget_all(&taken[of_segment..]);
            }
            self.close_up(at, taken.len() - from);
        }
        taken
    }

    /// Drops the segments of a lane that have become empty with the last `removed` items, and the lane where it has.
    fn close_up(&mut self, at: usize, removed: usize) {
        self.len -= removed;
        let lane = &mut self.by_priority[at];
        if lane.tail.iter().any(|segment| segment.count == 0) {
            lane.tail.retain(|segment| segment.count > 0);
        }
        if lane.head.count == 0 && lane.next_segment().is_none() {
            self.drop_lane(at);
        }
    }

    fn drop_lane(&mut self, at: usize) {
        self.spare = self.by_priority.remove(at).head.items;
    }
}

#[cfg(test)]
mod tests;
