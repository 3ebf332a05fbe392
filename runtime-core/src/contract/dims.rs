//! Dims: of a tensor, and as a schema allows them.

use smallvec::SmallVec;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The dims of a tensor, outermost first. Reads as a slice; up to four are kept without an allocation.
///
/// ```
/// use skep_runtime_core::Dims;
///
/// let dims = Dims::from([2, 17]);
/// assert_eq!(dims.first(), Some(&2));
/// assert_eq!(dims, [2, 17]);
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dims(SmallVec<[usize; 4]>);

impl Dims {
    /// Creates the dims of a scalar: none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies dims from a slice.
    #[inline]
    pub fn from_slice(dims: &[usize]) -> Self {
        Self(SmallVec::from_slice(dims))
    }
}

impl Deref for Dims {
    type Target = [usize];

    #[inline]
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl DerefMut for Dims {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.0
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&[usize]> for Dims {
    fn from(dims: &[usize]) -> Self {
        Self::from_slice(dims)
    }
}

impl<const N: usize> From<[usize; N]> for Dims {
    fn from(dims: [usize; N]) -> Self {
        Self::from_slice(&dims)
    }
}

impl From<Vec<usize>> for Dims {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims.into())
    }
}

impl FromIterator<usize> for Dims {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl Extend<usize> for Dims {
    #[inline]
    fn extend<I: IntoIterator<Item = usize>>(&mut self, dims: I) {
        self.0.extend(dims);
    }
}

impl<'a> IntoIterator for &'a Dims {
    type Item = &'a usize;
    type IntoIter = std::slice::Iter<'a, usize>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<const N: usize> PartialEq<[usize; N]> for Dims {
    fn eq(&self, other: &[usize; N]) -> bool {
        self[..] == other[..]
    }
}

/// One dim of a tensor in a [`Schema`](crate::Schema).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The rows of the task. Dim 0 of every tensor, and no other.
    Batch,
    /// Always this size.
    Fixed(usize),
    /// Differs from task to task (a text's length), up to `max`. Free dims of one name have one size in all of a task's
    /// tensors. Tasks run in one batch only with tasks whose free dims are equal, unless their pool pads them
    /// ([`Padding`](crate::Padding)).
    Free {
        /// The name: `tokens`.
        name: Arc<str>,
        /// The largest size allowed.
        max: usize,
    },
}

impl Dim {
    /// Creates a dim that differs from task to task.
    pub fn free(name: impl Into<Arc<str>>, max: usize) -> Self {
        Self::Free { name: name.into(), max }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Free { name, max } => write!(f, "{name} 1..={max}"),
        }
    }
}
