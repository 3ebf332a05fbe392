//! Many durations: a histogram while they are recorded, a few figures when they are read.

use crate::numbers::Numbers;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest time that percentiles tell apart from longer ones, one day, so that a histogram stays below
/// 50 KB for any times. Mean and maximum have no such limit.
const LONGEST_NS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// A few figures that stand for many times. All are zero if nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// The number of times that were recorded.
    pub count: u64,
    /// Their sum, exactly.
    #[serde(rename = "total_us", with = "micros")]
    pub total: Duration,
    /// Their mean, exactly.
    #[serde(rename = "mean_us", with = "micros")]
    pub mean: Duration,
    /// The median: half of them were at most this, within 1 %.
    #[serde(rename = "p50_us", with = "micros")]
    pub p50: Duration,
    /// The time that nine of ten were at most, within 1 %.
    #[serde(rename = "p90_us", with = "micros")]
    pub p90: Duration,
    /// The time that 99 of 100 were at most, within 1 %.
    #[serde(rename = "p99_us", with = "micros")]
    pub p99: Duration,
    /// The longest, exactly.
    #[serde(rename = "max_us", with = "micros")]
    pub max: Duration,
}

/// Records times, in nanoseconds, or other numbers, and gives their [`Summary`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution {
    numbers: Numbers,
    count: u64,
    total: u64,
    max: u64,
}

impl Distribution {
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_number(nanos(time));
    }

    pub(crate) fn record_number(&mut self, number: u64) {
        self.numbers.add(number.min(LONGEST_NS), 1);
        self.count += 1;
        self.total = self.total.saturating_add(number);
        self.max = self.max.max(number);
    }

    /// Returns the sum of all numbers.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the numbers that were recorded since `before`, an earlier state of this one, within 1 %, and the
    /// number of times that each came.
    #[cfg(feature = "metrics")]
    pub(crate) fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (u64, u64)> + 'a {
        // Side by side, both in the order of their numbers: the earlier one may lack some.
        let mut old = before.numbers.iter().peekable();
        self.numbers.iter().filter_map(move |(bucket, times)| {
            let was = old.next_if(|(old, _)| *old == bucket).map_or(0, |(_, times)| times);
            (times > was).then(|| (bucket.middle().min(self.max), times - was))
        })
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (bucket, times) in other.numbers.iter() {
            self.numbers.add(bucket.lowest(), times);
        }
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn summary(&self) -> Summary {
        // A bucket is known by its upper end, which may be above everything that was recorded.
        let quantile = |q| Duration::from_nanos(self.numbers.at_quantile(q, self.count).min(self.max));
        Summary {
            count: self.count,
            total: Duration::from_nanos(self.total),
            mean: Duration::from_nanos(self.total.checked_div(self.count).unwrap_or(0)),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: Duration::from_nanos(self.max),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}

/// Durations as microseconds, with decimals.
pub(crate) mod micros {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_nanos() as f64 / 1e3)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let micros = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(micros / 1e6).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn summary_of(times: impl IntoIterator<Item = Duration>) -> Summary {
        let mut distribution = Distribution::default();
        times.into_iter().for_each(|time| distribution.record(time));
        distribution.summary()
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(summary_of([]), Summary::default());
    }

    #[test]
    fn a_single_time_is_told_exactly() {
        let time = Duration::from_nanos(123_456_789);
        let summary = summary_of([time]);
        let figures = [summary.total, summary.mean, summary.p50, summary.p90, summary.p99, summary.max];
        assert_eq!((summary.count, figures), (1, [time; 6]));
    }

    #[test]
    fn zero_and_the_longest_duration_are_recorded() {
        let summary = summary_of([Duration::ZERO, Duration::MAX, Duration::MAX]);
        assert_eq!(summary.count, 3);
        assert_eq!(summary.max, Duration::from_nanos(u64::MAX));
        assert!(summary.p50 >= Duration::from_nanos(LONGEST_NS));
    }

    #[test]
    fn times_survive_json_to_the_nanosecond() {
        let summary = summary_of([1, 999, 12_345, 86_400_000_000_001].map(Duration::from_nanos));
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
        assert!(serde_json::from_str::<Summary>(&json.replace("\"mean_us\":", "\"mean_us\":-")).is_err());
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn what_is_new_is_told_also_beyond_all_that_was() {
        for exponent in 1..40 {
            let (old, new) = ((1 << exponent) - 1, 1 << exponent);
            let mut now = Distribution::default();
            (0..5).for_each(|_| now.record_number(old));
            let before = now.clone();
            now.record_number(old);
            (0..2).for_each(|_| now.record_number(new));
            let times: u64 = now.since(&before).map(|(_, times)| times).sum();
            assert_eq!(times, 3, "2^{exponent}");
            assert!(
                now.since(&before).all(|(number, _)| number.abs_diff(new) <= 1 + new / 100),
                "2^{exponent}"
            );
            assert_eq!(now.since(&now).count(), 0);
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent_of_the_sorted_times(
            parts in prop::collection::vec(prop::collection::vec(0..200_000_000_000_u64, 0..200), 1..4)
        ) {
            let mut all = Distribution::default();
            for part in &parts {
                let mut distribution = Distribution::default();
                for ns in part {
                    distribution.record(Duration::from_nanos(*ns));
                }
                all.add(&distribution);
            }
            let mut sorted: Vec<u64> = parts.concat();
            sorted.sort_unstable();
            prop_assume!(!sorted.is_empty());

            let summary = all.summary();
            let total: u64 = sorted.iter().sum();
            prop_assert_eq!(summary.count, sorted.len() as u64);
            prop_assert_eq!(nanos(summary.total), total);
            prop_assert_eq!(nanos(summary.mean), total / summary.count);
            prop_assert_eq!(nanos(summary.max), sorted[sorted.len() - 1]);
            for (percent, got) in [(50, summary.p50), (90, summary.p90), (99, summary.p99)] {
                let expected = sorted[(sorted.len() * percent).div_ceil(100) - 1];
                let off = nanos(got).abs_diff(expected) as f64;
                prop_assert!(off <= 0.01 * expected as f64, "p{percent} is {got:?}, expected {expected} ns");
            }
        }
    }
}
