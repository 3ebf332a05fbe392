//! Clocks: the system's, or a test's.

use std::time::{Duration, Instant};

/// The runtime's source of time.
///
/// Applications use [`SystemClock`], which is the default. Tests use `testing::ManualClock` and decide
/// themselves what time it is.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time now.
    fn now(&self) -> Instant;

    /// Returns the time that a thread may sleep that wants to wake at `until`, or `None` if the clock itself wakes
    /// it, through the function that it was given in [`on_advance`](Self::on_advance).
    fn sleep_until(&self, until: Instant) -> Option<Duration>;

    /// Registers a function to call when the time was moved by hand. `wake` returns false once nobody needs it
    /// any more.
    fn on_advance(&self, wake: Box<dyn Fn() -> bool + Send + Sync>);
}

/// The operating system's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, until: Instant) -> Option<Duration> {
        Some(until.saturating_duration_since(Instant::now()))
    }

    fn on_advance(&self, _wake: Box<dyn Fn() -> bool + Send + Sync>) {}
}
