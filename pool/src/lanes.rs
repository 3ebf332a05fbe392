//! A queue by priority, first in first out within one priority, from the middle of which can be taken.
//!
//! A lane is cut into segments of as many rows as a batch may have, so that a batch of a long queue leaves as one
//! buffer, in a time that does not depend on how many tasks it has: callers wait for the lock under which it leaves.
//!
//! Taking from the middle leaves a hole that is passed over later. The first and the last place of a segment
//! are never holes, and a segment with more holes than items closes them up, so both the cost per operation
//! (amortised) and the memory stay in proportion to the items.

use skep_runtime_core::{Priority, TaskKey};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// So many items share a segment whatever their rows, since a segment has a buffer of its own.
const FEWEST: usize = 16;

/// What waits in a lane. Neither changes while it does.
pub(crate) trait Item {
    /// Its share of a batch.
    fn rows(&self) -> usize;
    /// Whether it needs a look before it runs.
    fn is_special(&self) -> bool;
}

pub(crate) struct Lanes<V> {
    /// No lane is empty.
    by_priority: SmallVec<[Lane<V>; 1]>,
    len: usize,
    /// The buffer of a lane that became empty: mostly there is one lane, empty every other moment.
    spare: Places<V>,
}

/// Sequence numbers and items, `None` where an item was taken from the middle.
pub(crate) type Places<V> = VecDeque<(u64, Option<V>)>;

struct Lane<V> {
    priority: Priority,
    /// What is taken next. Not empty.
    head: Segment<V>,
    /// What comes after it, in segments that are not empty.
    tail: VecDeque<Segment<V>>,
}

struct Segment<V> {
    /// By sequence number.
    places: Places<V>,
    items: usize,
    /// Rows of all items.
    rows: usize,
    /// Items that need a look.
    special: usize,
}

impl<V: Item> Segment<V> {
    fn new(places: Places<V>) -> Self {
        Self { places, items: 0, rows: 0, special: 0 }
    }

    #[inline]
    fn push(&mut self, seq: u64, item: V) {
        self.items += 1;
        self.rows += item.rows();
        self.special += usize::from(item.is_special());
        self.places.push_back((seq, Some(item)));
    }

    fn first(&self) -> Option<(u64, &V)> {
        let (seq, item) = self.places.front()?;
        Some((*seq, item.as_ref()?))
    }

