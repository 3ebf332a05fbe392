//! Everything that can go wrong, by who is told: the caller who submits, the caller who waits, and the
//! application that builds or stops a runtime.

use crate::schema::Dim;
use crate::tensor::DType;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why a schema cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// There is no tensor to count rows by.
    #[error("schema has no tensors, expected at least one")]
    Empty,
    /// The batch dim is missing or stands elsewhere.
    #[error("tensor `{name}` must have the batch dim as dim 0 and nowhere else")]
    BatchDim {
        /// The tensor's name.
        name: String,
    },
    /// Two tensors have one name.
    #[error("tensor name `{name}` is given twice")]
    NameTwice {
        /// The name.
        name: String,
    },
}

/// Why a task was refused. It comes inside [`Refused`], which gives the inputs back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Too few or too many tensors.
    #[error("task has {got} tensors, expected {expected}")]
    WrongArity {
        /// Tensors that the block takes.
        expected: usize,
        /// Tensors that the task has.
        got: usize,
    },
    /// A named tensor that the block does not take.
    #[error("block has no input named `{name}`, expected one of {expected:?}")]
    UnknownInput {
        /// The name that was given.
        name: String,
        /// The names that there are.
        expected: Vec<String>,
    },
    /// A named tensor that was left out or given twice.
    #[error("input `{name}` must be given exactly once")]
    NotOnce {
        /// The name of the input.
        name: String,
    },
    /// A tensor has another element type.
    #[error("input `{input}` has dtype {got}, expected {expected}")]
    WrongDType {
        /// The name of the input.
        input: String,
        /// The element type that the block takes.
        expected: DType,
        /// The element type that was given.
        got: DType,
    },
    /// A tensor has other trailing dims.
    #[error("input `{input}` has dims {got:?}, expected [{}]", Commas(expected))]
    WrongDims {
        /// The name of the input.
        input: String,
        /// The dims that the block takes.
        expected: Vec<Dim>,
        /// The dims that were given.
        got: Vec<usize>,
    },
    /// The tensors of one task have different numbers of rows.
    #[error("input `{input}` has {got} rows, expected {expected} as in the first input")]
    RowsDiffer {
        /// The name of the input.
        input: String,
        /// Rows of the first input.
        expected: usize,
        /// Rows of this input.
        got: usize,
    },
    /// The task has no rows, so no batch could ever answer it.
    #[error("task has 0 rows, expected at least 1")]
    NoRows,
    /// The task would not fit into one batch, and the pool does not split tasks.
    #[error("task has {rows} rows, expected at most {max}")]
    TooManyRows {
        /// Rows of the task.
        rows: usize,
        /// The most that one batch holds.
        max: usize,
    },
    /// An element that should be an index is out of range.
    #[error("input `{input}` holds the index {got}, expected 0..{below}")]
    IndexOutOfRange {
        /// The name of the input.
        input: String,
        /// The first offending value.
        got: i64,
        /// Indices must be below this.
        below: u64,
    },
    /// The inputs could not be looked at, or not split into batches.
    #[error("inputs cannot be read: {0}")]
    Unreadable(Arc<DeviceError>),
    /// The task's time was up before it found room in the queue, or it was given no time at all.
    #[error("task's deadline passed before it could be queued")]
    DeadlinePassed,
    /// The queue is full.
    #[error("queue is full: {capacity} tasks are waiting")]
    Full {
        /// The most tasks that may wait.
        capacity: usize,
    },
    /// The runtime takes no more work.
    #[error("runtime is shut down")]
    ShutDown,
    /// The runtime takes no more work because its device is lost. Another runtime may take the pool over.
    #[error("{0}")]
    DeviceLost(#[source] DeviceLoss),
    /// Waiting for room on the thread that makes the room would never end.
    #[error("a thread of the runtime may not wait for room in a queue, use try_submit")]
    WouldDeadlock,
}

struct Commas<'a>(&'a [Dim]);

impl fmt::Display for Commas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, dim) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        Ok(())
    }
}

/// A refused task: why, and its inputs.
pub struct Refused<T> {
    /// Why the task was refused.
    pub error: SubmitError,
    /// The tensors, as they were given.
    pub inputs: Vec<T>,
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> StdError for Refused<T> {}

/// Lets a caller who does not want the inputs back write `?`, also where tensors are not `Sync`.
impl<T> From<Refused<T>> for SubmitError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}

