//! A pool that counts what it is told.

use skep_runtime_core::{Counts, Meter, Observer, PoolId, sync::Mutex};
use std::sync::Arc;
use std::time::Instant;

/// Tells an observer of the start of a runtime with these pools.
pub(crate) fn start(observer: &dyn Observer, device: &str, at: Instant, pools: &[Arc<dyn Meter>]) {
    observer.started(device, at);
    for (id, pool) in (0..).zip(pools) {
        observer.pool_added(PoolId::new(id), Arc::clone(pool));
    }
}

pub(crate) struct Queue {
    name: String,
    pub(crate) counts: Mutex<Counts>,
}

impl Queue {
    pub(crate) fn new(name: &str, counts: Counts) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), counts: Mutex::new(counts) })
    }
}

impl Meter for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    fn counts(&self) -> Counts {
        *self.counts.lock()
    }
}
