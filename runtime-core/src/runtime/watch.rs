//! The watch over the device.

use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use std::time::Instant;

/// The timer's watch over the device.
#[derive(Default)]
pub(crate) struct Watch {
    /// The timer looks again after a while at what the device works on.
    pub(crate) on: AtomicBool,
    /// Since when the device thread works with a block between batches, while it does.
    pub(crate) work: Mutex<Option<Instant>>,
}
