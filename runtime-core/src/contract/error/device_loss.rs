//! The loss of a device.

use crate::contract::error::batch::BatchError;
use std::sync::Arc;
use std::time::Duration;

/// The loss of a device: the reason why its runtime takes no more work. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceLoss {
    /// The device worked on one batch, or with a block between batches, for longer than it may
    /// ([`RuntimeBuilder::batch_limit`](crate::RuntimeBuilder::batch_limit)).
    #[error("device is stuck: {work} did not end within {limit:?}")]
    Stuck {
        /// ``a batch of pool `x` ``, or `work with a block`.
        work: Arc<str>,
        /// The limit.
        limit: Duration,
    },
    /// The device said that nothing will run on it any more ([`DeviceError::Fatal`](crate::DeviceError::Fatal)).
    #[error("device is lost")]
    Fatal(#[source] Arc<BatchError>),
}
