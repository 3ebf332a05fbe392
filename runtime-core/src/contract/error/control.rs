//! Errors for the application that builds, controls or stops a runtime.

use crate::contract::backend::Pass;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::BoxError;
use crate::contract::error::device::DeviceError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::error::kind::ErrorKind;
use crate::contract::error::submit::SchemaError;
use std::sync::Arc;
use std::time::Duration;

/// The reason why a runtime cannot be built or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two blocks or two pools have one name.
    #[error("{what} name `{name}` is given twice")]
    NameTwice {
        /// `block` or `pool`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A setting is out of range.
    #[error("{of}: {setting} is {got}, expected {expected}")]
    Setting {
        /// Whose setting it is: ``pool `x` ``, or `runtime`.
        of: String,
        /// The setting's name.
        setting: &'static str,
        /// The value that was given.
        got: String,
        /// The values that would be right.
        expected: &'static str,
    },
    /// The block is another builder's, or has been taken out.
    #[error("block is not one of this builder's")]
    ForeignBlock,
    /// A pool is to feed a pass that the block does not have.
    #[error("pool `{pool}` is to feed the {pass} pass of block `{block}`, which does not have it")]
    NoSuchPass {
        /// The pool's name.
        pool: String,
        /// The block's name.
        block: String,
        /// The pass.
        pass: Pass,
    },
    /// A block could not be loaded onto the device.
    #[error("block `{block}` cannot be loaded")]
    Load {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
    /// A block could not run a batch of its warm-up.
    #[error("warm-up of block `{block}` with a batch of {rows} rows failed")]
    WarmUp {
        /// The block's name.
        block: String,
        /// Rows of the batch.
        rows: usize,
        /// Its error.
        source: BoxError,
    },
    /// A block takes more memory than all blocks may that can leave the device
    /// ([`RuntimeBuilder::budget`](crate::RuntimeBuilder::budget)), or than is left of it beside others that have to stay.
    #[error("block `{block}` takes {bytes} bytes, and the budget of its runtime is {budget}")]
    OverBudget {
        /// The block's name.
        block: String,
        /// Its size.
        bytes: u64,
        /// The runtime's budget.
        budget: u64,
    },
    /// A block that can leave the device is to be replaced by one of which nobody knows how it is made again.
    #[error("block `{block}` may leave the device, so only `replace_reloadable` can replace it")]
    Reloadable {
        /// The name of the block that is served.
        block: String,
    },
    /// The schema of a block or of its outputs does not hold.
    #[error("schema of block `{block}` does not hold")]
    Schema {
        /// The block's name.
        block: String,
        /// The schema's error.
        source: SchemaError,
    },
    /// The device could not be taken by its thread.
    #[error("device cannot be used")]
    Device(#[source] DeviceError),
    /// The operating system gave no thread.
    #[error("thread `{name}` cannot be started")]
    Thread {
        /// The thread's name.
        name: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// There is no such block to be replaced.
    #[error("no block is named `{name}`")]
    UnknownBlock {
        /// The name that was asked for.
        name: String,
    },
    /// The runtime has not been started: a block for it is the builder's to serve.
    #[error("runtime is not started")]
    NotStarted,
    /// The runtime was shut down: before it started, or before it took the block in.
    #[error("runtime is shut down")]
    ShutDown,
    /// A thread of the runtime would wait for itself without end.
    #[error("a thread of the runtime may not wait for a block")]
    WouldDeadlock,
    /// The runtime has started, and lost its device since.
    #[error(transparent)]
    DeviceLost(DeviceLoss),
    /// A pool is to be taken over from a runtime that still has its device, or that another one is taking over.
    #[error("pool `{pool}` is another runtime's, which has not lost its device")]
    PoolInUse {
        /// The pool's name.
        pool: String,
    },
    /// The runtimes that feed from one pool do not agree on the order of its tasks.
    #[error("pool `{pool}` cannot be ranked by the policy `{policy}`: {why}")]
    OtherPolicy {
        /// The pool's name.
        pool: String,
        /// The policy of the runtime that does not agree with the others.
        policy: &'static str,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
    /// A block is to take the place of one that takes or gives something else.
    #[error("block `{block}` cannot take over the pools of `{served}`: their {what} differ")]
    OtherSchema {
        /// The new block's name.
        block: String,
        /// The name of the block that is served.
        served: String,
        /// `offsets`, `inputs`, `outputs` or `passes`.
        what: &'static str,
    },
}

/// The reason why a shutdown did not end as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The time was up. Every task still open was given [`TaskError::ShutDown`](crate::TaskError::ShutDown); the batch on the device
    /// may still be running, and the device thread ends after it.
    #[error("shutdown passed its limit of {limit:?}: {unfinished} tasks were given up")]
    LimitPassed {
        /// The limit.
        limit: Duration,
        /// Tasks that got an error because of it.
        unfinished: usize,
    },
    /// The time was up before the last accepted task was answered. Nothing was given up: wait again, or shut down.
    #[error("tasks are still open after {limit:?}")]
    NotDrained {
        /// The limit.
        limit: Duration,
    },
    /// The runtime has not been started, so what waits cannot run.
    #[error("runtime is not started")]
    NotStarted,
    /// The device is stuck, so its thread may never end. Every task has been answered.
    #[error("device is stuck for longer than {limit:?}: its thread cannot be waited for")]
    DeviceStuck {
        /// The limit for one batch.
        limit: Duration,
    },
    /// A thread of the runtime cannot wait for its own end. The shutdown goes on without it.
    #[error("a thread of the runtime may not wait for the shutdown; it goes on by itself")]
    WouldDeadlock,
}

/// The reason why a block could not be worked with between two batches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such block.
    #[error("no block is named `{name}`")]
    UnknownBlock {
        /// The name that was asked for.
        name: String,
    },
    /// The runtime has not been started: nobody would do the work.
    #[error("runtime is not started")]
    NotStarted,
    /// The runtime stopped first.
    #[error("runtime is shut down")]
    ShutDown,
    /// The device was lost first.
    #[error(transparent)]
    DeviceLost(DeviceLoss),
    /// The time for a block to leave was up. Every task of it that was still open was given
    /// [`TaskError::Removed`](crate::TaskError::Removed); it is gone when it returns from the batch on the device.
    #[error("block did not leave within {limit:?}: {unfinished} tasks were given up")]
    LimitPassed {
        /// The limit.
        limit: Duration,
        /// Tasks that got an error because of it.
        unfinished: usize,
    },
    /// A thread of the runtime would wait for itself without end.
    #[error("a thread of the runtime may not wait for a block")]
    WouldDeadlock,
    /// The block has left the device for others, and cannot be brought back.
    #[error("block `{block}` is not on the device")]
    Away {
        /// The block's name.
        block: String,
        /// Why it does not come back.
        source: Arc<BatchError>,
    },
    /// The work panicked.
    #[error("panic while working with block `{block}`: {message}")]
    Panic {
        /// The block's name.
        block: String,
        /// The panic's message.
        message: String,
    },
    /// The block could not give or take its state.
    #[error("block `{block}` cannot give or take its state")]
    Block {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
}

impl ControlError {
    /// Returns the kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownBlock { .. } => ErrorKind::NotFound,
            Self::NotStarted | Self::ShutDown | Self::DeviceLost(_) => ErrorKind::Unavailable,
            Self::LimitPassed { .. } => ErrorKind::DeadlineExceeded,
            Self::WouldDeadlock => ErrorKind::Misuse,
            Self::Away { .. } | Self::Panic { .. } | Self::Block { .. } => ErrorKind::Failed,
        }
    }
}
