//! The priority of a task.

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
    /// The priority of a task if neither it nor its pool names another.
    pub const NORMAL: Self = Self(0);
    /// Is chosen only when no task of the other named priorities waits. A batch of it that runs is not interrupted.
    pub const BACKGROUND: Self = Self(100);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}
