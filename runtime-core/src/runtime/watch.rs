//! The watch over the device.

use crate::sync::atomic::AtomicBool;

/// The timer's watch over the device.
#[derive(Default)]
pub(crate) struct Watch {
    /// The timer looks again after a while at what the device works on.
    pub(crate) on: AtomicBool,
}
