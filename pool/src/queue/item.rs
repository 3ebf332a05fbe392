//! The items of a queue: tasks, or parts of tasks, as the queue sees them.

use skep_runtime_core::TaskHeader;
use std::time::Instant;

/// A task in a queue, or a part of one. Nothing of it changes while it waits, but that it may become void.
pub(crate) trait Item {
    /// The header, with the rows of the part if it is one.
    fn header(&self) -> &TaskHeader;

    /// The position among the parts of its task.
    fn part(&self) -> PartOf;

    /// Returns true if nobody waits for it any more, because another part of its task was the answer.
    fn is_void(&self) -> bool;

    /// Its share of a batch.
    fn rows(&self) -> usize {
        self.header().rows
    }

    /// Returns true if it is a part, or may expire: it may be moot when its turn comes.
    fn needs_look(&self) -> bool {
        self.header().deadline.is_some() || self.part().of > 1
    }

    /// Returns true if running it would help nobody.
    fn is_moot(&self, now: Instant) -> bool {
        self.is_void() || self.header().is_expired(now)
    }

    /// Returns true if it is the last of its task, whose room in the queue is free once this has left.
    fn is_last(&self) -> bool {
        self.part().at + 1 == self.part().of
    }
}

/// A position among the parts of a task, which follow each other in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartOf {
    pub(crate) at: u32,
    pub(crate) of: u32,
}

impl PartOf {
    /// The only one.
    pub(crate) const WHOLE: Self = Self { at: 0, of: 1 };
}
