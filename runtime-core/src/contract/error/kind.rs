//! Kinds of errors, for those who pass them on.

use std::fmt;

/// The kind of an error: coarse, and stable where new errors come, so that a front end can make a status code of it.
///
/// ```
/// use skep_runtime_core::{ErrorKind, SubmitError};
///
/// fn status(error: &SubmitError) -> u16 {
///     match error.kind() {
///         kind if kind.is_callers_fault() => 400,
///         kind if kind.is_overload() => 503,
///         ErrorKind::DeadlineExceeded => 504,
///         _ => 500,
///     }
/// }
/// assert_eq!(status(&SubmitError::NoRows), 400);
/// assert_eq!(SubmitError::NoRows.kind().to_string(), "invalid_input");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong: it would be refused again.
    InvalidInput,
    /// There is no room at the moment: the request is right, and may be taken later.
    Overloaded,
    /// The time that the request had is up.
    DeadlineExceeded,
    /// The caller gave the task up.
    Cancelled,
    /// Nobody by this name.
    NotFound,
    /// The runtime, or its device, takes no more work, or not yet.
    Unavailable,
    /// The block, or the device, failed at the task.
    Failed,
    /// The call was made where it may not be made: a mistake in the program.
    Misuse,
}

impl ErrorKind {
    /// Returns the kind as a word that does not change: `invalid_input`, `overloaded`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Overloaded => "overloaded",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Misuse => "misuse",
        }
    }

    /// Returns true if there was no room: the same request may be taken later.
    pub const fn is_overload(self) -> bool {
        matches!(self, Self::Overloaded)
    }

    /// Returns true if the request is wrong, so that handing it in again is in vain.
    pub const fn is_callers_fault(self) -> bool {
        matches!(self, Self::InvalidInput | Self::NotFound)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
