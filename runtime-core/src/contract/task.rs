//! A task's header: the facts that travel with it from submit to answer.

use crate::contract::flow::Flow;
use crate::contract::priority::Priority;
use std::time::{Duration, Instant};

/// The facts of a task that travel with it, whole, from submit to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskHeader {
    /// Its rows.
    pub rows: usize,
    /// Its priority.
    pub priority: Priority,
    /// On whose account it runs.
    pub flow: Flow,
    /// The elements of each of its rows, if rows differ in size; else 1.
    pub elements: u32,
    /// When it was submitted.
    pub submitted: Instant,
    /// When it expires if it has not started to run.
    pub deadline: Option<Instant>,
    /// False for a part of a split task if an earlier part has gone before it.
    pub is_first: bool,
    /// False for a part of a split task if later parts follow.
    pub is_last: bool,
    /// True if it was cut before, by a runtime that has lost its device since.
    pub is_again: bool,
}

impl TaskHeader {
    /// Creates the header of a task of normal priority, on its pool's account, without a deadline.
    pub const fn new(rows: usize, submitted: Instant) -> Self {
        Self {
            rows,
            priority: Priority::NORMAL,
            flow: Flow::POOL,
            elements: 1,
            submitted,
            deadline: None,
            is_first: true,
            is_last: true,
            is_again: false,
        }
    }

    /// Sets the priority.
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the account on which it runs.
    pub const fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// Sets the elements of each of its rows.
    pub const fn elements(mut self, elements: u32) -> Self {
        self.elements = elements;
        self
    }

    /// Sets the time at which the task expires if it has not started to run.
    pub const fn deadline(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the elements of all its rows: by them, the tasks of a batch share its time.
    #[inline]
    pub fn all_elements(&self) -> u64 {
        (self.rows as u64).saturating_mul(u64::from(self.elements))
    }

    /// Returns true if the deadline has passed.
    #[inline]
    pub fn is_expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Returns the time since the task was submitted.
    pub fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.submitted)
    }
}
