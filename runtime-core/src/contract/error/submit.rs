//! Errors for the caller who submits.

use crate::contract::dims::Dim;
use crate::contract::error::device::DeviceError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::request::Request;
use crate::contract::tensor::DType;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The reason why a schema cannot be made.
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

/// The reason why a task was refused. It comes inside [`Refused`], which gives the request back.
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
    #[error("inputs cannot be read")]
    Unreadable(#[source] Arc<DeviceError>),
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
    #[error(transparent)]
    DeviceLost(DeviceLoss),
    /// A thread of the runtime, which makes the room, would wait for room without end.
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

/// A refused task: the reason, and the whole request as it was handed in.
pub struct Refused<T> {
    /// The reason why the task was refused.
    pub error: SubmitError,
    /// The request: tensors with their names if it named them, priority and deadline. Boxed, because this is handed
    /// from call to call; it can be handed in again as it is.
    pub request: Box<Request<T>>,
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

impl<T> StdError for Refused<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// Lets a caller who does not want the request back write `?`, also if tensors are not `Sync`.
impl<T> From<Refused<T>> for SubmitError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}
