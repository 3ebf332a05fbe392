//! The items of a queue: tasks as the queue sees them.

use skep_runtime_core::pool::Rank;
use skep_runtime_core::{Priority, TaskHeader};
use std::time::Instant;

/// A task in a queue, or what is left of one of which parts have left. Nothing of it changes while it waits, but that
/// it may become void. Its position in the order stands beside it, and not in it: what waits is copied, and is to be
/// found in memory.
pub(crate) trait Item: Sized {
    /// The order of tasks: the lowest leaves first. What it is made of is not the queue's to know.
    type Rank: Copy + Ord;

    /// The number by which its ticket knows it, if that may not be the one of its position.
    fn number(&self) -> Option<u64>;

    /// The number by which its ticket knows it, of the item at a position.
    fn number_at(&self, key: Key<Self::Rank>) -> u64 {
        self.number().unwrap_or(key.seq)
    }

    /// The header, with the rows that are left.
    fn header(&self) -> &TaskHeader;

    /// When it got into line: when it was submitted, or when a part of it last left.
    fn since(&self) -> Instant;

    /// Returns true if it may leave in parts.
    fn is_divisible(&self) -> bool;

    /// Returns true if parts of it have left.
    fn is_started(&self) -> bool;

    /// Returns true if nobody waits for it any more, because a part of it was the answer.
    fn is_void(&self) -> bool;

    /// Takes a part of so many rows off, fewer than there are.
    fn take_part(&mut self, rows: usize, now: Instant) -> Self;

    fn rows(&self) -> usize {
        self.header().rows
    }

    /// The elements of each of its rows, 1 at least.
    fn elements_of_row(&self) -> usize {
        (self.header().elements as usize).max(1)
    }

    /// The elements of all its rows.
    fn elements(&self) -> usize {
        self.rows().saturating_mul(self.elements_of_row())
    }

    /// Returns true if it may be moot, or too large, when its turn comes, or is counted in another way.
    fn needs_look(&self) -> bool {
        self.header().deadline.is_some() || self.is_divisible() || self.is_started()
    }

    /// Returns true if running it would help nobody.
    fn is_moot(&self, now: Instant) -> bool {
        (self.is_divisible() && self.is_void()) || self.header().is_expired(now)
    }
}

/// The rank of a task in the order of its queue.
///
/// Where ranks rise while tasks wait, only the first task of each lane stands in the order by its rank. Those behind it
/// come after all others, lane by lane, and get a rank when it is their turn.
/// A rank in two words, as it is compared with those of others and copied with each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The number of the lane if it is not the first one of it, else 0; and below that the class, as a number that is not
    /// negative.
    lane_and_class: u64,
    key: i64,
}

impl Place {
    #[inline]
    pub(crate) const fn first(rank: Rank) -> Self {
        Self { lane_and_class: shifted(rank.class()) as u64, key: rank.key() }
    }

    pub(crate) const fn behind(lane: u32) -> Self {
        Self { lane_and_class: (lane as u64) << u32::BITS, key: i64::MIN }
    }

    #[inline]
    pub(crate) const fn rank(self) -> Rank {
        Rank::new(self.class(), self.key)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(crate) const fn class(self) -> Priority {
        Priority((self.lane_and_class as u32 ^ SIGN).cast_signed())
    }

    /// The place of what is left of a task that was submitted at one time and gets into line again at another.
    pub(crate) fn later(self, submitted: Instant, now: Instant) -> Self {
        let later = i64::try_from(now.saturating_duration_since(submitted).as_nanos()).unwrap_or(i64::MAX);
        Self { key: self.key.saturating_add(later), ..self }
    }

    #[inline]
    pub(crate) const fn is_first(self) -> bool {
        self.lane() == 0
    }

    pub(crate) const fn lane(self) -> u32 {
        (self.lane_and_class >> u32::BITS) as u32
    }
}

const SIGN: u32 = 1 << 31;

/// Classes as numbers that are not negative, in the same order.
const fn shifted(class: Priority) -> u32 {
    class.0.cast_unsigned() ^ SIGN
}

/// A position in the order of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<R> {
    pub(crate) rank: R,
    /// Which of those that are equal came first.
    pub(crate) seq: u64,
}
