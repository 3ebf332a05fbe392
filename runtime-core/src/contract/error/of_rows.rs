//! The error of a block that knows whose fault it was.

use crate::contract::error::cause::{BoxError, Chain};
use crate::contract::error::device::DeviceError;
use std::error::Error as StdError;
use std::fmt;

/// The error of a block that knows which rows of its batch are the cause, and that **is as it was before the call**. A block
/// returns it, or wraps it.
///
/// The tasks of these rows get the error, as [`BatchError::Culprit`](crate::BatchError::Culprit); the others run again
/// without them, also in a backward pass, unless their pool's [`FailureRules`](crate::FailureRules) forbid it.
#[derive(Debug)]
pub struct OfRows {
    rows: Vec<usize>,
    error: BoxError,
}

impl OfRows {
    /// Creates the error of these rows, counted from 0.
    pub fn new(rows: Vec<usize>, error: impl Into<BoxError>) -> Self {
        Self { rows, error: error.into() }
    }

    /// Returns the rows.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Returns the error itself.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.error
    }

    /// Finds it in the causes of an error.
    pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        // An error that is, by whatever mistake, its own cause ends here.
        for _ in 0..Chain::MOST {
            let error = next?;
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<DeviceError>() {
                // It shows as what it wraps, and so hides that from `source`.
                Some(DeviceError::Operation(inner)) => Some(&**inner),
                _ => error.source(),
            };
        }
        None
    }
}

/// The error itself: the rows are those of a batch, which callers do not know.
impl fmt::Display for OfRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl StdError for OfRows {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] BoxError);

    #[test]
    fn it_is_found_wherever_it_is_wrapped() {
        let error = || OfRows::new(vec![2, 5], "too large");
        assert_eq!(Chain(&error()).to_string(), "too large");
        assert_eq!(OfRows::find(&error()).map(OfRows::rows), Some(&[2, 5][..]));
        assert!(OfRows::find(&Wrapped(Box::new(error()))).is_some());
        assert!(OfRows::find(&DeviceError::operation(error())).is_some());
        assert!(OfRows::find(&Wrapped("other".into())).is_none());
    }
}
