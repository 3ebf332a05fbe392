//! How urgent a task is.

use std::time::Instant;

/// The priority of a task: the **lower** the value, the more urgent.
///
/// Within one priority, tasks run in the order in which they were submitted.
///
/// ```
/// use skep_runtime_core::Priority;
/// assert!(Priority::URGENT < Priority::NORMAL);
/// assert!(Priority::NORMAL < Priority::BACKGROUND);
/// assert!(Priority(-1) < Priority::NORMAL);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub i32);

impl Priority {
    /// Runs before everything of the other named priorities.
    pub const URGENT: Self = Self(-100);
    /// What a task gets unless it, or its pool, says otherwise.
    pub const NORMAL: Self = Self(0);
    /// Runs when nothing else wants the device.
    pub const BACKGROUND: Self = Self(100);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

/// What pools are compared by: the priority of a pool's most urgent task, then the time at which that
/// task was submitted. The smallest value runs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urgency {
    /// The priority of the most urgent waiting task.
    pub priority: Priority,
    /// When that task was submitted.
    pub since: Instant,
}
