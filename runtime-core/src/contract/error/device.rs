//! Errors of a device.

use crate::contract::error::cause::BoxError;

/// The error of a device whose operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device has no room; a smaller batch may still fit.
    #[error("out of memory on {device}: {message}")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// Its own message.
        message: String,
    },
    /// The device is lost: nothing will run on it any more.
    #[error("{device} is lost: {message}")]
    Fatal {
        /// The device's name.
        device: String,
        /// Its own message.
        message: String,
    },
    /// This one operation failed.
    #[error(transparent)]
    Operation(BoxError),
}

impl DeviceError {
    /// Wraps the error of one operation.
    pub fn operation(error: impl Into<BoxError>) -> Self {
        Self::Operation(error.into())
    }
}
