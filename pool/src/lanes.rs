//! A queue by priority, first in first out within one priority, from the middle of which can be taken.
//!
//! Taking from the middle leaves a hole that is passed over later. The first and the last place of a lane
//! are never holes, and a lane with more holes than items closes them up, so both the cost per operation
//! (amortised) and the memory stay in proportion to the items.

use skep_runtime_core::{Priority, TaskKey};
use smallvec::SmallVec;
use std::collections::VecDeque;

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
    /// By sequence number.
    places: Places<V>,
    items: usize,
}

impl<V> Lane<V> {
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

impl<V> Lanes<V> {
    pub(crate) fn new() -> Self {
        Self { by_priority: SmallVec::new(), len: 0, spare: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item whose sequence number is higher than any before.
    #[inline]
    pub(crate) fn push(&mut self, key: TaskKey, item: V) {
        let at = match self.by_priority.binary_search_by_key(&key.priority, |lane| lane.priority) {
            Ok(at) => at,
            Err(at) => {
                let places = std::mem::take(&mut self.spare);
                self.by_priority.insert(at, Lane { priority: key.priority, places, items: 0 });
                at
            }
        };
        let lane = &mut self.by_priority[at];
        lane.places.push_back((key.seq, Some(item)));
        lane.items += 1;
        self.len += 1;
    }

    /// The most urgent item.
    pub(crate) fn first(&self) -> Option<(TaskKey, &V)> {
        Self::head(self.by_priority.first()?)
    }

    /// The first item of each priority.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (TaskKey, &V)> {
        self.by_priority.iter().filter_map(Self::head)
    }

    /// Every item, in no order that matters.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.by_priority.iter().flat_map(|lane| &lane.places).filter_map(|(_, item)| item.as_ref())
    }

    fn head(lane: &Lane<V>) -> Option<(TaskKey, &V)> {
        let (seq, item) = lane.places.front()?;
        Some((TaskKey { priority: lane.priority, seq: *seq }, item.as_ref()?))
    }

    /// Takes the only item, if there are no others.
    pub(crate) fn take_only(&mut self) -> Option<V> {
        if self.len != 1 {
            return None;
        }
        let lane = self.by_priority.first_mut()?;
        let (_, item) = lane.places.pop_front()?;
        lane.items = 0;
        self.len = 0;
        self.drop_lane_if_empty(0);
        item
    }

    /// Takes all items at once, where they have one priority; `spare` becomes the buffer for those to come.
    /// Callers wait for the lock under which this happens, and this takes the same time however many there are.
    pub(crate) fn take_all(&mut self, spare: impl FnOnce() -> Places<V>) -> Option<Places<V>> {
        let [lane] = &mut *self.by_priority else { return None };
        let places = std::mem::take(&mut lane.places);
        lane.items = 0;
        self.len = 0;
        self.drop_lane_if_empty(0);
        self.spare = spare();
        Some(places)
    }

    /// Takes items, the most urgent first, up to the first one that is not wanted.
    pub(crate) fn take_while<E: Extend<V>>(&mut self, mut wanted: impl FnMut(&V) -> bool, taken: &mut E) {
        while let Some(lane) = self.by_priority.first_mut() {
            let unwanted =
                lane.places.iter().position(|(_, item)| item.as_ref().is_some_and(|item| !wanted(item)));
            let before = lane.items;
            let places = lane.places.drain(..unwanted.unwrap_or(lane.places.len()));
            taken.extend(places.filter_map(|(_, item)| item).inspect(|_| lane.items -= 1));
            self.len -= before - lane.items;
            if unwanted.is_some() {
                lane.trim();
                return;
            }
            self.drop_lane_if_empty(0);
        }
    }

    /// Takes the items of this priority from the sequence number of `key` on, for as long as `belongs`
    /// says so.
    pub(crate) fn remove(&mut self, key: TaskKey, belongs: impl Fn(u64, &V) -> bool) -> Vec<V> {
        let Ok(at) = self.by_priority.binary_search_by_key(&key.priority, |lane| lane.priority) else {
            return Vec::new();
        };
        let lane = &mut self.by_priority[at];
        let from = lane.places.partition_point(|(seq, _)| *seq < key.seq);
        let mut removed = Vec::new();
        for (seq, place) in lane.places.range_mut(from..) {
            match place.take_if(|item| belongs(*seq, item)) {
                Some(item) => removed.push(item),
                None if place.is_some() => break,
                None => {}
            }
        }
        self.account(at, removed)
    }

    /// Takes every item for which `unwanted` says so.
    pub(crate) fn take_if(&mut self, mut unwanted: impl FnMut(&V) -> bool) -> Vec<V> {
        let mut taken = Vec::new();
        for at in (0..self.by_priority.len()).rev() {
            let places = &mut self.by_priority[at].places;
            let removed = places.iter_mut().filter_map(|(_, item)| item.take_if(|item| unwanted(item)));
            let removed = removed.collect();
            taken.extend(self.account(at, removed));
        }
        taken
    }

    fn account(&mut self, at: usize, removed: Vec<V>) -> Vec<V> {
        let lane = &mut self.by_priority[at];
        lane.items -= removed.len();
        lane.trim();
        self.len -= removed.len();
        self.drop_lane_if_empty(at);
        removed
    }

    fn drop_lane_if_empty(&mut self, at: usize) {
        if self.by_priority[at].items == 0 {
            self.spare = self.by_priority.remove(at).places;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Clone, Debug)]
    enum Step {
        Push(i32),
        Take(usize),
        TakeOnly,
        TakeAll,
        Remove(usize),
        TakeMultiplesOf(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (-2i32..3).prop_map(Step::Push),
            2 => (0usize..6).prop_map(Step::Take),
            1 => Just(Step::TakeOnly),
            1 => Just(Step::TakeAll),
            2 => (0usize..64).prop_map(Step::Remove),
            1 => (2u64..5).prop_map(Step::TakeMultiplesOf),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 0..400)) {
            let mut lanes = Lanes::new();
            let mut model = BTreeMap::new();
            for (step, seq) in steps.into_iter().zip(0u64..) {
                match step {
                    Step::Push(priority) => {
                        let key = TaskKey { priority: Priority(priority), seq };
                        lanes.push(key, seq);
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
                    Step::TakeAll => {
                        let priorities = model.keys().map(|key| key.priority).collect::<BTreeSet<_>>().len();
                        let taken = lanes.take_all(VecDeque::new);
                        prop_assert_eq!(taken.is_some(), priorities == 1);
                        if let Some(taken) = taken {
                            let taken: Vec<_> = taken.into_iter().filter_map(|(_, item)| item).collect();
                            let expected: Vec<_> = std::mem::take(&mut model).into_values().collect();
                            prop_assert_eq!(taken, expected);
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
                let places: usize = lanes.by_priority.iter().map(|lane| lane.places.len()).sum();
                prop_assert!(places <= 2 * lanes.len + 16 * lanes.by_priority.len());
            }
        }
    }

    #[test]
    fn items_that_belong_together_are_removed_together() {
        let mut lanes = Lanes::new();
        for seq in 0..6 {
            lanes.push(TaskKey { priority: Priority::NORMAL, seq }, (seq / 3, seq));
        }
        let removed = lanes.remove(TaskKey { priority: Priority::NORMAL, seq: 0 }, |_, (task, _)| *task == 0);
        assert_eq!(removed, [(0, 0), (0, 1), (0, 2)]);
        let mut taken = Vec::new();
        lanes.take_while(|_| true, &mut taken);
        assert_eq!(taken[0], (1, 3));
    }
}
