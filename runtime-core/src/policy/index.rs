//! The index of pools: which runs next, and which wants to be looked at when.
//!
//! The index holds ready pools by rank and waiting pools by the time at which they want to be looked at,
//! so that choosing costs the logarithm of the number of *ready* pools and idle pools cost nothing.
//!
//! A pool that becomes more urgent rings, so an entry can only err towards "too urgent" (its best task was
//! cancelled, say). Looking at the first entry again before the cut, and filing it anew if it has changed,
//! therefore finds exactly the most urgent pool.

use crate::contract::id::PoolId;
use crate::contract::pool::{Look, Outlook};
use crate::contract::rank::Rank;
use std::collections::BTreeSet;
use std::time::Instant;

/// A pool's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It can run, and looks like this.
    Ready(Outlook),
    /// It wants to be looked at then.
    At(Instant),
    /// It has nothing to do.
    #[default]
    Idle,
}

impl From<Look> for Entry {
    fn from(look: Look) -> Self {
        match look {
            Look::Ready(outlook) => Self::Ready(outlook),
            Look::At(time) => Self::At(time),
            Look::Idle => Self::Idle,
        }
    }
}

#[derive(Default)]
pub(crate) struct Index {
    /// Each pool's entry, at the pool's place.
    known: Vec<Entry>,
    ready: Order<Rank>,
    waiting: Order<Instant>,
    /// Ready pools by their first deadlines.
    deadlines: Order<Instant>,
}

/// Pools in an order. The first is kept apart: mostly there is no other, and it comes and goes with each batch.
struct Order<K> {
    first: Option<(K, PoolId)>,
    rest: BTreeSet<(K, PoolId)>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { first: None, rest: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Order<K> {
    fn insert(&mut self, key: K, pool: PoolId) {
        let entry = (key, pool);
        match &mut self.first {
            None => self.first = Some(entry),
            Some(first) if entry < *first => drop(self.rest.insert(std::mem::replace(first, entry))),
            Some(_) => drop(self.rest.insert(entry)),
        }
    }

    fn remove(&mut self, key: K, pool: PoolId) {
        if self.first == Some((key, pool)) {
            self.first = if self.rest.is_empty() { None } else { self.rest.pop_first() };
        } else {
            self.rest.remove(&(key, pool));
        }
    }
}

impl Order<Instant> {
    fn change(&mut self, from: Option<Instant>, to: Option<Instant>, pool: PoolId) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.remove(from, pool);
        }
        if let Some(to) = to {
            self.insert(to, pool);
        }
    }
}

impl Index {
    /// Files a pool.
    pub(crate) fn note(&mut self, pool: PoolId, entry: Entry) {
        if self.known.len() <= pool.index() {
            self.known.resize(pool.index() + 1, Entry::Idle);
        }
        let known = std::mem::replace(&mut self.known[pool.index()], entry);
        match (known, entry) {
            (Entry::Ready(known), Entry::Ready(new)) => {
                if known.rank != new.rank {
                    self.ready.remove(known.rank, pool);
                    self.ready.insert(new.rank, pool);
                }
                self.deadlines.change(known.deadline, new.deadline, pool);
            }
            (Entry::At(known), Entry::At(new)) if known == new => {}
            (known, entry) => {
                self.remove(pool, known);
                self.insert(pool, entry);
            }
        }
    }

    fn remove(&mut self, pool: PoolId, entry: Entry) {
        match entry {
            Entry::Ready(outlook) => {
                self.ready.remove(outlook.rank, pool);
                self.deadlines.change(outlook.deadline, None, pool);
            }
            Entry::At(time) => self.waiting.remove(time, pool),
            Entry::Idle => {}
        }
    }

    fn insert(&mut self, pool: PoolId, entry: Entry) {
        match entry {
            Entry::Ready(outlook) => {
                self.ready.insert(outlook.rank, pool);
                self.deadlines.change(None, outlook.deadline, pool);
            }
            Entry::At(time) => self.waiting.insert(time, pool),
            Entry::Idle => {}
        }
    }

    /// The pool that runs next, and how it looked.
    #[inline]
    pub(crate) fn next(&self) -> Option<(PoolId, &Outlook)> {
        let (_, pool) = self.ready.first?;
        match self.known.get(pool.index())? {
            Entry::Ready(outlook) => Some((pool, outlook)),
            _ => None,
        }
    }

    /// Returns true if no more than one pool is ready.
    pub(crate) fn is_alone(&self) -> bool {
        self.ready.rest.is_empty()
    }

    /// The first deadline among ready pools.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first.map(|(deadline, _)| deadline)
    }

    /// The pool that runs next, and the rank that it was filed with.
    pub(crate) fn first(&self) -> Option<(Rank, PoolId)> {
        self.ready.first
    }

    /// The pool that wants to be looked at next, and when.
    pub(crate) fn next_look(&self) -> Option<(Instant, PoolId)> {
        self.waiting.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::priority::Priority;
    use proptest::prelude::*;
    use std::time::Duration;

    fn entry(kind: u8, value: u8, base: Instant) -> Entry {
        let time = base + Duration::from_secs(u64::from(value % 16));
        match kind % 3 {
            0 => Entry::Idle,
            1 => Entry::At(time),
            _ => {
                let rank = Rank::at(Priority(i32::from(value / 16) - 8), time);
                let deadline =
                    value.is_multiple_of(3).then(|| time + Duration::from_secs(u64::from(value / 16)));
                Entry::Ready(Outlook::new(rank, usize::from(value)).deadline(deadline))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_scan_of_all_pools(steps in prop::collection::vec((0u32..8, any::<u8>(), any::<u8>()), 0..200)) {
            let base = Instant::now();
            let mut index = Index::default();
            let mut model = [Entry::Idle; 8];
            for (pool, kind, value) in steps {
                let entry = entry(kind, value, base);
                index.note(PoolId::new(pool), entry);
                model[pool as usize] = entry;
                let ids = || (0..8).map(PoolId::new);
                let ready = ids().filter_map(|p| match model[p.index()] {
                    Entry::Ready(outlook) => Some((outlook.rank, p)),
                    _ => None,
                });
                let times = ids().filter_map(|p| match model[p.index()] {
                    Entry::At(time) => Some((time, p)),
                    _ => None,
                });
                prop_assert_eq!(index.first(), ready.min());
                let deadlines = model.iter().filter_map(|entry| match entry {
                    Entry::Ready(outlook) => outlook.deadline,
                    _ => None,
                });
                prop_assert_eq!(index.first_deadline(), deadlines.min());
                prop_assert_eq!(index.next_look(), times.min());
                prop_assert_eq!(
                    index.next().map(|(pool, outlook)| (Entry::Ready(*outlook), pool)),
                    index.first().map(|(_, pool)| (model[pool.index()], pool))
                );
            }
        }
    }
}
