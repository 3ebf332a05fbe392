//! Strict order: the lowest priority value first, then the oldest task.

use crate::contract::pool::Outlook;
use crate::policy::rank::Rank;

/// The strict order: the lowest priority value first and, within one priority, the task that was submitted first.
#[derive(Clone, Copy, Debug, Default)]
pub struct OldestFirst;

impl OldestFirst {
    /// Returns the rank of a batch of this outlook.
    #[inline]
    pub fn rank(self, outlook: &Outlook) -> Rank {
        Rank::new(outlook.priority, outlook.since)
    }
}
