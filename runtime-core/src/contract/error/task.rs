//! Errors for the caller who waits for an answer.

use crate::contract::error::batch::BatchError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::error::kind::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// The answer to an accepted task that has no outputs: the reason. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The batch that the task was in failed.
    #[error("batch failed")]
    Failed(#[source] Arc<BatchError>),
    /// The task was cancelled before it ran.
    #[error("task was cancelled")]
    Cancelled,
    /// The answer was given before: a future was polled again after it was ready.
    #[error("answer was taken before")]
    Taken,
    /// The task's deadline passed before it ran.
    #[error("task expired: it waited {waited:?} without being run")]
    Expired {
        /// The time that it had waited.
        waited: Duration,
    },
    /// The queue was full, and a more urgent task took the place of this one, which had not been cut.
    #[error("task was evicted after {waited:?}: the queue was full and a more urgent task took its place")]
    Evicted {
        /// The time that it had waited.
        waited: Duration,
    },
    /// The runtime stopped before the task ran, or before its batch was through.
    #[error("runtime was shut down before the task was done")]
    ShutDown,
    /// The task's block was taken out of its runtime before the task was done ([`Handle::remove`](crate::Handle::remove)).
    #[error("block was removed from its runtime before the task was done")]
    Removed,
    /// The device was lost before the task was done.
    #[error(transparent)]
    DeviceLost(DeviceLoss),
    /// A thread of the runtime, which does the work, would wait for it without end.
    #[error("a thread of the runtime may not wait for a task")]
    WouldDeadlock,
}

impl TaskError {
    /// Returns the failure of the batch if that is the reason.
    pub fn batch_error(&self) -> Option<&BatchError> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(_) => ErrorKind::Failed,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Expired { .. } => ErrorKind::DeadlineExceeded,
            Self::Evicted { .. } => ErrorKind::Overloaded,
            Self::ShutDown | Self::Removed | Self::DeviceLost(_) => ErrorKind::Unavailable,
            Self::Taken | Self::WouldDeadlock => ErrorKind::Misuse,
        }
    }
}
