//! Costs: the time that each pool's batches take on the device, lately.

use crate::contract::id::PoolId;
use std::time::Duration;

/// The time that each pool's batches take on the device, lately.
#[derive(Debug, Default)]
pub(crate) struct Costs(Vec<Option<(PoolId, Duration)>>);

impl Costs {
    /// Notes the time of a batch.
    pub(crate) fn note(&mut self, pool: PoolId, device: Duration) {
        if self.0.len() <= pool.index() {
            self.0.resize(pool.index() + 1, None);
        }
        let known = &mut self.0[pool.index()];
        // Of another tenant of the place there is nothing to learn.
        let before = known.filter(|(tenant, _)| *tenant == pool).map(|(_, time)| time);
        *known = Some((pool, before.map_or(device, |before| (before * 3 + device) / 4)));
    }

    /// The time that the next batch may take; `None` of a pool that has not run yet.
    pub(crate) fn of(&self, pool: PoolId) -> Option<Duration> {
        self.0
            .get(pool.index())
            .copied()
            .flatten()
            .filter(|(tenant, _)| *tenant == pool)
            .map(|(_, time)| time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::id::Slot;

    #[test]
    fn costs_follow_the_last_few_batches() {
        let (pool, mut costs) = (PoolId::new(2), Costs::default());
        costs.note(pool, Duration::from_micros(100));
        assert_eq!(costs.of(pool), Some(Duration::from_micros(100)));
        costs.note(pool, Duration::from_micros(20));
        assert_eq!(costs.of(pool), Some(Duration::from_micros(80)));
        assert_eq!((costs.of(PoolId::new(1)), costs.of(PoolId::new(9))), (None, None));
    }

    #[test]
    fn the_next_tenant_of_a_place_starts_anew() {
        let (first, next) = (PoolId::new(0), PoolId(Slot { index: 0, generation: 1 }));
        let mut costs = Costs::default();
        costs.note(first, Duration::from_micros(100));
        assert_eq!(costs.of(next), None);
        costs.note(next, Duration::from_micros(7));
        assert_eq!((costs.of(first), costs.of(next)), (None, Some(Duration::from_micros(7))));
    }
}
