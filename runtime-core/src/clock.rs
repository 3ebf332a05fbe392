//! Time, as the runtime sees it: the system's, or a test's.

use std::time::{Duration, Instant};

/// Where the runtime takes the time from.
///
/// Applications use [`SystemClock`], which is the default. Tests use `testing::ManualClock` and decide
/// themselves what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Instant;

    /// How long a thread may sleep when it wants to wake at `until`: `None` when the clock itself wakes
    /// it, through what it was given in [`on_advance`](Self::on_advance).
    fn sleep_until(&self, until: Instant) -> Option<Duration>;

    /// Registers what to call when the time was moved by hand. `wake` returns false once nobody needs it
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
