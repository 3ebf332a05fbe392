//! Sleeping until somebody brings news.

use crate::contract::clock::Clock;
use crate::sync::thread;
use std::time::Instant;

/// Parks the current thread until it is woken, or until `until` by `clock`.
pub(crate) fn sleep(clock: &dyn Clock, until: Option<Instant>) {
    match until.and_then(|until| clock.sleep_until(until)) {
        Some(time) => thread::park_timeout(time),
        None => thread::park(),
    }
}
