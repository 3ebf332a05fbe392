//! Locks as this project uses them: a panic elsewhere does not make data unreadable.
//!
//! Whatever may panic in the hands of others (blocks, devices, wakers, observers) is called outside of any
//! lock and caught, so a poisoned lock carries no news.
//!
//! Everything by which threads meet comes from here, so that `--cfg shuttle` can put it under a scheduler that
//! tries one interleaving after the other. Applications never see that flag; `cargo xtask explore` sets it.

#[doc(hidden)]
pub mod every;
pub(crate) mod spin;

#[cfg(shuttle)]
mod explored;

#[cfg(shuttle)]
#[doc(hidden)]
pub use self::explored::{event_listener, flume};
#[cfg(shuttle)]
use shuttle::sync::{Mutex as Lock, MutexGuard};
#[cfg(shuttle)]
#[doc(hidden)]
pub use shuttle::{sync::atomic, thread, thread_local};

#[cfg(not(shuttle))]
use std::sync::{Mutex as Lock, MutexGuard};
#[cfg(not(shuttle))]
#[doc(hidden)]
pub use {
    event_listener, flume,
    std::{sync::atomic, thread, thread_local},
};

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

/// A mutex without poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(Lock<T>);

impl<T> Mutex<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(Lock::new(value))
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls what others have written.
///
/// # Errors
///
/// Returns the message of a panic.
#[inline]
pub fn guarded<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let message = panic_message(&*payload);
        discard(payload);
        message
    })
}

/// Writes to the log: subscribers, and the values that are printed, are code of others.
pub fn log(write: impl FnOnce()) {
    // Nobody is left to tell if that fails.
    guarded(write).ok();
}

/// Drops what others have made. A panic while it is dropped goes no further; its payload is leaked, because dropping
/// that may panic as well.
#[inline]
pub fn discard<T>(value: T) {
    if std::mem::needs_drop::<T>()
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
    {
        std::mem::forget(payload);
    }
}

/// Drops each of many. Together they would end the process if two of them panicked.
#[inline]
pub fn discard_all<T>(values: impl IntoIterator<Item = T>) {
    if std::mem::needs_drop::<T>() {
        values.into_iter().for_each(discard);
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}
