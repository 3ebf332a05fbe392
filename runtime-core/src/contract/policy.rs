//! Policies: what runs next.
//!
//! One policy per runtime ranks the tasks, wherever they wait: the pools of a runtime are chosen among by the ranks of
//! their most urgent tasks, and each pool takes its tasks in the order of their ranks.

use crate::contract::flow::Flow;
use crate::contract::id::PoolId;
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use std::time::{Duration, Instant};

/// The order of work: a rank for each task.
///
/// A policy never waits: it is called while the choice of the next batch, or a pool, is locked. These promises make
/// choosing cheap:
///
/// - Of two tasks of one pool that agree in the policy's [`facts`](Self::facts), the one that was submitted first never
///   has the higher rank.
/// - The rank of a task that waits may rise, because others go first. It falls only when a batch of its pool is over that
///   took less time than was expected, and only where [`may_fall`](Self::may_fall) said so before.
///
/// ```
/// use skep_runtime_core::{PoolId, Priority, TaskHeader, pool::{Facts, Policy, Rank}};
/// use std::time::Duration;
///
/// /// Small tasks first, but nobody waits for them more than a second longer.
/// struct SmallFirst;
///
/// impl Policy for SmallFirst {
///     fn name(&self) -> &'static str {
///         "small first"
///     }
///     fn facts(&self) -> Facts {
///         Facts { rows: true, ..Facts::NONE }
///     }
///     fn rank(&self, _: PoolId, task: &TaskHeader) -> Rank {
///         let handicap = Duration::from_millis(10 * task.rows.min(100) as u64);
///         Rank::at(Priority::NORMAL, task.submitted + handicap)
///     }
/// }
/// ```
pub trait Policy: Send + Sync + 'static {
    /// Returns the policy's name, for people.
    fn name(&self) -> &'static str;

    /// Returns the facts of a task, besides its pool and the time at which it was submitted, that its rank depends on.
    fn facts(&self) -> Facts;

    /// Returns the rank of a task that waits in this pool.
    fn rank(&self, pool: PoolId, task: &TaskHeader) -> Rank;

    /// Returns true if the rank of every task is [`Rank::at`] its priority and the time at which it was submitted: the
    /// order in which tasks wait before the start, so that they keep their places then. Always the same.
    fn is_strict_order(&self) -> bool {
        false
    }

    /// Returns true if the ranks of waiting tasks rise: then the policy hears of each task that leaves its pool
    /// ([`took`](Self::took)) and of each batch ([`ran`](Self::ran)). Always the same.
    fn listens(&self) -> bool {
        false
    }

    /// Returns true if the rank of a task that waits rests on what is expected of batches on their way, so that it falls if
    /// these take less.
    fn may_fall(&self, pool: PoolId, task: &TaskHeader) -> bool {
        let _ = (pool, task);
        false
    }

    /// Hears that a task leaves its pool for a batch. `expected` is the device time that it is expected to take, zero if
    /// nothing is known. `first` is true of the task for whose rank the pool was chosen.
    fn took(&self, pool: PoolId, task: &TaskHeader, expected: Duration, first: bool) {
        let _ = (pool, task, expected, first);
    }

    /// Hears that a batch is over on the device, or that tasks that were taken do not run after all. Of every task that it
    /// heard [leave](Self::took) it hears once that is not [`again`](Ran::again), as long as the runtime runs.
    fn ran(&self, ran: &Ran<'_>) {
        let _ = ran;
    }

    /// Hears that nothing waits and nothing runs.
    fn idle(&self) {}

    /// Returns the time until which it is better to wait for tasks that are likely to come and would rank before `rank`,
    /// the best that there is, than to run a batch of `expected` device time. `None` if there are none.
    fn hold(&self, rank: Rank, expected: Duration, now: Instant) -> Option<Instant> {
        let _ = (rank, expected, now);
        None
    }
}

/// A batch that is over on the device.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ran<'a> {
    /// The pool that the batch was cut from.
    pub pool: PoolId,
    /// The headers of its tasks.
    pub tasks: &'a [TaskHeader],
    /// The device time that [`Policy::took`] heard of for each row of so many [`elements`](Self::elements).
    pub expected_per_row: Duration,
    /// The elements of such a row; `None` if rows do not differ.
    pub elements: Option<usize>,
    /// The time that the batch took on the device.
    pub device: Duration,
    /// When it was over.
    pub ended: Instant,
    /// True of a batch of whose tasks it was told before: one that failed runs again in halves, for example.
    pub again: bool,
}

