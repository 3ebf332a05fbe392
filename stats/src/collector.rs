//! Counting while the runtime works: one short lock of one pool per batch.

use crate::snapshot::Snapshot;
use crate::tally::{Reading, Tally};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Meter, Observer, PoolId, Unrun};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Collects the numbers of **one** runtime. Cloning it is cheap and gives another handle to the same
/// numbers.
///
/// Hand [`observer`](Self::observer) to the runtime's builder and ask for a [`snapshot`](Self::snapshot)
/// whenever you like, also after the runtime has stopped.
///
/// An idle pool takes 32 bytes here. One that had a batch takes up to 8 KB more until it is busy, and then up to 250 KB
/// in its histograms, which are the larger the longer its times are. A snapshot reads them, of one pool at a time.
#[derive(Clone, Default)]
pub struct Stats(Arc<Collector>);

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats").finish_non_exhaustive()
    }
}

impl Stats {
    /// Creates stats with nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the observer for the builder of the runtime. A second runtime needs its own `Stats`.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.0) as Arc<dyn Observer>
    }

    /// Returns the numbers now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_at(Instant::now())
    }

    /// Returns the numbers at `now` by the runtime's clock. For runtimes that do not run on the system's clock.
    pub fn snapshot_at(&self, now: Instant) -> Snapshot {
        let Some(run) = self.0.run.get() else { return Snapshot::default() };
        let until = self.0.stopped.get().copied().unwrap_or(now);
        Snapshot::new(&run.device, until.saturating_duration_since(run.started), &self.pools())
    }

    /// Where the numbers of each pool are to be read.
    pub(crate) fn pools(&self) -> Vec<Reading> {
        self.0.pools.lock().iter().flatten().map(|pool| pool.reading.clone()).collect()
    }
}

#[derive(Default)]
struct Collector {
    run: OnceLock<Run>,
    stopped: OnceLock<Instant>,
    /// At the places of their ids.
    pools: Mutex<Vec<Option<PoolSlot>>>,
}

struct Run {
    device: String,
    started: Instant,
}

#[derive(Clone)]
struct PoolSlot {
    reading: Reading,
    generation: u32,
}

impl Collector {
    fn with_tally(&self, id: PoolId, change: impl FnOnce(&mut Tally)) {
        let tally = {
            let mut pools = self.pools.lock();
            // No slot: the observer never heard of the pool, because its runtime broke the contract.
            let Some(Some(pool)) = pools.get_mut(id.index()) else { return };
            if pool.generation != id.generation() {
                return;
            }
            Arc::clone(pool.reading.tally.get_or_insert_default())
        };
        change(&mut tally.lock());
    }
}

impl Observer for Collector {
    fn started(&self, device: &str, at: Instant) {
        if self.run.set(Run { device: device.to_owned(), started: at }).is_err() {
            tracing::warn!(device, "stats already observe another runtime, give each runtime its own");
        }
    }

    fn pool_added(&self, id: PoolId, meter: Arc<dyn Meter>) {
        let mut pools = self.pools.lock();
        if pools.len() <= id.index() {
            pools.resize(id.index() + 1, None);
        }
        let place = &mut pools[id.index()];
        if let Some(pool) = place
            && pool.generation >= id.generation()
        {
            // Another runtime's, of which `started` has warned.
            return;
        }
        *place = Some(PoolSlot { reading: Reading { meter, tally: None }, generation: id.generation() });
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.with_tally(event.pool, |tally| tally.batch(event));
    }

    /// Counted by the meter.
    fn unrun(&self, _pool: PoolId, _why: Unrun, _tasks: usize) {}

    fn stopped(&self, at: Instant) {
        // The first one counts, as with `started`.
        self.stopped.set(at).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_takes_8_kb_until_it_is_busy() {
        // Six lists of 128 entries.
        assert!(size_of::<Mutex<Tally>>() + 6 * 128 * 8 <= 8 * 1024);
    }

    #[test]
    fn an_idle_pool_takes_32_bytes() {
        assert_eq!(size_of::<Option<PoolSlot>>(), 32);
    }
}
