//! Ranks: the order in which tasks run, without its reasons.

use crate::contract::priority::Priority;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The rank of a task: the lowest runs next. Opaque: who keeps ranks in order knows nothing of priorities or times.
///
/// Ranks are compared by their class, and within one class by a number, which mostly is a time.
///
/// ```
/// use skep_runtime_core::{Priority, pool::Rank};
/// use std::time::{Duration, Instant};
///
/// let (now, second) = (Instant::now(), Duration::from_secs(1));
/// let normal = Rank::at(Priority::NORMAL, now);
/// assert!(Rank::at(Priority::URGENT, now + second) < normal, "another class");
/// assert!(normal < Rank::at(Priority::NORMAL, now + second), "the same class, later");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    class: Priority,
    key: i64,
}

impl Rank {
    /// Creates the rank of this class that runs after those of lower numbers.
    pub const fn new(class: Priority, key: i64) -> Self {
        Self { class, key }
    }

    /// Creates the rank of this class that runs after those of earlier times.
    #[inline]
    pub fn at(class: Priority, time: Instant) -> Self {
        Self { class, key: nanos(time) }
    }

    /// Returns the class. Tasks of a higher one are only taken along where they cost those of a lower one little.
    pub const fn class(self) -> Priority {
        self.class
    }

    /// Returns the number by which ranks of one class are compared.
    pub const fn key(self) -> i64 {
        self.key
    }

    /// Returns this rank in another class.
    pub const fn within(self, class: Priority) -> Self {
        Self { class, key: self.key }
    }
}

/// Nanoseconds since a moment that is the same for all ranks of a process: instants have no zero of their own.
#[inline]
pub(crate) fn nanos(time: Instant) -> i64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(|| time);
    match time.checked_duration_since(origin) {
        Some(since) => whole(since),
        None => -whole(origin.saturating_duration_since(time)),
    }
}

/// A time in nanoseconds; 292 years for anything longer.
#[inline]
pub(crate) fn whole(time: Duration) -> i64 {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranks_of_one_class_are_in_the_order_of_their_times(offsets in prop::collection::vec(0u64..1 << 50, 2)) {
            let base = Instant::now();
            let times: Vec<_> = offsets.iter().map(|&offset| base + Duration::from_nanos(offset)).collect();
            let ranks: Vec<_> = times.iter().map(|&time| Rank::at(Priority::NORMAL, time)).collect();
            prop_assert_eq!(times[0].cmp(&times[1]), ranks[0].cmp(&ranks[1]));
        }
    }
}
