//! Earliest deadline first.

use crate::contract::id::PoolId;
use crate::contract::policy::{Facts, Policy};
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use std::time::Duration;

/// The order of deadlines: the task whose deadline is next runs next.
///
/// A task without a deadline counts as one that is due a time after it was submitted, ten seconds unless
/// [`otherwise`](Self::otherwise) sets another: so it waits, but not for ever.
///
/// ```
/// use skep_runtime_core::EarliestDeadline;
/// use std::time::Duration;
///
/// let policy = EarliestDeadline::new().otherwise(Duration::from_secs(1));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EarliestDeadline {
    otherwise: Duration,
}

impl EarliestDeadline {
    /// Creates the order of deadlines.
    pub const fn new() -> Self {
        Self { otherwise: Duration::from_secs(10) }
    }

    /// Sets the time after which a task that has no deadline counts as due.
    pub const fn otherwise(mut self, after: Duration) -> Self {
        self.otherwise = after;
        self
    }
}

impl Default for EarliestDeadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for EarliestDeadline {
    fn name(&self) -> &'static str {
        "earliest deadline"
    }

    fn facts(&self) -> Facts {
        Facts { deadline: true, ..Facts::NONE }
    }

    fn rank(&self, _: PoolId, task: &TaskHeader) -> Rank {
        let due = task.deadline.or_else(|| task.submitted.checked_add(self.otherwise));
        due.map_or(Rank::new(Priority::NORMAL, i64::MAX), |due| Rank::at(Priority::NORMAL, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    proptest! {
        #[test]
        fn the_earlier_deadline_has_the_lower_rank(
            tasks in prop::collection::vec((0u64..1000, prop::option::of(0u64..1000)), 2), otherwise in 0u64..1000,
        ) {
            let base = Instant::now();
            let at = |millis| base + Duration::from_millis(millis);
            let policy = EarliestDeadline::new().otherwise(Duration::from_millis(otherwise));
            let tasks: Vec<_> = tasks
                .into_iter()
                .map(|(submitted, deadline)| {
                    let header = TaskHeader::new(1, at(submitted)).deadline(deadline.map(at));
                    (deadline.unwrap_or(submitted + otherwise), policy.rank(PoolId::new(0), &header))
                })
                .collect();
            prop_assert_eq!(tasks[0].0.cmp(&tasks[1].0), tasks[0].1.cmp(&tasks[1].1));
        }
    }

    #[test]
    fn a_task_that_is_never_due_runs_last() {
        let policy = EarliestDeadline::new().otherwise(Duration::MAX);
        let never = policy.rank(PoolId::new(0), &TaskHeader::new(1, Instant::now()));
        assert_eq!(never.key(), i64::MAX);
    }
}
