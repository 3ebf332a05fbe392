//! Times of items, the earliest first.
//!
//! An item that leaves is not looked for: its entry stays until it comes to the front, or until most entries are such.
//! So a time costs little where items leave before it comes, as nearly all do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// So many entries of items that have left are always kept.
const FEW: usize = 64;

pub(crate) struct Times<E> {
    heap: BinaryHeap<Reverse<(Instant, E)>>,
    /// Entries whose items are there.
    live: usize,
}

impl<E: Ord + Copy> Times<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), live: 0 }
    }

    /// Returns true if it is the earliest.
    pub(crate) fn push(&mut self, time: Instant, entry: E) -> bool {
        self.live += 1;
        self.heap.push(Reverse((time, entry)));
        self.heap.peek().is_some_and(|Reverse((_, first))| *first == entry)
    }

    /// Accounts for items that have left. `is_there` tells who is there still.
    #[inline]
    pub(crate) fn left(&mut self, items: usize, is_there: impl Fn(E) -> bool) {
        self.live -= items;
        if self.heap.len() > 3 * self.live + FEW {
            self.heap.retain(|Reverse((_, entry))| is_there(*entry));
        }
    }

    /// The earliest time of an item that is there.
    pub(crate) fn first(&mut self, is_there: impl Fn(E) -> bool) -> Option<Instant> {
        loop {
            let Reverse((time, entry)) = self.heap.peek()?;
            if is_there(*entry) {
                return Some(*time);
            }
            self.heap.pop();
        }
    }

    /// Takes the earliest entry off if its time has come. Its item may have left before.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<E> {
        let Reverse((time, _)) = self.heap.peek()?;
        if *time > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, entry))| entry)
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.heap.len()
    }
}
