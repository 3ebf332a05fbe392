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
    ready: BTreeSet<(Urgency, PoolId)>,
    waiting: BTreeSet<(Instant, PoolId)>,
}

impl Selector {
    pub(crate) fn new(pools: usize) -> Self {
        Self { known: vec![Look::Idle; pools], ready: BTreeSet::new(), waiting: BTreeSet::new() }
    }

    /// Files what a pool says of itself now.
    pub(crate) fn note(&mut self, pool: PoolId, look: Look) {
        let Some(known) = self.known.get_mut(pool.index()) else { return };
        if *known == look {
            return;
        }
        match std::mem::replace(known, look) {
            Look::Ready(urgency) => drop(self.ready.remove(&(urgency, pool))),
            Look::At(time) => drop(self.waiting.remove(&(time, pool))),
            Look::Idle => {}
        }
        match look {
            Look::Ready(urgency) => drop(self.ready.insert((urgency, pool))),
            Look::At(time) => drop(self.waiting.insert((time, pool))),
            Look::Idle => {}
        }
    }

    /// A pool that wanted to be looked at by `now`.
    pub(crate) fn due(&self, now: Instant) -> Option<PoolId> {
        self.waiting.first().filter(|(time, _)| *time <= now).map(|&(_, pool)| pool)
    }

    /// The pool that runs next, and how urgent it said it was.
    pub(crate) fn most_urgent(&self) -> Option<(Urgency, PoolId)> {
        self.ready.first().copied()
    }

    /// When a pool next wants to be looked at.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.waiting.first().map(|&(time, _)| time)
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
                let first = times.min();
                prop_assert_eq!(selector.most_urgent(), ready.min());
                prop_assert_eq!(selector.next_look(), first.map(|(time, _)| time));
                let now = base + Duration::from_secs(u64::from(value) % 20);
                prop_assert_eq!(selector.due(now), first.filter(|(time, _)| *time <= now).map(|(_, p)| p));
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
