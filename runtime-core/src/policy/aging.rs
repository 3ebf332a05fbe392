//! Aging: waiting makes urgent.

use crate::contract::id::PoolId;
use crate::contract::policy::{Facts, Policy};
use crate::contract::priority::Priority;
use crate::contract::rank::{Rank, nanos, whole};
use crate::contract::task::TaskHeader;
use std::time::Duration;

/// The order in which a level of priority is worth so much waiting: a task ranks by the time at which it was submitted
/// plus its priority's value times the step.
///
/// A task of priority `q` is overtaken by no task of priority `p < q` that was submitted more than `(q - p) × step`
/// after it, so its wait has a bound whatever else arrives. Nothing is filed anew while tasks wait: two ranks keep
/// their order.
///
/// ```
/// use skep_runtime_core::{Aging, Priority};
/// use std::time::Duration;
///
/// // BACKGROUND is 100 levels behind NORMAL: it waits a second longer at most.
/// let aging = Aging::new(Duration::from_millis(10));
/// assert_eq!(aging.handicap(Priority::BACKGROUND, Priority::NORMAL), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Aging {
    step: Duration,
}

impl Aging {
    /// Creates the order in which one level of priority is worth waiting for `step`.
    pub const fn new(step: Duration) -> Self {
        Self { step }
    }

    /// Returns how much later a task of the priority `than` may be submitted and still run before one of `priority`.
    pub fn handicap(&self, priority: Priority, than: Priority) -> Duration {
        let levels = i64::from(priority.0) - i64::from(than.0);
        self.step.saturating_mul(u32::try_from(levels.max(0)).unwrap_or(u32::MAX))
    }
}

impl Policy for Aging {
    fn name(&self) -> &'static str {
        "aging"
    }

    fn facts(&self) -> Facts {
        Facts { priority: true, ..Facts::NONE }
    }

    fn rank(&self, _: PoolId, task: &TaskHeader) -> Rank {
        let levels = i64::from(task.priority.0).saturating_mul(whole(self.step));
        Rank::new(Priority::NORMAL, nanos(task.submitted).saturating_add(levels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Instant;

    proptest! {
        #[test]
        fn nobody_is_overtaken_by_what_came_later_than_the_handicap(
            step in 0u64..10_000_000, priorities in (-200i32..200, -200i32..200), later in 0u64..4_000_000_000,
        ) {
            let (base, pool) = (Instant::now(), PoolId::new(0));
            let aging = Aging::new(Duration::from_nanos(step));
            let first = TaskHeader::new(1, base).priority(Priority(priorities.0));
            let later = Duration::from_nanos(later);
            let second = TaskHeader::new(1, base + later).priority(Priority(priorities.1));
            let overtakes = aging.rank(pool, &second) < aging.rank(pool, &first);
            prop_assert_eq!(overtakes, later < aging.handicap(first.priority, second.priority));
        }

        #[test]
        fn any_priority_and_step_has_a_rank(priority: i32, step: u64) {
            let task = TaskHeader::new(1, Instant::now()).priority(Priority(priority));
            Aging::new(Duration::from_secs(step)).rank(PoolId::new(0), &task);
        }
    }
}
