//! Items in order, from the middle of which can be taken.
//!
//! They lie in segments of as many rows as a batch may have, so that a batch of a long queue leaves as one buffer, in a
//! time that does not depend on how many tasks it has: callers wait for the lock under which it leaves. The segments
//! are found in a tree, so nothing costs more than the logarithm of what waits, whatever the mix of ranks.

use super::item::{Item, Key};
use super::limit::Limit;
use super::segment::{Items, Segment};
use std::collections::{BTreeMap, VecDeque};

pub(crate) struct Ordered<V: Item> {
    /// What is next; empty only if all is. Mostly there is nothing else, and it comes and goes with each batch.
    head: Segment<V>,
    /// What comes after it, in segments that are not empty, each by a key that none of its items is below.
    tail: BTreeMap<Key<V::Rank>, Segment<V>>,
    len: usize,
}

impl<V: Item> Ordered<V> {
    pub(crate) fn new() -> Self {
        Self { head: Segment::new(VecDeque::new()), tail: BTreeMap::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an item, and returns true if it is the first one now. `most` are the rows of a batch.
    #[inline]
    pub(crate) fn push(&mut self, key: Key<V::Rank>, item: V, most: usize) -> bool {
        self.len += 1;
        if self.tail.is_empty() && !self.head.is_full(item.rows(), most) {
            let at = self.head.place(key);
            self.head.insert(at, key, item);
            return at == 0;
        }
        self.push_among(key, item, most);
        self.first().is_some_and(|(first, _)| first == key)
    }

    #[inline]
    fn push_among(&mut self, key: Key<V::Rank>, item: V, most: usize) {
        // Mostly it comes last of all, and the last segment is found at less cost than any other.
        let (segment, is_last) = match self.tail.last_entry() {
            Some(last) if *last.key() <= key => (last.into_mut(), true),
            _ => match self.tail.range_mut(..=key).next_back() {
                Some((_, segment)) => (segment, false),
                None => (&mut self.head, false),
            },
        };
        let at = segment.place(key);
        // Into the last one, items come nearly in order, and it is to become a whole batch.
        if !segment.is_full(item.rows(), most) && (is_last || !segment.is_deep(at)) {
            return segment.insert(at, key, item);
        }
        let after = (at < segment.items.len()).then(|| segment.split_off(at));
        if segment.is_full(item.rows(), most) {
            let mut next = Segment::new(VecDeque::with_capacity(segment.count));
            next.insert(0, key, item);
            self.tail.insert(key, next);
        } else {
            segment.insert(segment.items.len(), key, item);
        }
        if let Some(after) = after
            && let Some((first, _)) = after.first()
        {
            self.tail.insert(first, after);
        }
    }

    pub(crate) fn first(&self) -> Option<(Key<V::Rank>, &V)> {
        self.head.first()
    }

    pub(crate) fn get(&self, key: Key<V::Rank>) -> Option<&V> {
        match self.tail.range(..=key).next_back() {
            Some((_, segment)) => segment.get(key),
            None => self.head.get(key),
        }
    }

    /// The first item from a key on.
    pub(crate) fn first_from(&self, key: Key<V::Rank>) -> Option<(Key<V::Rank>, &V)> {
        let own = self.tail.range(..=key).next_back().map_or(&self.head, |(_, segment)| segment);
        let later = self.tail.range(key..).next().map(|(_, segment)| segment);
        own.first_from(key).or_else(|| later?.first())
    }

    /// Every item with its key, the last first.
    pub(crate) fn iter_back(&self) -> impl Iterator<Item = (Key<V::Rank>, &V)> {
        let segments = self.tail.values().rev().chain(std::iter::once(&self.head));
        let items = segments.flat_map(|segment| segment.items.iter().rev());
        items.filter_map(|(key, item)| Some((*key, item.as_ref()?)))
    }

    /// Takes an item.
    pub(crate) fn remove(&mut self, key: Key<V::Rank>) -> Option<V> {
        let item = if let Some((&first, segment)) = self.tail.range_mut(..=key).next_back() {
            let item = segment.remove(key)?;
            if segment.count == 0 {
                self.tail.remove(&first);
            }
            item
        } else {
            let item = self.head.remove(key)?;
            if self.head.count == 0 {
                self.next_segment();
            }
            item
        };
        self.len -= 1;
        Some(item)
    }

    /// Takes the first item, if it is the only one or has at least `room` rows, so that no other can go with it.
    #[inline]
    pub(crate) fn take_alone(&mut self, room: usize) -> Option<(Key<V::Rank>, V)> {
        let (_, first) = self.first()?;
        if self.len > 1 && first.rows() < room {
            return None;
        }
        let taken = self.head.take_first()?;
        self.len -= 1;
        if self.head.count == 0 && self.len > 0 {
            self.next_segment();
        }
        Some(taken)
    }

    /// Takes the first items, as many as fit into `room`, if they happen to be a segment of which none needs a look.
    /// `spare` becomes the buffer for those to come if nothing is left.
    pub(crate) fn take_segment(
        &mut self,
        room: Limit,
        is_alike: impl FnOnce(&Segment<V>) -> bool,
        spare: impl FnOnce() -> Items<V>,
    ) -> Option<Segment<V>> {
        let head = &self.head;
        let next = self.tail.first_key_value().and_then(|(_, next)| next.first());
        let fits = |item: &V| {
            let (rows, elements) =
                (head.rows.saturating_add(item.rows()), head.elements.saturating_add(item.elements()));
            item.needs_look() || room.fits(rows, elements)
        };
        let more_fit = next.is_some_and(|(_, item)| fits(item));
        let is_too_large = !room.fits(head.rows, head.elements);
        if head.special > 0 || is_too_large || more_fit || head.count == 0 || !is_alike(head) {
            return None;
        }
        let next = match self.tail.pop_first() {
            Some((_, next)) => next,
            None => Segment::new(spare()),
        };
        let segment = std::mem::replace(&mut self.head, next);
        self.len -= segment.count;
        Some(segment)
    }

    /// Takes items in order, up to the first one that is not wanted.
    pub(crate) fn take_while(
        &mut self,
        mut wanted: impl FnMut(Key<V::Rank>, &V) -> bool,
        taken: &mut Vec<(Key<V::Rank>, V)>,
    ) {
        let from = taken.len();
        while self.head.take_while(&mut wanted, taken) && self.next_segment() {}
        self.len -= taken.len() - from;
    }

    /// Takes everything.
    pub(crate) fn take_all(&mut self, taken: &mut Vec<V>) {
        let segments = std::iter::once(&mut self.head).chain(self.tail.values_mut());
        for segment in segments {
            taken.extend(segment.items.drain(..).filter_map(|(_, item)| item));
        }
        *self = Self::new();
    }

    /// Goes on to the next segment; returns false if there is none.
    fn next_segment(&mut self) -> bool {
        match self.tail.pop_first() {
            Some((_, next)) => {
                self.head = next;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
