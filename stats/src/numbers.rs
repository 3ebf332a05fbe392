//! Many numbers, rounded: as a list while few differ, as a histogram from then on.
//!
//! Most pools see few different numbers until they are busy, and a histogram takes tens of kilobytes however few.

use hdrhistogram::Histogram;
use std::fmt;

/// The significant decimal digits that are kept: percentiles are off by less than 1 %.
const DIGITS: u8 = 2;

/// The bits that histograms of so many digits keep of a number.
const BITS: u32 = 8;

/// The most different numbers in a list, which takes a kilobyte then.
const FEW: usize = 128;

/// Numbers that are not told apart: those that agree in their first [`BITS`] bits, as in the histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(u16);

impl Bucket {
    #[expect(clippy::cast_possible_truncation, reason = "64 times 256 at most")]
    fn of(number: u64) -> Self {
        let shift = (u64::BITS - number.leading_zeros()).saturating_sub(BITS);
        Self(((shift as u16) << BITS) | ((number >> shift) as u16))
    }

    fn parts(self) -> (u16, u64) {
        (self.0 >> BITS, u64::from(self.0 & 0xff))
    }

    /// The lowest number of it.
    pub(crate) fn lowest(self) -> u64 {
        let (shift, number) = self.parts();
        number << shift
    }

    /// The highest number of it.
    fn highest(self) -> u64 {
        let (shift, number) = self.parts();
        (number << shift) | ((1 << shift) - 1)
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn middle(self) -> u64 {
        let (shift, _) = self.parts();
        self.lowest() + ((1 << shift) >> 1)
    }
}

#[derive(Clone)]
pub(crate) enum Numbers {
    Few(Few),
    Many(Box<Histogram<u64>>),
}

#[derive(Clone, Default)]
pub(crate) struct Few {
    /// In order, with the times that each came.
    list: Vec<(Bucket, u32)>,
    /// The place of the last one that came: the next is often the same.
    last: usize,
}

impl Default for Numbers {
    fn default() -> Self {
        Self::Few(Few::default())
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Numbers {
    #[inline]
    pub(crate) fn add(&mut self, number: u64, times: u64) {
        if let Self::Few(few) = self
            && few.add_to_last(Bucket::of(number), times)
        {
            return;
        }
        self.add_other(number, times);
    }

    fn add_other(&mut self, number: u64, times: u64) {
        match self {
            Self::Few(few) => {
                if !few.add(Bucket::of(number), times) {
                    self.spread();
                    self.add_other(number, times);
                }
            }
            Self::Many(histogram) => record(histogram, number, times),
        }
    }

    /// Makes a histogram of the list.
    #[expect(clippy::expect_used, reason = "the digits are a constant in the range that the histogram takes")]
    fn spread(&mut self) {
        let mut histogram = Histogram::new(DIGITS).expect("a histogram of 0 to 5 digits");
        for (bucket, times) in self.iter() {
            record(&mut histogram, bucket.lowest(), times);
        }
        *self = Self::Many(Box::new(histogram));
    }

    /// The buckets in order, with the times that numbers of each came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Bucket, u64)> + '_ {
        let (few, many) = match self {
            Self::Few(few) => (&few.list[..], None),
            Self::Many(histogram) => (&[][..], Some(histogram.iter_recorded())),
        };
        let many = many.into_iter().flatten();
        let many = many.map(|bucket| (Bucket::of(bucket.value_iterated_to()), bucket.count_at_value()));
        few.iter().map(|(bucket, times)| (*bucket, u64::from(*times))).chain(many)
    }

    /// The highest number of the bucket in which the quantile of `count` numbers lies; 0 if there are none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    pub(crate) fn at_quantile(&self, quantile: f64, count: u64) -> u64 {
        match self {
            Self::Many(histogram) => histogram.value_at_quantile(quantile),
            Self::Few(few) => {
                let mut left = ((quantile * count as f64).ceil() as u64).max(1);
                let found = few.list.iter().find(|(_, times)| {
                    let times = u64::from(*times);
                    let is_here = left <= times;
                    left -= left.min(times);
                    is_here
                });
                found.or(few.list.last()).map_or(0, |(bucket, _)| bucket.highest())
            }
        }
    }
}

impl Few {
    /// Adds a number if it is the same as the last; returns true if it was.
    #[inline]
    fn add_to_last(&mut self, bucket: Bucket, times: u64) -> bool {
        let Some((_, known)) = self.list.get_mut(self.last).filter(|(last, _)| *last == bucket) else {
            return false;
        };
        let sum = u32::try_from(times).ok().and_then(|times| known.checked_add(times));
        sum.is_some_and(|sum| {
            *known = sum;
            true
        })
    }

