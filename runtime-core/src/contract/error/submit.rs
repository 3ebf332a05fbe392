//! Errors for the caller who submits.

use crate::contract::dims::Dim;
use crate::contract::error::device::DeviceError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::error::kind::ErrorKind;
use crate::contract::request::Request;
use crate::contract::tensor::DType;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// Tasks cannot be laid end to end.
    #[error("ragged schema has {got}, expected {expected}")]
    Ragged {
        /// What is in the way.
        got: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// The reason why a task was refused. It comes inside [`Refused`], which gives the request back.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Too few or too many tensors.
    #[error("task has {got} tensors, expected {}: {}", expected.len(), expected.join(", "))]
    WrongArity {
        /// The names of the tensors that the block takes, in its order.
        expected: Vec<String>,
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
    /// An element of a tensor is infinite or not a number.
    #[error("input `{input}` has an element that is infinite or not a number, expected finite ones")]
    NotFinite {
        /// The name of the input.
        input: String,
    },
    /// A free dim has another size than where its name came before.
    #[error("input `{input}` has {got} for the dim `{dim}`, expected {expected} as before")]
    FreeDimsDiffer {
        /// The name of the input.
        input: String,
        /// The name of the dim.
        dim: String,
        /// The size where the name came first.
        expected: usize,
        /// The size that was given.
        got: usize,
    },
    /// More elements must run together than a batch may have: those of one row, or of the task if it is not split.
    #[error("task has {got} elements that run together, padding included, expected at most {max}")]
    TooManyElements {
        /// The product of the free dims, padded, and of the rows if the task is not split.
        got: usize,
        /// The most of a batch.
        max: usize,
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
    /// The task would not fit into one batch, and the pool does not split it; or it would never fit into the queue.
    #[error("task has {rows} rows, expected at most {max}")]
    TooManyRows {
        /// Rows of the task.
        rows: usize,
        /// The most that a task may have.
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
    /// The pool answers in time or not at all, and the task takes longer than it has.
    #[error("task takes {takes:?} and would be answered too late: {left:?} are left until its deadline")]
    TooLate {
        /// The time that a batch of the task alone takes on the device.
        takes: Duration,
        /// The time until the task's deadline.
        left: Duration,
    },
    /// The queue has no room for the task: as many tasks, or rows, wait as may.
    #[error(
        "queue is full: {tasks} tasks of at most {capacity} and {rows} rows of at most {capacity_rows} wait{}",
        Takes(*wait)
    )]
    Full {
        /// Tasks that wait.
        tasks: usize,
        /// The most tasks that may wait if they are no more urgent than this one.
        capacity: usize,
        /// Rows that wait.
        rows: usize,
        /// The most rows that may wait, likewise.
        capacity_rows: usize,
        /// The device time that all that wait in this queue will take, as far as batches so far tell; `None` if they
        /// do not.
        wait: Option<Duration>,
    },
    /// The runtime takes no more work.
    #[error("runtime is shut down")]
    ShutDown,
    /// The runtime takes no more work because its device is lost. Another runtime may take the pool over.
    #[error(transparent)]
    DeviceLost(DeviceLoss),
    /// The pool's block was taken out of its runtime ([`Handle::remove`](crate::Handle::remove)).
    #[error("block was removed from its runtime")]
    Removed,
    /// A thread of the runtime, which makes the room, would wait for room without end.
    #[error("a thread of the runtime may not wait for room in a queue, use try_submit")]
    WouldDeadlock,
}

impl SubmitError {
    /// Returns the kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongArity { .. }
            | Self::UnknownInput { .. }
            | Self::NotOnce { .. }
            | Self::WrongDType { .. }
            | Self::WrongDims { .. }
            | Self::NotFinite { .. }
            | Self::RowsDiffer { .. }
            | Self::FreeDimsDiffer { .. }
            | Self::TooManyElements { .. }
            | Self::NoRows
            | Self::TooManyRows { .. }
            | Self::IndexOutOfRange { .. }
            | Self::Unreadable(_) => ErrorKind::InvalidInput,
            Self::DeadlinePassed | Self::TooLate { .. } => ErrorKind::DeadlineExceeded,
            Self::Full { .. } => ErrorKind::Overloaded,
            Self::ShutDown | Self::DeviceLost(_) => ErrorKind::Unavailable,
            Self::Removed => ErrorKind::NotFound,
            Self::WouldDeadlock => ErrorKind::Misuse,
        }
    }

    /// Returns true if there was no room: the same task may be taken later.
    pub const fn is_overload(&self) -> bool {
        self.kind().is_overload()
    }

    /// Returns true if the task is wrong, so that handing it in again is in vain.
    pub const fn is_callers_fault(&self) -> bool {
        self.kind().is_callers_fault()
    }
}

