//! Strict classes outside of any other order.

use crate::contract::id::PoolId;
use crate::contract::policy::{Facts, Policy, Ran};
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Strict classes by priority, and within each class another order.
///
/// Each class has a policy of its own, so that what a flow is served in one class does not count in another.
///
/// ```
/// use skep_runtime_core::{Classes, Fair, Flow, RuntimeBuilder, testing::FakeDevice};
/// use std::sync::Arc;
///
/// let fair = Fair::new().weight(Flow(1), 3.0);
/// let builder = RuntimeBuilder::new(FakeDevice::new()).policy(Arc::new(Classes::of(fair)));
/// # let _ = builder;
/// ```
pub struct Classes<P> {
    inside: P,
    /// Where ranks depend on what has run, for each class what has run in it.
    classes: Mutex<BTreeMap<Priority, Arc<P>>>,
}

impl<P: fmt::Debug> fmt::Debug for Classes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classes").field("inside", &self.inside).finish_non_exhaustive()
    }
}

impl<P: Policy + Clone> Classes<P> {
    /// Creates strict classes, in each of which tasks run by a copy of `inside`.
    pub fn of(inside: P) -> Self {
        Self { inside, classes: Mutex::new(BTreeMap::new()) }
    }

    fn class(&self, priority: Priority) -> Arc<P> {
        let mut classes = self.classes.lock();
        Arc::clone(classes.entry(priority).or_insert_with(|| Arc::new(self.inside.clone())))
    }
}

impl<P: Policy + Clone> Policy for Classes<P> {
    fn name(&self) -> &'static str {
        self.inside.name()
    }

    fn facts(&self) -> Facts {
        Facts { priority: true, ..self.inside.facts() }
    }

    fn rank(&self, pool: PoolId, task: &TaskHeader) -> Rank {
        let rank = if self.listens() {
            self.class(task.priority).rank(pool, task)
        } else {
            self.inside.rank(pool, task)
        };
        rank.within(task.priority)
    }

    fn listens(&self) -> bool {
        self.inside.listens()
    }

    fn may_fall(&self, pool: PoolId, task: &TaskHeader) -> bool {
        self.listens() && self.class(task.priority).may_fall(pool, task)
    }

    fn took(&self, pool: PoolId, task: &TaskHeader, expected: Duration, first: bool) {
        self.class(task.priority).took(pool, task, expected, first);
    }

    fn ran(&self, ran: &Ran<'_>) {
        let Some(first) = ran.tasks.first() else { return };
        if ran.tasks.iter().all(|task| task.priority == first.priority) {
            return self.class(first.priority).ran(ran);
        }
        let all: u64 = ran.tasks.iter().map(TaskHeader::all_elements).sum();
        let mut by_class: BTreeMap<Priority, Vec<TaskHeader>> = BTreeMap::new();
        for task in ran.tasks {
            by_class.entry(task.priority).or_default().push(*task);
        }
        for (priority, tasks) in by_class {
            let of_them: u64 = tasks.iter().map(TaskHeader::all_elements).sum();
            let device = ran.device.mul_f64(of_them as f64 / all.max(1) as f64);
            self.class(priority).ran(&Ran { tasks: &tasks, device, ..*ran });
        }
    }

    fn idle(&self) {
        self.classes.lock().values().for_each(|class| class.idle());
    }

    fn hold(&self, rank: Rank, expected: Duration, now: Instant) -> Option<Instant> {
        // Strict classes wait for nobody who is not there; within one class the order inside decides.
        let class = self.classes.lock().get(&rank.class()).cloned()?;
        class.hold(rank, expected, now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fair::Fair;
    use super::*;
    use crate::contract::flow::Flow;
    use crate::policy::aging::Aging;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_are_strict_whatever_is_inside(priorities in (-5i32..5, -5i32..5), later in 0u64..1_000_000) {
            let (base, pool) = (Instant::now(), PoolId::new(0));
            let classes = Classes::of(Aging::new(Duration::from_secs(9)));
            let rank = |priority, after| {
                let task = TaskHeader::new(1, base + Duration::from_micros(after)).priority(Priority(priority));
                classes.rank(pool, &task)
            };
            let (first, second) = (rank(priorities.0, 0), rank(priorities.1, later));
            prop_assert_eq!(first.cmp(&second), (priorities.0, 0).cmp(&(priorities.1, later)));
        }
    }

    #[test]
    fn what_is_served_in_one_class_does_not_count_in_another() {
        let (now, pool, classes) = (Instant::now(), PoolId::new(0), Classes::of(Fair::new()));
        let task = |priority, flow| TaskHeader::new(1, now).priority(priority).flow(Flow(flow));
        let urgent = task(Priority::URGENT, 1);
        classes.took(pool, &urgent, Duration::from_secs(1), true);
        assert!(classes.rank(pool, &urgent) > classes.rank(pool, &task(Priority::URGENT, 2)));
        let (one, two) = (task(Priority::NORMAL, 1), task(Priority::NORMAL, 2));
        assert_eq!(classes.rank(pool, &one), classes.rank(pool, &two));
        let tasks = [urgent, one];
        classes.ran(&Ran::new(pool, &tasks, Duration::ZERO, Duration::from_secs(2), now));
        assert!(classes.rank(pool, &one) > classes.rank(pool, &two));
    }
}