    /// Adds a number; returns false if there is no room for another one, or for so many of it.
    fn add(&mut self, bucket: Bucket, times: u64) -> bool {
        self.last = self.list.partition_point(|(other, _)| *other < bucket);
        let known = self.list.get_mut(self.last).filter(|(other, _)| *other == bucket);
        let before = known.as_ref().map_or(0, |(_, times)| *times);
        let Ok(times) = u32::try_from(u64::from(before).saturating_add(times)) else { return false };
        match known {
            Some((_, known)) => *known = times,
            None => return self.insert(bucket, times),
        }
        true
    }

    fn insert(&mut self, bucket: Bucket, times: u32) -> bool {
        if self.list.len() >= FEW {
            return false;
        }
        if self.list.len() == self.list.capacity() {
            self.list.reserve_exact(self.list.len().max(4));
        }
        self.list.insert(self.last, (bucket, times));
        true
    }
}

fn record(histogram: &mut Histogram<u64>, number: u64, times: u64) {
    // Fails only when the histogram would need more buckets than a usize can count.
    histogram.record_n(number, times).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_agrees_with_a_histogram(
            numbers in prop::collection::vec((0u32..48, any::<u64>(), 1u64..1000), 0..FEW),
        ) {
            let (mut few, mut many) = (Numbers::default(), Numbers::default());
            many.spread();
            let mut count = 0;
            for (bits, number, times) in numbers {
                let number = number & ((1 << bits) - 1);
                few.add(number, times);
                many.add(number, times);
                count += times;
            }
            prop_assert!(matches!(few, Numbers::Few(_)) && matches!(many, Numbers::Many(_)));
            prop_assert!(few.iter().eq(many.iter()), "{few:?}\n{many:?}");
            for quantile in [0.01, 0.5, 0.9, 0.99, 1.0] {
                prop_assert_eq!(few.at_quantile(quantile, count), many.at_quantile(quantile, count));
            }
        }
    }

    #[test]
    fn a_bucket_holds_its_numbers() {
        for number in (0..60).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + (1 << bits) / 3])
        {
            let bucket = Bucket::of(number);
            assert!((bucket.lowest()..=bucket.highest()).contains(&number), "{number}: {bucket:?}");
            assert!(bucket.highest() - bucket.lowest() <= number / 100, "{number}: {bucket:?}");
        }
    }

    #[test]
    fn a_list_ends_where_it_would_be_long_or_its_counts_large() {
        let mut numbers = Numbers::default();
        (0..FEW as u64).for_each(|number| numbers.add(number, 1));
        let Numbers::Few(few) = &numbers else { panic!("{FEW} numbers are few") };
        assert_eq!((few.list.len(), few.list.capacity(), size_of::<(Bucket, u32)>()), (FEW, FEW, 8));
        numbers.add(1, 1);
        assert!(matches!(numbers, Numbers::Few(_)), "it is no other number");
        numbers.add(FEW as u64, 1);
        assert!(matches!(numbers, Numbers::Many(_)));
        let mut often = Numbers::default();
        often.add(7, u64::from(u32::MAX));
        often.add(7, 1);
        assert_eq!(often.iter().collect::<Vec<_>>(), [(Bucket::of(7), 1 << 32)]);
    }
}
