//! Counting while the runtime works: one short lock of one pool per batch.

use crate::snapshot::Snapshot;
use crate::tally::Tally;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Counts, DeviceLoss, Meter, Observer, PoolId, Unrun};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Collects the numbers of **one** runtime. Cloning it is cheap and gives another handle to the same
/// numbers.
///
/// Hand [`observer`](Self::observer) to the runtime's builder and ask for a [`snapshot`](Self::snapshot)
/// whenever you like, also after the runtime has stopped.
///
/// An idle pool takes 32 bytes here; one that had a batch takes up to 250 KB, in its histograms.
#[derive(Clone, Default)]
pub struct Stats(Arc<Collector>);

impl Stats {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to give to the builder of the runtime. A second runtime needs its own `Stats`.
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.0) as Arc<dyn Observer>
    }

    /// The numbers now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_at(Instant::now())
    }

    /// The numbers now, where the runtime's clock says that it is `now`. For runtimes that do not run on
    /// the system's clock.
    pub fn snapshot_at(&self, now: Instant) -> Snapshot {
        let Some(run) = self.0.run.get() else { return Snapshot::default() };
        let until = self.0.stopped.get().copied().unwrap_or(now);
        Snapshot::new(&run.device, until.saturating_duration_since(run.started), self.pools())
    }

    /// The name of each pool, and what was counted of it and by it.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&str, Option<Box<Tally>>, Counts)> {
        let lost = self.0.lost.get();
        let pools = self.0.run.get().map_or(&[][..], |run| &run.pools);
        pools.iter().enumerate().map(move |(i, pool)| {
            // In this order: a task that ends in between counts as in flight. The other way round, it could
            // end without having been submitted.
            let tally = pool.tally.lock().clone();
            let counts = lost.and_then(|lost| lost.get(i).copied());
            (pool.meter.name(), tally, counts.unwrap_or_else(|| pool.meter.counts()))
        })
    }
}

#[derive(Default)]
struct Collector {
    run: OnceLock<Run>,
    stopped: OnceLock<Instant>,
    /// What the pools had counted when the device was lost. Since then they may count for another runtime.
    lost: OnceLock<Box<[Counts]>>,
}

struct Run {
    device: String,
    started: Instant,
    pools: Box<[PoolSlot]>,
}

struct PoolSlot {
    meter: Arc<dyn Meter>,
    /// `None` until the pool's first event.
    tally: Mutex<Option<Box<Tally>>>,
}

impl Collector {
    fn with_tally(&self, pool: PoolId, change: impl FnOnce(&mut Tally)) {
        // No slot: an event from before the start, or from a runtime that broke the contract.
        if let Some(slot) = self.run.get().and_then(|run| run.pools.get(pool.index())) {
            change(slot.tally.lock().get_or_insert_default());
        }
    }
}

impl Observer for Collector {
    fn started(&self, device: &str, at: Instant, pools: &[Arc<dyn Meter>]) {
        let slot = |meter: &Arc<dyn Meter>| PoolSlot { meter: Arc::clone(meter), tally: Mutex::default() };
        let run = Run { device: device.to_owned(), started: at, pools: pools.iter().map(slot).collect() };
        if self.run.set(run).is_err() {
            tracing::warn!(device, "stats already observe another runtime, give each runtime its own");
        }
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.with_tally(event.pool, |tally| tally.batch(event));
    }

    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize) {
        self.with_tally(pool, |tally| tally.unrun(why, tasks));
    }

    fn lost(&self, _loss: &DeviceLoss) {
        let pools = self.run.get().map_or(&[][..], |run| &run.pools);
        self.lost.set(pools.iter().map(|pool| pool.meter.counts()).collect()).ok();
    }

    fn stopped(&self, at: Instant) {
        // The first one counts, as with `started`.
        self.stopped.set(at).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_pool_takes_32_bytes() {
        assert_eq!(size_of::<PoolSlot>(), 32);
    }
}
