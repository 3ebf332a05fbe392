//! A clock that stands still until it is moved.

use crate::contract::clock::Clock;
use crate::sync::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Wake = Box<dyn Fn() -> bool + Send + Sync>;

/// A clock that stands still until a test moves it. Moving it wakes every thread of every runtime that
/// uses it, so that what is due happens.
pub struct ManualClock {
    base: Instant,
    passed: Mutex<Duration>,
    wakes: Mutex<Vec<Wake>>,
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").finish_non_exhaustive()
    }
}

impl ManualClock {
    /// Creates a clock at an arbitrary time.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            base: Instant::now(),
            passed: Mutex::new(Duration::ZERO),
            wakes: Mutex::new(Vec::new()),
        })
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        *self.passed.lock() += time;
        self.wakes.lock().retain(|wake| wake());
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.base + *self.passed.lock()
    }

    fn sleep_until(&self, _until: Instant) -> Option<Duration> {
        None
    }

    fn on_advance(&self, wake: Wake) {
        self.wakes.lock().push(wake);
    }
}
