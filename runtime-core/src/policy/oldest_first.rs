//! Strict order: the lowest priority value first, then the oldest task.

use crate::contract::id::PoolId;
use crate::contract::policy::{Facts, Policy};
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;

/// The strict order: the lowest priority value first and, within one priority, the task that was submitted first.
///
/// Urgent work that keeps the device full keeps everybody else waiting. Where that is not wanted, see
/// [`Aging`](crate::Aging) and [`Fair`](crate::Fair).
#[derive(Clone, Copy, Debug, Default)]
pub struct OldestFirst;

impl Policy for OldestFirst {
    fn name(&self) -> &'static str {
        "oldest first"
    }

    fn facts(&self) -> Facts {
        Facts { priority: true, ..Facts::NONE }
    }

    fn is_strict_order(&self) -> bool {
        true
    }

    #[inline]
    fn rank(&self, _: PoolId, task: &TaskHeader) -> Rank {
        Rank::at(task.priority, task.submitted)
    }
}