    /// Accounts for items that have left.
    fn forget_all(&mut self, items: &[V]) {
        for item in items {
            self.items -= 1;
            self.rows -= item.rows();
            self.special -= usize::from(item.is_special());
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.places.front().is_some_and(|(_, item)| item.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|(_, item)| item.is_none()) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.items + 16 {
            self.places.retain(|(_, item)| item.is_some());
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
    pub(crate) fn push(&mut self, key: TaskKey, item: V, most: usize) {
        let at = match self.by_priority.binary_search_by_key(&key.priority, |lane| lane.priority) {
            Ok(at) => at,
            Err(at) => {
                let head = Segment::new(std::mem::take(&mut self.spare));
                self.by_priority.insert(at, Lane { priority: key.priority, head, tail: VecDeque::new() });
                at
            }
        };
        let lane = &mut self.by_priority[at];
        let last = lane.tail.back_mut().unwrap_or(&mut lane.head);
        if last.items >= FEWEST && last.rows.saturating_add(item.rows()) > most {
            let mut segment = Segment::new(VecDeque::with_capacity(last.items));
            segment.push(key.seq, item);
            lane.tail.push_back(segment);
        } else {
            last.push(key.seq, item);
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
        segments.flat_map(|segment| &segment.places).filter_map(|(_, item)| item.as_ref())
    }

    /// Takes the only item, if there are no others.
    pub(crate) fn take_only(&mut self) -> Option<V> {
        if self.len != 1 {
            return None;
        }
        let (_, item) = self.by_priority.first_mut()?.head.places.pop_front()?;
        self.len = 0;
        self.drop_lane(0);
        item
    }

    /// Takes the first items, as many as fit into `room` rows, if they happen to be a segment of which none needs a
    /// look. Gives their buffer, how many they are, and their rows. `spare` becomes the buffer for those to come where
    /// the lane is empty then.
    pub(crate) fn take_segment(
        &mut self,
        room: usize,
        spare: impl FnOnce() -> Places<V>,
    ) -> Option<(Places<V>, usize, usize)> {
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
        self.len -= segment.items;
        Some((segment.places, segment.items, segment.rows))
    }

    /// Takes items, the most urgent first, up to the first one that is not wanted.
    pub(crate) fn take_while(&mut self, mut wanted: impl FnMut(&V) -> bool, taken: &mut Vec<V>) {
        while let Some(lane) = self.by_priority.first_mut() {
            let segment = &mut lane.head;
            let unwanted =
                segment.places.iter().position(|(_, item)| item.as_ref().is_some_and(|item| !wanted(item)));
            let from = taken.len();
            let places = segment.places.drain(..unwanted.unwrap_or(segment.places.len()));
            taken.extend(places.filter_map(|(_, item)| item));
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
        let before = |segment: &Segment<V>| segment.places.back().is_some_and(|(seq, _)| *seq < key.seq);
        let passed = if before(&lane.head) { 1 + lane.tail.partition_point(before) } else { 0 };
        let mut removed = Vec::new();
        for segment in lane.segments_mut().skip(passed) {
            let from = segment.places.partition_point(|(seq, _)| *seq < key.seq);
            let first = removed.len();
            let mut over = false;
            for (seq, place) in segment.places.range_mut(from..) {
                match place.take_if(|item| belongs(*seq, item)) {
                    Some(item) => removed.push(item),
                    None if place.is_some() => {
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
                let places = segment.places.iter_mut();
                taken.extend(places.filter_map(|(_, item)| item.take_if(|item| unwanted(item))));
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
        if lane.tail.iter().any(|segment| segment.items == 0) {
            lane.tail.retain(|segment| segment.items > 0);
        }
        if lane.head.items == 0 && lane.next_segment().is_none() {
            self.drop_lane(at);
        }
    }

    fn drop_lane(&mut self, at: usize) {
        self.spare = self.by_priority.remove(at).head.places;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Item for u64 {
        fn rows(&self) -> usize {
            if self.is_multiple_of(5) { 3 } else { 1 }
        }

        fn is_special(&self) -> bool {
            self % 11 == 7
        }
    }

    /// Rows of a batch.
    const MOST: usize = 20;

    #[derive(Clone, Debug)]
    enum Step {
        Push(i32),
        Take(usize),
        TakeOnly,
        TakeSegment(usize),
        Remove(usize),
        TakeMultiplesOf(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => prop_oneof![4 => Just(0), 1 => -2i32..3].prop_map(Step::Push),
            2 => (0usize..6).prop_map(Step::Take),
            1 => Just(Step::TakeOnly),
            2 => (0usize..40).prop_map(Step::TakeSegment),
            2 => (0usize..64).prop_map(Step::Remove),
            1 => (2u64..5).prop_map(Step::TakeMultiplesOf),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 0..600)) {
            let mut lanes = Lanes::new();
            let mut model = BTreeMap::new();
            for (step, seq) in steps.into_iter().zip(0u64..) {
                match step {
                    Step::Push(priority) => {
                        let key = TaskKey { priority: Priority(priority), seq };
                        lanes.push(key, seq, MOST);
                        model.insert(key, seq);
                    }
                    Step::Take(count) => {
                        let (mut taken, mut turns) = (Vec::new(), 0..count);
                        lanes.take_while(|_| turns.next().is_some(), &mut taken);
                        let expected: Vec<_> = (0..count).map_while(|_| model.pop_first()).map(|(_, v)| v).collect();
                        prop_assert_eq!(taken, expected);
                    }
                    Step::TakeOnly => {
                        let expected = if model.len() == 1 { model.pop_first() } else { None };
                        prop_assert_eq!(lanes.take_only(), expected.map(|(_, v)| v));
                    }
                    Step::TakeSegment(room) => {
                        let mut left = room;
                        let fits = |v: &u64| {
                            let fits = left >= v.rows();
                            left -= if fits { v.rows() } else { 0 };
                            fits
                        };
                        let expected: Vec<_> = model.values().copied().take_while(fits).collect();
                        if let Some((taken, items, rows)) = lanes.take_segment(room, VecDeque::new) {
                            let taken: Vec<_> = taken.into_iter().filter_map(|(_, item)| item).collect();
                            prop_assert_eq!((items, rows), (taken.len(), taken.iter().map(Item::rows).sum()));
                            prop_assert!(!taken.iter().any(Item::is_special));
                            prop_assert_eq!(&taken, &expected);
                            model.retain(|_, v| !taken.contains(v));
                        }
                    }
                    Step::Remove(nth) => {
                        let key = model.keys().nth(nth).copied()
                            .unwrap_or(TaskKey { priority: Priority(0), seq: seq + 1 });
                        let removed = lanes.remove(key, |_, item| *item == key.seq);
                        prop_assert_eq!(removed.first().copied(), model.remove(&key));
                        prop_assert!(removed.len() <= 1);
                    }
                    Step::TakeMultiplesOf(n) => {
                        let mut taken = lanes.take_if(|item| item % n == 0);
                        taken.sort_unstable();
                        let mut expected: Vec<_> = model.values().copied().filter(|v| v % n == 0).collect();
                        expected.sort_unstable();
                        model.retain(|_, v| *v % n != 0);
                        prop_assert_eq!(taken, expected);
                    }
                }
                prop_assert_eq!(lanes.len, model.len());
                prop_assert_eq!(lanes.first().map(|(k, v)| (k, *v)), model.first_key_value().map(|(k, v)| (*k, *v)));
                for segment in lanes.by_priority.iter().flat_map(Lane::segments) {
                    let items = || segment.places.iter().filter_map(|(_, item)| item.as_ref());
                    prop_assert!(segment.items > 0 && segment.places.len() <= 2 * segment.items + 16);
                    prop_assert!(segment.rows <= MOST || segment.items <= FEWEST);
                    prop_assert_eq!(segment.items, items().count());
                    prop_assert_eq!(segment.rows, items().map(Item::rows).sum::<usize>());
                    prop_assert_eq!(segment.special, items().filter(|item| item.is_special()).count());
                }
            }
        }
    }

    /// One-row items, none special.
    struct Plain(u64);

    impl Item for Plain {
        fn rows(&self) -> usize {
            1
        }
        fn is_special(&self) -> bool {
            false
        }
    }

    fn plain(count: u64, most: usize) -> Lanes<Plain> {
        let mut lanes = Lanes::new();
        for seq in 0..count {
            lanes.push(TaskKey { priority: Priority::NORMAL, seq }, Plain(seq), most);
        }
        lanes
    }

    #[test]
    fn a_long_queue_leaves_in_whole_batches() {
        let mut lanes = plain(3 * 64 + 5, 64);
        let mut take = || lanes.take_segment(64, VecDeque::new).map(|(_, items, _)| items);
        assert_eq!([take(), take(), take(), take()], [Some(64), Some(64), Some(64), Some(5)]);
        assert_eq!(lanes.len, 0);
    }

    #[test]
    fn items_share_a_segment_where_batches_are_small() {
        assert_eq!(plain(40, 1).by_priority[0].segments().count(), 40_usize.div_ceil(FEWEST));
    }

    #[test]
    fn items_that_belong_together_are_removed_together() {
        let mut lanes = plain(40, FEWEST);
        let removed = lanes.remove(TaskKey { priority: Priority::NORMAL, seq: 10 }, |_, item| item.0 < 35);
        assert_eq!(removed.iter().map(|item| item.0).collect::<Vec<_>>(), (10..35).collect::<Vec<_>>());
        let mut taken = Vec::new();
        lanes.take_while(|_| true, &mut taken);
        let left: Vec<_> = taken.iter().map(|item| item.0).collect();
        assert_eq!(left, (0..10).chain(35..40).collect::<Vec<_>>());
    }
}
