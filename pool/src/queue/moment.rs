//! The moment: what a look or a cut depends on beside the queue.

use super::group::Pace;
use crate::options::PoolOptions;
use skep_runtime_core::TaskHeader;
use skep_runtime_core::pool::{Doorbell, Rank};
use std::time::Instant;

/// What a cut depends on beside the queue.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Instant,
    pub(crate) options: &'a PoolOptions,
    /// The most rows that the device has room for.
    pub(crate) most_rows: usize,
    /// No company can come, because the pool is closed or full.
    pub(crate) at_once: bool,
    /// The bell of the runtime, once there is one.
    pub(crate) bell: Option<&'a Doorbell>,
    /// The same if the ranks of waiting tasks rise.
    pub(crate) rising: Option<&'a Doorbell>,
}

impl Moment<'_> {
    /// The rank of a task. Before there is a runtime, that of the default policy.
    #[inline]
    pub(crate) fn rank(&self, task: &TaskHeader) -> Rank {
        self.bell.map_or_else(|| Rank::at(task.priority, task.submitted), |bell| bell.rank(task))
    }

    #[inline]
    pub(super) fn pace(&self) -> Pace {
        Pace {
            min_rows: self.options.min_rows.min(self.most_rows),
            at_once: self.at_once,
            max_rows: self.options.max_rows,
        }
    }
}
