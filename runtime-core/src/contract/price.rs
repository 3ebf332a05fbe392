//! Prices: the device time that a batch is expected to take.

use std::time::Duration;

/// The device time that batches are expected to take: a fixed time, and a time per row. Learned from the batches that ran.
///
/// ```
/// use skep_runtime_core::Price;
/// use std::time::Duration;
///
/// let price = Price::new(0.010, 0.001, true);
/// assert_eq!(price.of(16), Duration::from_millis(26));
/// assert_eq!(price.rows_within(Duration::from_millis(26)), 16);
/// // Nine more rows would cost the one that is urgent more than a tenth of its time.
/// assert_eq!(price.rows_with_riders(1, 0.1), 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    fixed: f64,
    per_row: f64,
    is_sure: bool,
}

impl Price {
    /// Creates the price of a fixed time and a time per row, in seconds. `is_sure` says that the two were told apart,
    /// because batches were not all alike. What is no time counts as none.
    pub const fn new(fixed: f64, per_row: f64, is_sure: bool) -> Self {
        Self { fixed: time(fixed), per_row: time(per_row), is_sure }
    }

    /// Returns the fixed time of a batch, in seconds.
    pub const fn fixed(&self) -> f64 {
        self.fixed
    }

    /// Returns the time of a row, in seconds.
    pub const fn per_row(&self) -> f64 {
        self.per_row
    }

    /// Returns true if batches have differed enough to tell the rows' time from the fixed one.
    pub const fn is_sure(&self) -> bool {
        self.is_sure
    }

    /// Returns the time of a batch of so many rows.
    pub fn of(&self, rows: usize) -> Duration {
        seconds(self.fixed + self.per_row * rows as f64)
    }

    /// Returns the time of one row in a batch of so many.
    pub fn share(&self, rows: usize) -> Duration {
        seconds(self.fixed / rows.max(1) as f64 + self.per_row)
    }

    /// Returns the most rows that take no longer than this; 0 if even one takes longer.
    pub fn rows_within(&self, time: Duration) -> usize {
        // Not one less because of the last bit.
        let left = (time.as_secs_f64() - self.fixed) * (1.0 + 1e-9) + 1e-12;
        if left < self.per_row {
            return 0;
        }
        if self.per_row <= 0.0 {
            return usize::MAX;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is not negative"
        )]
        {
            (left / self.per_row) as usize
        }
    }

    /// Returns the most rows of a batch of which `urgent` rows are of its most urgent class, so that the others delay
    /// them by no more than a part of their own time.
    pub fn rows_with_riders(&self, urgent: usize, part: f64) -> usize {
        let alone = self.of(urgent).as_secs_f64();
        self.rows_within(seconds(alone * (1.0 + part))).max(urgent)
    }
}

/// What batches of rows of one size cost.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// The elements of a row, or somewhat fewer: sizes are told apart by half octaves. 1 if rows do not differ.
    pub elements: usize,
    /// The device time.
    pub price: Price,
    /// The batches that this rests on, the older the less, at most fifty.
    pub batches: f64,
}

const fn time(seconds: f64) -> f64 {
    if seconds > 0.0 { seconds } else { 0.0 }
}

pub(crate) fn seconds(time: f64) -> Duration {
    Duration::try_from_secs_f64(time.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(fixed: u32, per_row: u32) -> Price {
        Price::new(f64::from(fixed) / 1e6, f64::from(per_row) / 1e6, true)
    }

    proptest! {
        #[test]
        fn rows_within_a_time_are_the_most(fixed in 0u32..1000, per_row in 0u32..1000, time in 0u32..1_000_000) {
            let (price, time) = (price(fixed, per_row), Duration::from_micros(time.into()));
            let rows = price.rows_within(time);
            let slack = Duration::from_nanos(5);
            if rows > 0 && rows < usize::MAX {
                prop_assert!(price.of(rows) <= time + time / 1_000_000 + slack);
                prop_assert!(price.of(rows + 1) + slack > time);
            } else if rows == 0 {
                prop_assert!(price.of(1) + slack > time);
            }
        }

        #[test]
        fn riders_cost_the_urgent_no_more_than_their_part(
            fixed in 0u32..100_000, per_row in 0u32..10_000, urgent in 1usize..64,
        ) {
            let price = price(fixed, per_row);
            let rows = price.rows_with_riders(urgent, 0.1);
            prop_assert!(rows >= urgent);
            if rows < usize::MAX {
                prop_assert!(price.of(rows) <= price.of(urgent).mul_f64(1.1) + Duration::from_nanos(10));
            }
        }

        #[test]
        fn any_numbers_make_a_price(fixed: f64, per_row: f64, rows: usize, part: f64) {
            let price = Price::new(fixed, per_row, false);
            price.of(rows);
            price.share(rows);
            prop_assert!(price.rows_with_riders(rows, part) >= rows);
        }
    }

    #[test]
    fn an_urgent_row_takes_no_others_along_where_they_cost_as_much() {
        assert_eq!(price(0, 10_000).rows_with_riders(1, 0.1), 1);
        assert_eq!(price(10_000, 0).rows_with_riders(1, 0.1), usize::MAX);
        assert_eq!(price(10_000, 100).rows_with_riders(1, 0.1), 11);
    }
}
