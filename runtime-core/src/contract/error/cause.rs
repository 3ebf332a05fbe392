//! Causes of errors.

use std::error::Error as StdError;
use std::fmt;

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Displays an error and its causes, each once, separated by `: `.
///
/// An error's own text does not repeat its causes, which [`source`](StdError::source) gives; for a log or a terminal
/// write
///
/// ```
/// use skep_runtime_core::{Chain, DeviceError, SubmitError};
/// use std::sync::Arc;
///
/// let error = SubmitError::Unreadable(Arc::new(DeviceError::operation("not contiguous")));
/// assert_eq!(error.to_string(), "inputs cannot be read");
/// assert_eq!(Chain(&error).to_string(), "inputs cannot be read: not contiguous");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn StdError + 'static));

impl Chain<'_> {
    /// An error that is, by whatever mistake, its own cause ends here.
    pub(crate) const MOST: usize = 32;
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let causes = std::iter::successors(self.0.source(), |&cause| StdError::source(cause));
        causes.take(Self::MOST).try_for_each(|cause| write!(f, ": {cause}"))
    }
}
