//! The outside of a runtime: its device, its clock, its observer. All are code of others, so calls are guarded.

use super::blocks::Body;
use crate::contract::clock::Clock;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device::DeviceError;
use crate::contract::event::Observer;
use crate::sync::{discard, guarded, log};
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct Outside<D> {
    pub(crate) device: Arc<D>,
    /// The device's name, asked for once.
    pub(crate) name: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// The meaning of a batch's error for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Failed,
    /// It had no room.
    OutOfMemory,
    /// It is lost.
    DeviceLost,
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

    /// Frees a block that has left the device. Not called by the device thread: that may take long.
    pub(crate) fn free(&self, body: Body<D>) {
        discard(body);
        guarded(|| self.device.trim_memory()).ok();
    }

    /// Reads a batch's error: its causes are code of others.
    pub(crate) fn verdict(&self, error: &BatchError) -> Verdict {
        let read = || match error.device_error(&self.name) {
            Some(DeviceError::Fatal { .. }) => Verdict::DeviceLost,
            Some(DeviceError::OutOfMemory { .. }) => Verdict::OutOfMemory,
            _ => Verdict::Failed,
        };
        guarded(read).unwrap_or(Verdict::Failed)
    }

    /// Tells the observer, if there is one.
    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        if let Err(message) = guarded(|| tell(&**observer)) {
            log(|| tracing::error!(message, "observer panicked"));
        }
    }
}
