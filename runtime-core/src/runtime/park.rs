//! Sleeping until a time, by a clock that is code of others.

use crate::contract::clock::Clock;
use crate::sync::{guarded, thread};
use std::time::{Duration, Instant};

/// A sleep until a time.
///
/// The clock is asked for its length first, and then the thread decides again: the clock may have eaten the wake-up of
/// what has come since. If there is still nothing else to do, it sleeps.
#[derive(Default)]
pub(crate) struct Nap {
    planned: Option<(Instant, Option<Duration>)>,
}

impl Nap {
    /// Sleeps until woken, or until `until`; returns at once when asked for the first time.
    pub(crate) fn sleep(&mut self, clock: &dyn Clock, until: Instant) {
        match self.planned.take().filter(|(planned, _)| *planned == until) {
            Some((_, Some(time))) => thread::park_timeout(time),
            Some((_, None)) => thread::park(),
            None => {
                let time = guarded(|| clock.sleep_until(until)).unwrap_or_default();
                self.planned = Some((until, time));
            }
        }
    }
}
