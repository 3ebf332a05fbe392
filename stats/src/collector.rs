//! Counting while the runtime works: one short lock of one pool per batch.

use crate::snapshot::Snapshot;
use crate::tally::{Departed, Gone, Reading, Reloads, Tally};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Meter, Observer, PoolId, Reloaded, Unrun};
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

    /// Creates stats that do not tell flows apart: for runtimes whose flows are many and have no names, such as the
    /// connections of a server. Each flow of a pool would take up to 80 KB in its histograms.
    pub fn without_flows() -> Self {
        Self(Arc::new(Collector { one_flow: true, ..Collector::default() }))
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
        let (slots, gone) = {
            let pools = self.0.pools.lock();
            (pools.slots.clone(), pools.gone.clone())
        };
        let elapsed = until.saturating_duration_since(run.started);
        let snapshot = Snapshot::new(&run.device, elapsed, &readings(slots), gone);
        snapshot.with_reloads(&self.0.reloads.lock())
    }
}

#[cfg(feature = "metrics")]
impl Stats {
    /// Reads the numbers of each pool.
    pub(crate) fn pools(&self) -> Vec<(u32, Reading)> {
        readings(self.0.pools.lock().slots.clone())
    }

    /// Reads the numbers of blocks that came back.
    pub(crate) fn reloads(&self) -> Reloads {
        self.0.reloads.lock().clone()
    }

    /// From now on keeps the last numbers of pools that leave, for [`departed`](Self::departed).
    pub(crate) fn keep_departed(&self) {
        self.0.pools.lock().departed.get_or_insert_default();
    }

    /// Takes the last numbers of pools that have left.
    pub(crate) fn departed(&self) -> Vec<Departed> {
        self.0.pools.lock().departed.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

#[derive(Default)]
struct Collector {
    run: OnceLock<Run>,
    stopped: OnceLock<Instant>,
    pools: Mutex<Pools>,
    /// Blocks that came back.
    reloads: Mutex<Reloads>,
    one_flow: bool,
}

#[derive(Default)]
struct Pools {
    /// At the places of their ids.
    slots: Vec<Option<PoolSlot>>,
    /// Pools that have come so far.
    came: u32,
    /// All pools that have left, together.
    gone: Gone,
    /// Their last numbers, if anybody publishes those of each pool.
    departed: Option<Vec<Departed>>,
}

/// The most pools whose last numbers are kept apart until somebody takes them.
const MOST_DEPARTED: usize = 1024;

struct Run {
    device: String,
    started: Instant,
}

#[derive(Clone)]
struct PoolSlot {
    reading: Reading,
    generation: u32,
    /// The number of pools that came before it.
    number: u32,
}

/// Where the numbers of pools are to be read, and the numbers of the pools themselves.
fn readings(slots: Vec<Option<PoolSlot>>) -> Vec<(u32, Reading)> {
    slots.into_iter().flatten().map(|pool| (pool.number, pool.reading)).collect()
}

impl Pools {
    fn get(&self, index: usize) -> Option<&PoolSlot> {
        self.slots.get(index)?.as_ref()
    }
}

impl Collector {
    /// Adds up the last numbers of the pool at a place, and frees the place, if it is of this generation or an earlier one.
    fn see_off(&self, index: usize, generation: u32) {
        let left = self.pools.lock().get(index).filter(|pool| pool.generation <= generation).cloned();
        let Some(PoolSlot { reading, number, .. }) = left else { return };
        // A meter is code of others, so it is read outside of the lock.
        let (tally, counts) =
            reading.read(|tally| tally.cloned().unwrap_or_else(|| Tally::new(!self.one_flow)));
        let mut pools = self.pools.lock();
        // In one step, so that no snapshot lacks it or has it twice.
        let place = pools.slots.get_mut(index);
        if place.and_then(|place| place.take_if(|pool| pool.number == number)).is_none() {
            return;
        }
        pools.gone.counts = pools.gone.counts + counts;
        pools.gone.tally.add(&tally);
        if let Some(departed) = pools.departed.as_mut().filter(|departed| departed.len() < MOST_DEPARTED) {
            departed.push(Departed { number, name: reading.meter.name().to_owned(), tally, counts });
        }
    }

    fn with_tally(&self, id: PoolId, change: impl FnOnce(&mut Tally)) {
        let tally = {
            let mut pools = self.pools.lock();
            // No slot: the observer never heard of the pool, because its runtime broke the contract.
            let Some(Some(pool)) = pools.slots.get_mut(id.index()) else { return };
            if pool.generation != id.generation() {
                return;
            }
            let new = || Arc::new(Mutex::new(Tally::new(!self.one_flow)));
            Arc::clone(pool.reading.tally.get_or_insert_with(new))
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
        // The pool that left this place may not have been told of yet.
        if let Some(former) = id.generation().checked_sub(1) {
            self.see_off(id.index(), former);
        }
        let mut pools = self.pools.lock();
        if pools.slots.len() <= id.index() {
            pools.slots.resize(id.index() + 1, None);
        }
        if pools.get(id.index()).is_some() {
            // Another runtime's, of which `started` has warned.
            return;
        }
        let (generation, number) = (id.generation(), pools.came);
        pools.came = pools.came.wrapping_add(1);
        pools.slots[id.index()] =
            Some(PoolSlot { reading: Reading { meter, tally: None }, generation, number });
    }

    fn pool_removed(&self, id: PoolId) {
        self.see_off(id.index(), id.generation());
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.with_tally(event.pool, |tally| tally.batch(event));
    }

    fn reloaded(&self, event: &Reloaded<'_>) {
        self.reloads.lock().note(event);
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