/// What an accepted task is told in place of outputs. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The batch that the task was in failed.
    #[error("batch failed: {0}")]
    Failed(#[source] Arc<BatchError>),
    /// The task was cancelled before it ran.
    #[error("task was cancelled")]
    Cancelled,
    /// The task's deadline passed before it ran.
    #[error("task expired: it waited {waited:?} without being run")]
    Expired {
        /// How long it had waited.
        waited: Duration,
    },
    /// The runtime stopped before the task ran, or before its batch was through.
    #[error("runtime was shut down before the task was done")]
    ShutDown,
    /// The device was lost before the task was done.
    #[error("{0}")]
    DeviceLost(#[source] DeviceLoss),
    /// Waiting on the thread that is to do the work would never end.
    #[error("a thread of the runtime may not wait for a task")]
    WouldDeadlock,
}

impl TaskError {
    /// The failure of the batch, where that is the reason.
    pub fn batch_error(&self) -> Option<&BatchError> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// Why a batch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The block returned an error.
    #[error("block `{block}` failed: {source}")]
    Block {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
    /// Something panicked; the runtime went on.
    #[error("panic in {place}: {message}")]
    Panic {
        /// The block, or the device's operation.
        place: String,
        /// What the panic said.
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
    #[error("device failed to {operation}: {source}")]
    Device {
        /// `gather`, `scatter`, `check`, `join` or `synchronize`.
        operation: &'static str,
        /// The device's error.
        source: DeviceError,
    },
}

impl BatchError {
    /// Whether the device had no room for the batch: a smaller one may fit. Blocks tell by returning, or
    /// wrapping, a [`DeviceError::OutOfMemory`].
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.device_error(), Some(DeviceError::OutOfMemory { .. }))
    }

    /// Whether the device is lost.
    pub fn is_fatal(&self) -> bool {
        matches!(self.device_error(), Some(DeviceError::Fatal { .. }))
    }

    /// What the device said, where that is the reason.
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

/// What a device says when an operation fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device has no room; a smaller batch may still fit.
    #[error("out of memory on {device}: {message}")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// What it said.
        message: String,
    },
    /// The device is lost: nothing will run on it any more.
    #[error("{device} is lost: {message}")]
    Fatal {
        /// The device's name.
        device: String,
        /// What it said.
        message: String,
    },
    /// This one operation failed.
    #[error("{0}")]
    Operation(#[source] BoxError),
}

impl DeviceError {
    /// Wraps the error of one operation.
    pub fn operation(error: impl Into<BoxError>) -> Self {
        Self::Operation(error.into())
    }
}

/// Why a runtime takes no more work for its device. Cheap to clone.
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
    /// The device said that nothing will run on it any more ([`DeviceError::Fatal`]).
    #[error("device is lost: {0}")]
    Fatal(#[source] Arc<BatchError>),
}

/// Why a runtime cannot be built or started.
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
    #[error("{setting} is {got}, expected {expected}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What was given.
        got: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A block could not be loaded onto the device.
    #[error("block `{block}` cannot be loaded: {source}")]
    Load {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
    /// The schema of a block or of its outputs does not hold.
    #[error("block `{block}`: {source}")]
    Schema {
        /// The block's name.
        block: String,
        /// What is wrong.
        source: SchemaError,
    },
    /// The device could not be taken by its thread.
    #[error("device cannot be used: {0}")]
    Device(#[source] DeviceError),
    /// The operating system gave no thread.
    #[error("thread `{name}` cannot be started: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The runtime was shut down before it started.
    #[error("runtime was shut down before it started")]
    ShutDown,
    /// The runtime has started, and lost its device since.
    #[error("{0}")]
    DeviceLost(#[source] DeviceLoss),
    /// A pool is to be taken over from a runtime that still has its device.
    #[error("pool `{pool}` cannot be taken over: its runtime has not lost its device")]
    PoolInUse {
        /// The pool's name.
        pool: String,
    },
    /// A block is to take the place of one that takes or gives something else.
    #[error("block `{block}` cannot take over the pools of `{served}`: their {what} differ")]
    OtherSchema {
        /// The new block's name.
        block: String,
        /// The name of the block that is served.
        served: String,
        /// `inputs`, `outputs` or `passes`.
        what: &'static str,
    },
}

/// Why a shutdown did not end as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// The time was up. Every task still open was given [`TaskError::ShutDown`]; the batch on the device
    /// may still be running, and the device thread ends after it.
    #[error("shutdown passed its limit of {limit:?}: {unfinished} tasks were given up")]
    LimitPassed {
        /// The limit.
        limit: Duration,
        /// Tasks that got an error because of it.
        unfinished: usize,
    },
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

/// Why a block could not be worked with between two batches.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such block.
    #[error("no block is named `{name}`")]
    UnknownBlock {
        /// The name that was asked for.
        name: String,
    },
    /// The runtime stopped first.
    #[error("runtime is shut down")]
    ShutDown,
    /// The device was lost first.
    #[error("{0}")]
    DeviceLost(#[source] DeviceLoss),
    /// Waiting on the device thread for the device thread would never end.
    #[error("a thread of the runtime may not wait for a block")]
    WouldDeadlock,
    /// The work panicked.
    #[error("panic while working with block `{block}`: {message}")]
    Panic {
        /// The block's name.
        block: String,
        /// What the panic said.
        message: String,
    },
    /// The block could not give or take its state.
    #[error("block `{block}`: {source}")]
    Block {
        /// The block's name.
        block: String,
        /// Its error.
        source: BoxError,
    },
}
