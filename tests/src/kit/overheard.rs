//! A clock that lets a case know that a caller has looked at it.

use skep_runtime_core::Clock;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::ManualClock;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A manual clock that reports each time at which a thread named `caller` reads it. A task's deadline counts from
/// that moment, so time may be moved after it, and not before.
pub struct Overheard {
    clock: Arc<ManualClock>,
    tell: Mutex<Sender<()>>,
}

impl Overheard {
    /// Creates a clock, and the channel on which it reports.
    pub fn new(clock: Arc<ManualClock>) -> (Arc<Self>, Receiver<()>) {
        let (tell, told) = channel();
        (Arc::new(Self { clock, tell: Mutex::new(tell) }), told)
    }
}

impl Clock for Overheard {
    fn now(&self) -> Instant {
        let now = self.clock.now();
        if std::thread::current().name() == Some("caller") {
            self.tell.lock().send(()).ok();
        }
        now
    }

    fn sleep_until(&self, until: Instant) -> Option<Duration> {
        self.clock.sleep_until(until)
    }

    fn on_advance(&self, wake: Box<dyn Fn() -> bool + Send + Sync>) {
        self.clock.on_advance(wake);
    }
}
