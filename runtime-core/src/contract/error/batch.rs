//! Errors of a batch, which many callers share.

use crate::contract::error::cause::BoxError;
use crate::contract::error::device::DeviceError;
use std::error::Error as StdError;

/// The reason why a batch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The block returned an error.
    #[error("block `{block}` failed")]
    Block {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
    /// Something panicked; the runtime went on.
    #[error("panic in {during}: {message}")]
    Panic {
        /// The block, or the device's operation.
        during: String,
        /// The panic's message.
        message: String,
    },
    /// The block gave too few or too many tensors.
    #[error("block gave {got} outputs, expected {expected}")]
    WrongOutputs {
        /// Outputs that the schema names.
        expected: usize,
        /// Outputs that came.
        got: usize,
    },
    /// An output has another number of rows than the batch.
    #[error("output {output} of the block has {got} rows, expected {expected}")]
    WrongRows {
        /// The position of the output.
        output: usize,
        /// Rows of the batch.
        expected: usize,
        /// Rows that came; 0 for a scalar.
        got: usize,
    },
    /// An output holds an infinity or no number at all, and the pool checks for that.
    #[error("output {output} of the block has elements that are not finite")]
    NotFinite {
        /// The position of the output.
        output: usize,
    },
    /// The device could not take the inputs or give the outputs back.
    #[error("device failed to {operation}")]
    Device {
        /// `gather`, `scatter`, `check`, `join` or `synchronize`.
        operation: &'static str,
        /// The device's error.
        source: DeviceError,
    },
}

impl BatchError {
    /// Returns true if the device had no room for the batch: a smaller one may fit. Blocks report it by returning,
    /// or wrapping, a [`DeviceError::OutOfMemory`].
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.device_error(), Some(DeviceError::OutOfMemory { .. }))
    }

    /// Returns true if the device is lost.
    pub fn is_fatal(&self) -> bool {
        matches!(self.device_error(), Some(DeviceError::Fatal { .. }))
    }

    /// Returns the device's error if that is the reason.
    pub fn device_error(&self) -> Option<&DeviceError> {
        let mut error: Option<&(dyn StdError + 'static)> = Some(self);
        while let Some(cause) = error {
            if let Some(error) = cause.downcast_ref() {
                return Some(error);
            }
            error = cause.source();
        }
        None
    }
}
