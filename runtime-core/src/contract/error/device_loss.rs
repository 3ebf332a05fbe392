//! The loss of a device.

use crate::contract::error::batch::BatchError;
use std::sync::Arc;
use std::time::Duration;

/// The loss of a device: the reason why its runtime takes no more work. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceLoss {
    /// The device worked on one batch for longer than it may
    /// ([`RuntimeBuilder::batch_limit`](crate::RuntimeBuilder::batch_limit)).
    #[error("device is stuck: a batch of pool `{pool}` did not end within {limit:?}")]
    Stuck {
        /// The pool that the batch was cut from.
        pool: Arc<str>,
        /// The limit.
        limit: Duration,
    },
    /// The device said that nothing will run on it any more ([`DeviceError::Fatal`](crate::DeviceError::Fatal)).
    #[error("device is lost")]
    Fatal(#[source] Arc<BatchError>),
}
