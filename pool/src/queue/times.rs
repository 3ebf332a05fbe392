//! Times of items, the earliest first.
//!
//! An item that leaves is not looked for: its entry stays until it comes to the front, or until most entries are such.
//! So a time costs little where items leave before it comes, as nearly all do.
//!
//! A heap in which each entry has eight below it: of a million, which no cache holds, the way down to the last is a third
//! as long as with two, and the eight lie side by side. It holds places in a table, not the entries, so that the eight are
//! two lines of the cache. Both measured.

use std::time::{Duration, Instant};

/// So many entries of items that have left are always kept.
const FEW: usize = 64;

/// Entries below each.
const BELOW: usize = 8;

/// None of it before the first time: most pools have no deadlines.
pub(crate) struct Times<E>(Option<Box<Heap<E>>>);

struct Heap<E> {
    /// The first time that was ever noted. Others are told by how far they are from it, which takes half the memory.
    base: Instant,
    /// Each with its place among the entries.
    order: Vec<(Offset, usize)>,
    entries: Vec<E>,
    /// Places of entries that are gone.
    free: Vec<usize>,
    /// Entries whose items are there.
    live: usize,
}

/// Nanoseconds from the base, which may be later; centuries are not told apart.
type Offset = i64;

impl<E: Copy> Times<E> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Returns true if it is the earliest.
    pub(crate) fn push(&mut self, time: Instant, entry: E) -> bool {
        self.0.get_or_insert_with(|| Box::new(Heap::new(time))).push(time, entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|heap| heap.live == 0)
    }

    /// Accounts for items that have left. `is_there` tells who is there still.
    #[inline]
    pub(crate) fn left(&mut self, items: usize, is_there: impl Fn(E) -> bool) {
        if let Some(heap) = &mut self.0 {
            heap.left(items, is_there);
        }
    }

    /// The earliest time of an item that is there.
    pub(crate) fn first(&mut self, is_there: impl Fn(E) -> bool) -> Option<Instant> {
        let heap = self.0.as_mut()?;
        loop {
            let (offset, at) = *heap.order.first()?;
            if is_there(heap.entries[at]) {
                return time(heap.base, offset);
            }
            heap.take_first();
        }
    }

    /// Takes the earliest entry off if its time has come. Its item may have left before.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<E> {
        let heap = self.0.as_mut()?;
        let (first, _) = *heap.order.first()?;
        if first > offset(heap.base, now) {
            return None;
        }
        heap.take_first()
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.0.as_ref().map_or(0, |heap| heap.order.len())
    }
}

impl<E: Copy> Heap<E> {
    const fn new(base: Instant) -> Self {
        Self { base, order: Vec::new(), entries: Vec::new(), free: Vec::new(), live: 0 }
    }

    fn push(&mut self, time: Instant, entry: E) -> bool {
        self.live += 1;
        let place = if let Some(place) = self.free.pop() {
            self.entries[place] = entry;
            place
        } else {
            self.entries.push(entry);
            self.entries.len() - 1
        };
        self.order.push((offset(self.base, time), place));
        self.rise(self.order.len() - 1) == 0
    }

    fn left(&mut self, items: usize, is_there: impl Fn(E) -> bool) {
        self.live -= items;
        if self.order.len() > 3 * self.live + FEW {
            let (entries, free) = (&self.entries, &mut self.free);
            self.order.retain(|(_, place)| {
                let stays = is_there(entries[*place]);
                if !stays {
                    free.push(*place);
                }
                stays
            });
            for at in (0..self.order.len().div_ceil(BELOW)).rev() {
                self.sink(at);
            }
        }
    }

    fn take_first(&mut self) -> Option<E> {
        let last = self.order.pop()?;
        let (_, place) = match self.order.first_mut() {
            Some(first) => std::mem::replace(first, last),
            None => last,
        };
        self.sink(0);
        self.free.push(place);
        Some(self.entries[place])
    }

    /// Moves an entry up to its place, and returns that.
    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let above = (at - 1) / BELOW;
            if self.order[above].0 <= self.order[at].0 {
                break;
            }
            self.order.swap(above, at);
            at = above;
        }
        at
    }

    /// Moves an entry down to its place.
    fn sink(&mut self, mut at: usize) {
        let Some(&moved) = self.order.get(at) else { return };
        loop {
            let from = BELOW * at + 1;
            let below = from..(from + BELOW).min(self.order.len());
            let Some(least) = below.min_by_key(|below| self.order[*below].0) else { break };
            if moved.0 <= self.order[least].0 {
                break;
            }
            self.order[at] = self.order[least];
            at = least;
        }
        self.order[at] = moved;
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
                        prop_assert_eq!(popped.is_some(), due.is_some());
                        if let (Some(popped), Some((first, _))) = (popped, due) {
                            // Any of those whose time is the same.
                            prop_assert!(model.remove(&(first, popped)));
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
