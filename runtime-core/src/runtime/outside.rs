//! The outside of a runtime: its device, its clock, its observer. All are code of others, so calls are guarded.

use crate::contract::clock::Clock;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device::DeviceError;
use crate::contract::event::Observer;
use crate::sync::guarded;
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct Outside<D> {
    pub(crate) device: Arc<D>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl<D: Device> Outside<D> {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Calls the device, and makes a batch's error of its error or panic.
    pub(crate) fn on_device<R>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&D) -> Result<R, DeviceError>,
    ) -> Result<R, BatchError> {
        match guarded(|| call(&self.device)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(BatchError::Device { operation, source }),
            Err(message) => Err(BatchError::Panic { during: operation.to_owned(), message }),
        }
    }

    /// Tells the observer, if there is one.
    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        if let Err(message) = guarded(|| tell(&**observer)) {
            tracing::error!(message, "observer panicked");
        }
    }
}
