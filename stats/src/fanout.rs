//! Several observers of one runtime.

use skep_runtime_core::{BatchEvent, DeviceLoss, Meter, Observer, PoolId, Unrun};
use std::sync::Arc;
use std::time::Instant;

/// Passes every event on to each of several observers, in their order.
pub struct Fanout(pub Vec<Arc<dyn Observer>>);

impl Observer for Fanout {
    fn started(&self, device: &str, at: Instant) {
        self.0.iter().for_each(|observer| observer.started(device, at));
    }

    fn pool_added(&self, pool: PoolId, meter: Arc<dyn Meter>) {
        self.0.iter().for_each(|observer| observer.pool_added(pool, Arc::clone(&meter)));
    }

    fn pool_removed(&self, pool: PoolId) {
        self.0.iter().for_each(|observer| observer.pool_removed(pool));
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.0.iter().for_each(|observer| observer.batch(event));
    }

    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize) {
        self.0.iter().for_each(|observer| observer.unrun(pool, why, tasks));
    }

    fn lost(&self, loss: &DeviceLoss) {
        self.0.iter().for_each(|observer| observer.lost(loss));
    }

    fn stopped(&self, at: Instant) {
        self.0.iter().for_each(|observer| observer.stopped(at));
    }
}
