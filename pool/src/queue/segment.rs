//! A segment of a queue: a few items in order, from the middle of which can be taken.

use super::item::{Item, Key};
use std::collections::VecDeque;

/// So many items share a segment whatever their rows, since a segment has a buffer of its own.
pub(crate) const FEWEST: usize = 16;

/// So many are moved for one that is put among them.
const FEW: usize = 4;

/// The most items of a segment, so that what is put into its middle moves few.
pub(crate) const MOST: usize = 1024;

/// So many holes are left where they are, beside three for each item: closing them up moves items from where their
/// numbers say that they are.
pub(crate) const SPARSE: usize = 64;

/// Items by key, `None` for one that was taken from the middle.
pub(crate) type Items<V> = VecDeque<(Key<<V as Item>::Rank>, Option<V>)>;

/// The first and the last entry are never holes, and a segment with many more holes than items closes them up, so both
/// the cost per operation (amortised) and the memory stay in proportion to the items.
pub(crate) struct Segment<V: Item> {
    pub(crate) items: Items<V>,
    /// How many there are, without the holes.
    pub(crate) count: usize,
    /// Rows of all items.
    pub(crate) rows: usize,
    /// Elements of all items.
    pub(crate) elements: usize,
    /// Items that need a look.
    pub(crate) special: usize,
    /// The number of the first entry, if there is one. It stands here because the entries are far from this, in memory.
    pub(crate) first: u64,
}

impl<V: Item> Segment<V> {
    pub(crate) fn new(items: Items<V>) -> Self {
        Self { items, count: 0, rows: 0, elements: 0, special: 0, first: 0 }
    }

    /// Returns true if an item of so many rows belongs into another segment. `most` are the rows of a batch.
    #[inline]
    pub(crate) fn is_full(&self, rows: usize, most: usize) -> bool {
        self.count >= FEWEST && (self.rows.saturating_add(rows) > most || self.count >= MOST)
    }

    /// Returns true if what is put at a place would move more than a few others. Where the segment is cut there instead,
    /// those that come after find their places in less memory.
    #[inline]
    pub(crate) fn is_deep(&self, at: usize) -> bool {
        at.min(self.items.len() - at) > FEW
    }

    /// The place at which a key belongs.
    #[inline]
    pub(crate) fn place(&self, key: Key<V::Rank>) -> usize {
        match self.items.back() {
            Some((last, _)) if *last > key => self.items.partition_point(|(other, _)| *other < key),
            _ => self.items.len(),
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, at: usize, key: Key<V::Rank>, item: V) {
        self.count += 1;
        self.rows += item.rows();
        self.elements = self.elements.wrapping_add(item.elements());
        self.special += usize::from(item.needs_look());
        if at == 0 {
            self.first = key.seq;
        }
        if at == self.items.len() {
            self.items.push_back((key, Some(item)));
        } else {
            self.items.insert(at, (key, Some(item)));
        }
    }

    pub(crate) fn first(&self) -> Option<(Key<V::Rank>, &V)> {
        let (key, item) = self.items.front()?;
        Some((*key, item.as_ref()?))
    }

    /// The first item from a key on.
    pub(crate) fn first_from(&self, key: Key<V::Rank>) -> Option<(Key<V::Rank>, &V)> {
        let from = self.items.partition_point(|(other, _)| *other < key);
        self.items.range(from..).find_map(|(key, item)| Some((*key, item.as_ref()?)))
    }

    pub(crate) fn get(&self, key: Key<V::Rank>) -> Option<&V> {
        self.items.get(self.find(key)?)?.1.as_ref()
    }

    /// The place of a key. Mostly items have come one after the other, and then it is where its number says: a search
    /// goes through memory that lies far apart.
    fn find(&self, key: Key<V::Rank>) -> Option<usize> {
        let is_at = |at: &usize| self.items.get(*at).is_some_and(|(other, _)| *other == key);
        let guess = usize::try_from(key.seq.wrapping_sub(self.first)).ok().filter(is_at);
        guess.or_else(|| self.items.binary_search_by(|(other, _)| other.cmp(&key)).ok())
    }

    pub(crate) fn remove(&mut self, key: Key<V::Rank>) -> Option<V> {
        let at = self.find(key)?;
        let item = self.items.get_mut(at)?.1.take()?;
        self.forget(&item);
        if at == 0 {
            self.trim_front();
        }
        if at + 1 >= self.items.len() {
            self.trim_back();
        }
        self.close_up();
        Some(item)
    }

    /// Takes the first item.
    #[inline]
    pub(crate) fn take_first(&mut self) -> Option<(Key<V::Rank>, V)> {
        let (key, item) = self.items.pop_front()?;
        let item = item?;
        self.forget(&item);
        self.trim_front();
        Some((key, item))
    }

    /// The items from a place on, as a segment of their own.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        if at == 0 {
            return std::mem::replace(self, Self::new(VecDeque::new()));
        }
        // Others will come between them: with room for as many as there were.
        let mut items = VecDeque::with_capacity(self.items.len());
        items.extend(self.items.drain(at..));
        let mut off = Self::new(items);
        for item in off.items.iter().filter_map(|(_, item)| item.as_ref()) {
            off.count += 1;
            off.rows += item.rows();
            off.elements = off.elements.wrapping_add(item.elements());
            off.special += usize::from(item.needs_look());
        }
        self.count -= off.count;
        self.rows -= off.rows;
        self.elements = self.elements.wrapping_sub(off.elements);
        self.special -= off.special;
        self.trim();
        off.trim();
        off
    }

    /// Takes the first items, up to the first one that is not wanted, and returns true if all were.
    pub(crate) fn take_while(
        &mut self,
        wanted: &mut impl FnMut(Key<V::Rank>, &V) -> bool,
        taken: &mut Vec<(Key<V::Rank>, V)>,
    ) -> bool {
        let is_unwanted =
            |(key, item): &(_, Option<V>)| item.as_ref().is_some_and(|item| !wanted(*key, item));
        let unwanted = self.items.iter().position(is_unwanted);
        let from = taken.len();
        let items = self.items.drain(..unwanted.unwrap_or(self.items.len()));
        taken.extend(items.filter_map(|(key, item)| Some((key, item?))));
        for (_, item) in &taken[from..] {
            self.forget(item);
        }
        self.trim();
        unwanted.is_none()
    }

    #[inline]
    pub(crate) fn forget(&mut self, item: &V) {
        self.count -= 1;
        self.rows -= item.rows();
        self.elements = self.elements.wrapping_sub(item.elements());
        self.special -= usize::from(item.needs_look());
    }

    fn trim(&mut self) {
        self.trim_front();
        self.trim_back();
        self.close_up();
    }

    #[inline]
    fn trim_front(&mut self) {
        while let Some((key, item)) = self.items.front() {
            if item.is_some() {
                self.first = key.seq;
                return;
            }
            self.items.pop_front();
        }
    }

    fn trim_back(&mut self) {
        while self.items.back().is_some_and(|(_, item)| item.is_none()) {
            self.items.pop_back();
        }
    }

    fn close_up(&mut self) {
        if self.items.len() > 4 * self.count + SPARSE {
            self.items.retain(|(_, item)| item.is_some());
        }
    }
}
