//! Just in time: when to cut, and how many rows.

use crate::contract::price::{Price, seconds};
use std::time::{Duration, Instant};

/// How far off the expected ends of batches usually are, and so how much earlier than just in time to cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Margin(f64);

/// What a thread that sleeps for a time wakes up late by.
const LATE: Duration = Duration::from_micros(100);

impl Margin {
    /// Notes by how much later than expected the device came free, or that it came free earlier.
    pub(crate) fn note(&mut self, expected: Instant, free: Instant) {
        let early = expected.saturating_duration_since(free).as_secs_f64();
        // Too late costs the device's time, too early costs nothing but rows.
        let rate = if early > self.0 { 0.25 } else { 0.02 };
        self.0 += (early - self.0) * rate;
    }

    /// Returns the time by which to be early.
    pub(crate) fn get(self) -> Duration {
        LATE + seconds(self.0 * 2.0)
    }
}

/// Returns the time at which to cut a batch that takes `gather` to gather, so that it is there when the device comes
/// free; `None` if that is now.
pub(crate) fn just_in_time(now: Instant, free: Instant, gather: Duration, margin: Margin) -> Option<Instant> {
    let at = free.checked_sub(gather.saturating_add(margin.get()))?;
    (at > now).then_some(at)
}

/// Returns the most rows that end in time for a task that must start by `deadline`, if it is worth cutting a smaller batch
/// for it: at least a quarter of the rows that there are must fit, since what is cut too small costs everybody.
pub(crate) fn rows_in_time(price: &Price, rows: usize, begin: Instant, deadline: Instant) -> Option<usize> {
    let time = deadline.checked_duration_since(begin)?;
    let fit = price.rows_within(time);
    (fit < rows && fit.saturating_mul(4) >= rows && fit > 0).then_some(fit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn price(fixed: u32, per_row: u32) -> Price {
        Price::new(f64::from(fixed) / 1e6, f64::from(per_row) / 1e6, true)
    }

    proptest! {
        #[test]
        fn what_is_cut_for_a_deadline_ends_before_it(
            fixed in 0u32..10_000, per_row in 1u32..10_000, rows in 1usize..64, time in 0u64..1_000_000,
        ) {
            let (price, now) = (price(fixed, per_row), Instant::now());
            let deadline = now + Duration::from_micros(time);
            if let Some(fit) = rows_in_time(&price, rows, now, deadline) {
                prop_assert!(fit < rows && fit * 4 >= rows);
                prop_assert!(now + price.of(fit) <= deadline + Duration::from_micros(1));
            }
        }

        #[test]
        fn a_cut_is_never_too_late_by_what_is_known(gather in 0u64..1000, free in 0u64..100_000, errors in prop::collection::vec(0u64..500, 20..60)) {
            let now = Instant::now();
            let mut margin = Margin::default();
            let expected = now + Duration::from_secs(1);
            for error in &errors {
                margin.note(expected + Duration::from_micros(*error), expected);
            }
            let (gather, free) = (Duration::from_micros(gather), now + Duration::from_micros(free));
            if let Some(at) = just_in_time(now, free, gather, margin) {
                prop_assert!(at > now && at + gather + LATE <= free);
            }
        }
    }

    #[test]
    fn the_margin_grows_with_what_came_early() {
        let (now, mut margin) = (Instant::now(), Margin::default());
        assert_eq!(just_in_time(now, now + MS, Duration::ZERO, margin), (now + MS).checked_sub(LATE));
        (0..20).for_each(|_| margin.note(now + MS, now));
        assert_eq!(just_in_time(now, now + MS, Duration::ZERO, margin), None);
    }
}