struct Takes(Option<Duration>);

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |wait| write!(f, ", and take about {wait:?} on the device"))
    }
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
///
/// An application that does not want the request back, and collects errors in a type of its own, writes
/// `pool.submit(task).map_err(Refused::into_error)?`.
pub struct Refused<T> {
    /// The reason why the task was refused.
    pub error: SubmitError,
    /// Only to be taken out or borrowed alone: so errors can be shared between threads, whatever their tensors can. Boxed,
    /// because this is handed from call to call.
    request: Mutex<Box<Request<T>>>,
}

impl<T> Refused<T> {
    /// Creates the refusal of a request.
    pub fn new(error: SubmitError, request: Request<T>) -> Self {
        Self { error, request: Mutex::new(Box::new(request)) }
    }

    /// Returns the request as it was handed in: tensors with their names if it named them, priority and deadline. It
    /// can be handed in again as it is.
    pub fn into_request(self) -> Request<T> {
        self.into_parts().1
    }

    /// Returns the reason alone.
    pub fn into_error(self) -> SubmitError {
        self.error
    }

    /// Returns the reason and the request.
    pub fn into_parts(self) -> (SubmitError, Request<T>) {
        (self.error, *self.request.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
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

/// Lets a caller who does not want the request back write `?`.
impl<T> From<Refused<T>> for SubmitError {
    fn from(refused: Refused<T>) -> Self {
        refused.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::error::cause::BoxError;
    use std::cell::Cell;

    /// Tensors of some libraries may be sent, and not shared.
    #[derive(Debug)]
    struct Unshared(Cell<f32>);

    #[test]
    fn any_refusal_fits_into_a_boxed_error() {
        fn application() -> Result<(), BoxError> {
            Err(Refused::new(SubmitError::NoRows, Request::new(vec![Unshared(Cell::new(1.0))])))?;
            Ok(())
        }
        assert_eq!(application().unwrap_err().to_string(), "task has 0 rows, expected at least 1");
    }

    #[test]
    fn the_request_comes_back() {
        let refused = Refused::new(SubmitError::NoRows, Request::new(vec![Unshared(Cell::new(1.0))]));
        let (error, request) = refused.into_parts();
        assert!(error.is_callers_fault() && !error.is_overload());
        assert_eq!(request.inputs.into_tensors()[0].0.get().to_bits(), 1.0_f32.to_bits());
    }

    #[test]
    fn a_full_queue_says_how_long_it_takes() {
        let full = |wait| SubmitError::Full { tasks: 4, capacity: 4, rows: 9, capacity_rows: 16, wait };
        let text = "queue is full: 4 tasks of at most 4 and 9 rows of at most 16 wait";
        assert_eq!(full(None).to_string(), text);
        let wait = Some(Duration::from_millis(340));
        assert_eq!(full(wait).to_string(), format!("{text}, and take about 340ms on the device"));
    }

    #[test]
    fn arity_is_told_by_names() {
        let error = SubmitError::WrongArity { expected: vec!["ids".into(), "mask".into()], got: 1 };
        assert_eq!(error.to_string(), "task has 1 tensors, expected 2: ids, mask");
    }
}