impl<'a> Ran<'a> {
    /// Creates the news of a batch.
    pub const fn new(
        pool: PoolId,
        tasks: &'a [TaskHeader],
        expected_per_row: Duration,
        device: Duration,
        ended: Instant,
    ) -> Self {
        Self { pool, tasks, expected_per_row, elements: None, device, ended, again: false }
    }

    /// Sets the elements of a row of which `expected_per_row` is.
    pub const fn elements(mut self, elements: usize) -> Self {
        self.elements = Some(elements);
        self
    }

    /// Says if it was told of these tasks before.
    pub const fn again(mut self, yes: bool) -> Self {
        self.again = yes;
        self
    }

    /// Returns each task with its share of the time that was expected and of the time that was taken, by its elements.
    pub fn shares(&self) -> impl Iterator<Item = (&'a TaskHeader, Duration, Duration)> {
        let all: u64 = self.tasks.iter().map(TaskHeader::all_elements).sum();
        let per_element = self.device.as_secs_f64() / all.max(1) as f64;
        let (expected, elements) = (self.expected_per_row, self.elements);
        self.tasks.iter().map(move |task| {
            let device = per_element * task.all_elements() as f64;
            (
                task,
                times(expected, elements, task),
                Duration::try_from_secs_f64(device).unwrap_or(Duration::MAX),
            )
        })
    }
}

/// The time of a task, where a row of so many elements takes so long; `None` if rows do not differ.
pub(crate) fn times(per_row: Duration, elements: Option<usize>, task: &TaskHeader) -> Duration {
    match elements {
        Some(elements) if elements != task.elements as usize => {
            let rows = task.all_elements() as f64 / elements.max(1) as f64;
            Duration::try_from_secs_f64(per_row.as_secs_f64() * rows).unwrap_or(Duration::MAX)
        }
        _ => per_row.saturating_mul(u32::try_from(task.rows).unwrap_or(u32::MAX)),
    }
}

/// The facts of a task that its rank depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each of them stands for itself")]
pub struct Facts {
    /// The priority.
    pub priority: bool,
    /// The flow.
    pub flow: bool,
    /// The deadline.
    pub deadline: bool,
    /// The number of rows.
    pub rows: bool,
}

impl Facts {
    /// Nothing but the time at which the task was submitted.
    pub const NONE: Self = Self { priority: false, flow: false, deadline: false, rows: false };

    /// Returns the lane of a task: tasks of one lane run in the order in which they were submitted.
    #[inline]
    pub fn lane(&self, task: &TaskHeader) -> Lane {
        Lane {
            priority: if self.priority { task.priority } else { Priority::NORMAL },
            flow: if self.flow { task.flow } else { Flow::POOL },
            rows: if self.rows { task.rows } else { 0 },
            deadline: if self.deadline { task.deadline } else { None },
        }
    }
}

/// Tells tasks apart that a policy may rank differently. The order of lanes means nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    priority: Priority,
    flow: Flow,
    rows: usize,
    deadline: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_a_batch_share_its_time_by_their_elements() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let tasks =
            [(1, 10), (2, 20), (1, 50)].map(|(rows, elements)| TaskHeader::new(rows, now).elements(elements));
        let ran = Ran::new(PoolId::new(0), &tasks, ms(25), ms(200), now).elements(25);
        let shares: Vec<_> = ran.shares().map(|(_, expected, device)| (expected, device)).collect();
        assert_eq!(shares, [(ms(10), ms(20)), (ms(40), ms(80)), (ms(50), ms(100))]);
        let alike = tasks.map(|task| task.elements(7));
        let ran = Ran::new(PoolId::new(0), &alike, ms(25), ms(200), now).elements(7);
        let shares: Vec<_> = ran.shares().map(|(_, expected, device)| (expected, device)).collect();
        assert_eq!(
            shares,
            [(ms(25), ms(50)), (ms(50), ms(100)), (ms(25), ms(50))],
            "by rows where they are alike"
        );
    }
}
