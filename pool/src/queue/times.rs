//! Times of items, the earliest first.
//!
//! An item that leaves is not looked for: its entry stays until it comes to the front, or until most entries are such.
//! So a time costs little where items leave before it comes, as nearly all do.
//!
//! A heap in which each entry has four below it: of a million, which no cache holds, the way down to the last is half as
//! long as with two, and the four lie side by side.

use std::time::{Duration, Instant};

/// So many entries of items that have left are always kept.
const FEW: usize = 64;

/// Entries below each.
const BELOW: usize = 4;

pub(crate) struct Times<E> {
    /// The first time that was ever noted. Others are told by how far they are from it, which takes half the memory.
    base: Option<Instant>,
    heap: Vec<(Offset, E)>,
    /// Entries whose items are there.
    live: usize,
}

/// Nanoseconds from the base, which may be later; centuries are not told apart.
type Offset = i64;

impl<E: Ord + Copy> Times<E> {
    pub(crate) fn new() -> Self {
        Self { base: None, heap: Vec::new(), live: 0 }
    }

    /// Returns true if it is the earliest.
    pub(crate) fn push(&mut self, time: Instant, entry: E) -> bool {
        self.live += 1;
        let offset = offset(*self.base.get_or_insert(time), time);
        self.heap.push((offset, entry));
        self.rise(self.heap.len() - 1) == 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Accounts for items that have left. `is_there` tells who is there still.
    #[inline]
    pub(crate) fn left(&mut self, items: usize, is_there: impl Fn(E) -> bool) {
        self.live -= items;
        if self.heap.len() > 3 * self.live + FEW {
            self.heap.retain(|(_, entry)| is_there(*entry));
            for at in (0..self.heap.len().div_ceil(BELOW)).rev() {
                self.sink(at);
            }
        }
    }

    /// The earliest time of an item that is there.
    pub(crate) fn first(&mut self, is_there: impl Fn(E) -> bool) -> Option<Instant> {
        loop {
            let (offset, entry) = *self.heap.first()?;
            if is_there(entry) {
                return time(self.base?, offset);
            }
            self.take_first();
        }
    }

    /// Takes the earliest entry off if its time has come. Its item may have left before.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<E> {
        let (first, _) = *self.heap.first()?;
        if first > offset(self.base?, now) {
            return None;
        }
        self.take_first().map(|(_, entry)| entry)
    }

    fn take_first(&mut self) -> Option<(Offset, E)> {
        let last = self.heap.pop()?;
        let Some(first) = self.heap.first_mut() else { return Some(last) };
        let first = std::mem::replace(first, last);
        self.sink(0);
        Some(first)
    }

    /// Moves an entry up to its place, and returns that.
    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let above = (at - 1) / BELOW;
            if self.heap[above] <= self.heap[at] {
                break;
            }
            self.heap.swap(above, at);
            at = above;
        }
        at
    }

    /// Moves an entry down to its place.
    fn sink(&mut self, mut at: usize) {
        loop {
            let from = BELOW * at + 1;
            let below = from..(from + BELOW).min(self.heap.len());
            let Some(least) = below.min_by_key(|below| self.heap[*below]) else { return };
            if self.heap[at] <= self.heap[least] {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.heap.len()
    }
}

fn offset(base: Instant, time: Instant) -> Offset {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    if time >= base { nanos(time - base) } else { -nanos(base - time) }
}

fn time(base: Instant, offset: Offset) -> Option<Instant> {
    let distance = Duration::from_nanos(offset.unsigned_abs());
    if offset >= 0 { base.checked_add(distance) } else { base.checked_sub(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_set(steps in prop::collection::vec((0u8..4, 0u64..50, 2usize..9), 0..300)) {
            let start = Instant::now();
            let (mut times, mut model) = (Times::new(), BTreeSet::new());
            for (entry, (step, seconds, kind)) in steps.into_iter().enumerate() {
                let time = start + Duration::from_secs(seconds);
                match step {
                    0 | 1 => {
                        model.insert((time, entry));
                        let is_first = model.first() == Some(&(time, entry));
                        // One that has left may stand before it, but not after it if it is the first.
                        prop_assert!(!times.push(time, entry) || is_first);
                    }
                    2 => {
                        let is_there = |entry: &usize| model.iter().any(|(_, other)| other == entry);
                        let popped = std::iter::from_fn(|| times.pop(time)).find(is_there);
                        let due = model.first().copied().filter(|(first, _)| *first <= time);
                        prop_assert_eq!(popped, due.map(|(_, entry)| entry));
                        if let Some(due) = due {
                            model.remove(&due);
                            times.left(1, |entry| model.iter().any(|(_, other)| *other == entry));
                        }
                    }
                    // Those of one kind leave.
                    _ => {
                        let before = model.len();
                        model.retain(|(_, other)| other % kind > 0);
                        let is_there = |entry| model.iter().any(|(_, other)| *other == entry);
                        times.left(before - model.len(), is_there);
                        prop_assert_eq!(times.first(is_there), model.first().map(|(time, _)| *time));
                    }
                }
            }
        }
    }

    #[test]
    fn times_beyond_all_time_are_last() {
        let now = Instant::now();
        let Some(far) = now.checked_add(Duration::from_secs(u64::from(u32::MAX) * 4)) else { return };
        let mut times = Times::new();
        assert!(times.push(far, 1));
        assert!(times.push(now, 0) && !times.push(far, 2));
        assert_eq!((times.pop(now), times.pop(now)), (Some(0), None));
        assert_eq!(times.first(|entry| entry == 2), Some(far));
    }
}
