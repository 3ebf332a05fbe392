//! Which pool runs next: an index over what the pools last said of themselves.
//!
//! The index holds ready pools by urgency and waiting pools by the time at which they want to be looked at,
//! so that choosing costs the logarithm of the number of *ready* pools and idle pools cost nothing.
//!
//! A pool that becomes more urgent rings, so an entry can only err towards "too urgent" (its best task was
//! cancelled, say). Looking at the first entry again before the cut, and filing it anew if it has changed,
//! therefore finds exactly the most urgent pool.

use crate::pool::{Look, PoolId};
use crate::priority::Urgency;
use std::collections::BTreeSet;
use std::time::Instant;

pub(crate) struct Selector {
    known: Vec<Look>,
    ready: Order<Urgency>,
    waiting: Order<Instant>,
}

/// Pools in an order. The first is kept apart: mostly there is no other, and it comes and goes with each batch.
struct Order<K> {
    first: Option<(K, PoolId)>,
    rest: BTreeSet<(K, PoolId)>,
}

impl<K: Ord + Copy> Order<K> {
    const fn new() -> Self {
        Self { first: None, rest: BTreeSet::new() }
    }

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

impl Selector {
    pub(crate) fn new(pools: usize) -> Self {
        Self { known: vec![Look::Idle; pools], ready: Order::new(), waiting: Order::new() }
    }

    /// Files what a pool says of itself now.
    pub(crate) fn note(&mut self, pool: PoolId, look: Look) {
        let Some(known) = self.known.get_mut(pool.index()) else { return };
        if *known == look {
            return;
        }
        match std::mem::replace(known, look) {
            Look::Ready(urgency) => self.ready.remove(urgency, pool),
            Look::At(time) => self.waiting.remove(time, pool),
            Look::Idle => {}
        }
        match look {
            Look::Ready(urgency) => self.ready.insert(urgency, pool),
            Look::At(time) => self.waiting.insert(time, pool),
            Look::Idle => {}
        }
    }

    /// The pool that runs next, and how urgent it said it was.
    pub(crate) fn most_urgent(&self) -> Option<(Urgency, PoolId)> {
        self.ready.first
    }

    /// When a pool next wants to be looked at, and which.
    pub(crate) fn next_look(&self) -> Option<(Instant, PoolId)> {
        self.waiting.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::priority::Priority;
    use proptest::prelude::*;
    use std::time::Duration;

    fn look(kind: u8, value: u8, base: Instant) -> Look {
        let time = base + Duration::from_secs(u64::from(value % 16));
        match kind % 3 {
            0 => Look::Idle,
            1 => Look::At(time),
            _ => Look::Ready(Urgency { priority: Priority(i32::from(value / 16) - 8), since: time }),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_scan_of_all_pools(steps in prop::collection::vec((0u32..8, any::<u8>(), any::<u8>()), 0..200)) {
            let base = Instant::now();
            let mut selector = Selector::new(8);
            let mut model = [Look::Idle; 8];
            for (pool, kind, value) in steps {
                let said = look(kind, value, base);
                selector.note(PoolId(pool), said);
                model[pool as usize] = said;
                let ids = || (0..8).map(PoolId);
                let ready = ids().filter_map(|p| match model[p.index()] {
                    Look::Ready(urgency) => Some((urgency, p)),
                    _ => None,
                });
                let times = ids().filter_map(|p| match model[p.index()] {
                    Look::At(time) => Some((time, p)),
                    _ => None,
                });
                prop_assert_eq!(selector.most_urgent(), ready.min());
                prop_assert_eq!(selector.next_look(), times.min());
            }
        }
    }

    #[test]
    fn a_pool_that_was_never_registered_is_ignored() {
        let mut selector = Selector::new(1);
        selector.note(PoolId(7), Look::At(Instant::now()));
        assert_eq!(selector.next_look(), None);
    }
}
