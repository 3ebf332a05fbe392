//! Errors of a batch, which many callers share.

use crate::contract::error::cause::{BoxError, Chain};
use crate::contract::error::device::DeviceError;
use std::error::Error as StdError;
use std::sync::Arc;

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
    /// The block returned an error, says that rows of this task are the cause, and has not changed. The other tasks of the
    /// batch run again without it.
    #[error("block `{block}` failed because of this task")]
    Culprit {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
    /// The block had left the device for others, and could not be brought back. The next task has it tried again.
    #[error("block `{block}` cannot be brought back onto the device")]
    Reload {
        /// The block's name.
        block: String,
        /// What went wrong.
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
    #[error("output `{output}` of the block has {got} rows, expected {expected}")]
    WrongRows {
        /// The name of the output.
        output: String,
        /// Rows of the batch.
        expected: usize,
        /// Rows that came; 0 for a scalar.
        got: usize,
    },
    /// An output has another element type or other dims than the block's schema says.
    #[error("output `{output}` of the block is {got}, expected {expected}")]
    WrongOutput {
        /// The name of the output.
        output: String,
        /// The element type and dims of the schema.
        expected: String,
        /// The element type and dims that came.
        got: String,
    },
    /// An output holds an infinity or no number at all, and the pool checks for that.
    #[error("output `{output}` of the block has elements that are not finite")]
    NotFinite {
        /// The name of the output.
        output: String,
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
    /// Returns true if `device` had no room for the batch: a smaller one may fit. Blocks report it by returning,
    /// or wrapping, a [`DeviceError::OutOfMemory`] that names the device as [`Device::name`](crate::Device::name) does.
    pub fn is_out_of_memory(&self, device: &str) -> bool {
        matches!(self.device_error(device), Some(DeviceError::OutOfMemory { .. }))
    }

    /// Returns true if `device` is lost. Blocks report it by returning, or wrapping, a [`DeviceError::Fatal`] that
    /// names the device as [`Device::name`](crate::Device::name) does.
    pub fn is_fatal(&self, device: &str) -> bool {
        matches!(self.device_error(device), Some(DeviceError::Fatal { .. }))
    }

    /// Returns the error of `device` if that is the reason, wherever it is wrapped.
    ///
    /// An error of another device, and all that comes out of another runtime, is no word about this one: a block that
    /// passes on the loss of a remote device is not lost itself.
    pub fn device_error(&self, device: &str) -> Option<&DeviceError> {
        let own = |error: &&DeviceError| match error {
            DeviceError::OutOfMemory { device: name, .. } | DeviceError::Fatal { device: name, .. } => {
                name == device
            }
            DeviceError::Operation(_) => true,
        };
        let mut found = None;
        let mut next: Option<&(dyn StdError + 'static)> = self.source();
        // An error that is, by whatever mistake, its own cause ends here.
        for _ in 0..Chain::MOST {
            let Some(cause) = next else { break };
            if is_of_a_runtime(cause) {
                break;
            }
            let error = cause.downcast_ref::<DeviceError>();
            let error = error.or_else(|| cause.downcast_ref::<Arc<DeviceError>>().map(|error| &**error));
            next = match error {
                // It shows as what it wraps, and so hides that from `source`.
                Some(DeviceError::Operation(inner)) => Some(&**inner),
                _ => cause.source(),
            };
            if let Some(error) = error.filter(own) {
                found = Some(error);
                if !matches!(error, DeviceError::Operation(_)) {
                    break;
                }
            }
        }
        found
    }
}

/// Returns true for the errors by which runtimes answer: within a batch's own error, they come from another runtime.
fn is_of_a_runtime(error: &(dyn StdError + 'static)) -> bool {
    error.is::<BatchError>() || error.is::<Arc<BatchError>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(device: &str) -> DeviceError {
        DeviceError::Fatal { device: device.to_owned(), message: "poisoned".to_owned() }
    }

    fn full(device: &str) -> DeviceError {
        DeviceError::OutOfMemory { device: device.to_owned(), message: "no room".to_owned() }
    }

    fn of_block(source: impl Into<BoxError>) -> BatchError {
        BatchError::Block { block: "b".to_owned(), source: source.into() }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] Arc<DeviceError>);

    #[derive(Debug, thiserror::Error)]
    #[error("remote expert failed")]
    struct Remote(#[source] Arc<BatchError>);

    #[test]
    fn the_own_device_is_heard_wherever_it_is_wrapped() {
        for error in [
            BatchError::Device { operation: "gather", source: full("gpu") },
            of_block(full("gpu")),
            of_block(DeviceError::operation(full("gpu"))),
            of_block(DeviceError::operation(DeviceError::operation(full("gpu")))),
            of_block(Wrapped(Arc::new(DeviceError::operation(full("gpu"))))),
        ] {
            assert!(error.is_out_of_memory("gpu") && !error.is_fatal("gpu"), "{error:?}");
            assert!(!error.is_out_of_memory("cpu"), "{error:?}");
        }
        assert!(of_block(DeviceError::operation(lost("gpu"))).is_fatal("gpu"));
    }

    #[test]
    fn another_runtime_s_device_is_not_the_own_one() {
        let remote = Arc::new(BatchError::Device { operation: "gather", source: lost("gpu") });
        assert!(remote.is_fatal("gpu"));
        assert!(!of_block(Remote(remote)).is_fatal("gpu"));
    }

    #[test]
    fn an_error_that_is_its_own_cause_ends() {
        #[derive(Debug)]
        struct Endless;
        impl std::fmt::Display for Endless {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("endless")
            }
        }
        impl StdError for Endless {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }
        let error = of_block(Endless);
        assert!(!error.is_fatal("gpu"));
        assert!(Chain(&error).to_string().starts_with("block `b` failed: endless: endless"));
    }
}
