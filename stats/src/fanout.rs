//! Several observers of one runtime.

use skep_runtime_core::sync::{guarded, log};
use skep_runtime_core::{BatchEvent, DeviceLoss, Meter, Observer, PoolId, Reloaded, Unrun};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Passes every event on to each of several observers, in their order.
pub struct Fanout(pub Vec<Arc<dyn Observer>>);

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fanout").field(&self.0.len()).finish()
    }
}

impl Fanout {
    /// Tells each observer, whatever those before it do.
    fn each(&self, tell: impl Fn(&dyn Observer)) {
        for observer in &self.0 {
            if let Err(message) = guarded(|| tell(&**observer)) {
                log(|| tracing::error!(message, "observer panicked"));
            }
        }
    }
}

impl Observer for Fanout {
    fn started(&self, device: &str, at: Instant) {
        self.each(|observer| observer.started(device, at));
    }

    fn pool_added(&self, pool: PoolId, meter: Arc<dyn Meter>) {
        self.each(|observer| observer.pool_added(pool, Arc::clone(&meter)));
    }

    fn pool_removed(&self, pool: PoolId) {
        self.each(|observer| observer.pool_removed(pool));
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.each(|observer| observer.batch(event));
    }

    fn unrun(&self, pool: PoolId, why: Unrun, tasks: usize) {
        self.each(|observer| observer.unrun(pool, why, tasks));
    }

    fn reloaded(&self, event: &Reloaded<'_>) {
        self.each(|observer| observer.reloaded(event));
    }

    fn lost(&self, loss: &DeviceLoss) {
        self.each(|observer| observer.lost(loss));
    }

    fn stopped(&self, at: Instant) {
        self.each(|observer| observer.stopped(at));
    }
}
