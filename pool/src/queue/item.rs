//! The items of a queue: tasks as the queue sees them.

use skep_runtime_core::TaskHeader;
use std::time::Instant;

/// A task in a queue, or what is left of one of which parts have left. Nothing of it changes while it waits, but that
/// it may become void.
pub(crate) trait Item: Sized {
    /// The order of tasks: the lowest leaves first. What it is made of is not the queue's to know.
    type Rank: Copy + Ord;

    fn rank(&self) -> Self::Rank;

    /// The header, with the rows that are left.
    fn header(&self) -> &TaskHeader;

    /// When it got into line: when it was submitted, or when a part of it last left.
    fn since(&self) -> Instant;

    /// Returns true if it may leave in parts.
    fn is_divisible(&self) -> bool;

    /// The number by which its ticket knows it, if parts of it have left: it waits under another one since.
    fn started(&self) -> Option<u64>;

    /// Returns true if nobody waits for it any more, because a part of it was the answer.
    fn is_void(&self) -> bool;

    /// Takes a part of so many rows off, fewer than there are. `seq` is the number that the task waited under.
    fn take_part(&mut self, rows: usize, seq: u64, now: Instant) -> Self;

    fn rows(&self) -> usize {
        self.header().rows
    }

    /// Returns true if it may be moot, or too large, when its turn comes.
    fn needs_look(&self) -> bool {
        self.header().deadline.is_some() || self.is_divisible()
    }

    /// Returns true if running it would help nobody.
    fn is_moot(&self, now: Instant) -> bool {
        (self.is_divisible() && self.is_void()) || self.header().is_expired(now)
    }
}

/// A position in the order of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<R> {
    pub(crate) rank: R,
    /// Which of those that are equal came first.
    pub(crate) seq: u64,
}
