//! Prices: the device time that batches of a pool are expected to take, by their rows and by the size of a row.

use crate::contract::price::Price;
use crate::policy::curve::Curve;
use smallvec::SmallVec;
use std::time::Duration;

/// The device time of one pool's batches. A pool has one pass of one block.
///
/// Rows of like size share a curve; a curve of which little is known borrows from those beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices {
    /// By size, the smallest rows first.
    curves: SmallVec<[(Bucket, Curve); 1]>,
    /// Batches that were noted.
    noted: u32,
}

/// Rows whose elements differ by less than √2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(u8);

impl Bucket {
    /// Returns the bucket of rows of so many elements.
    pub(crate) fn of(elements: usize) -> Self {
        let elements = elements.max(1);
        let octave = elements.ilog2();
        // Squared, because √2 is no whole number.
        let upper = (elements as f64 / f64::from(2u32).powi(octave.cast_signed())).powi(2) >= 2.0;
        Self(u8::try_from(octave * 2 + u32::from(upper)).unwrap_or(u8::MAX))
    }

    /// The elements of its smallest rows.
    fn least(self) -> usize {
        let octave = 1_usize.checked_shl(u32::from(self.0 / 2)).unwrap_or(usize::MAX);
        // The next whole number from √2 times as many on.
        if self.0.is_multiple_of(2) {
            octave
        } else {
            (octave.saturating_mul(octave).saturating_mul(2) - 1).isqrt() + 1
        }
    }

    /// How many times larger rows of this bucket are.
    fn by(self, other: Self) -> f64 {
        2f64.powf((f64::from(self.0) - f64::from(other.0)) / 2.0)
    }
}

/// Batches before anything is made of what they took: the first ones find nothing warm.
const ENOUGH: u32 = 3;
/// Weight of a curve's own measurements from which on it borrows no more.
const OWN: f64 = 8.0;

impl Prices {
    /// Notes that a batch of so many rows, of so many elements each, took so long.
    pub(crate) fn note(&mut self, elements: usize, rows: usize, time: Duration) {
        self.noted = self.noted.saturating_add(1);
        let bucket = Bucket::of(elements);
        let at = match self.curves.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => at,
            Err(at) => {
                self.curves.insert(at, (bucket, Curve::default()));
                at
            }
        };
        self.curves[at].1.note(rows, time);
    }

    /// Returns the price of batches of rows of so many elements; `None` before a few batches have run.
    pub(crate) fn of(&self, elements: usize) -> Option<Price> {
        if self.noted < ENOUGH {
            return None;
        }
        let bucket = Bucket::of(elements);
        let own = match self.curves.as_slice() {
            [(only, curve)] if *only == bucket => Some(curve),
            curves => {
                curves.binary_search_by_key(&bucket, |(bucket, _)| *bucket).ok().map(|at| &curves[at].1)
            }
        };
        if let Some(curve) = own.filter(|curve| curve.weight() >= OWN || self.curves.len() == 1) {
            return Some(price(curve));
        }
        let (mut total, mut fixed, mut per_row, mut is_sure) = (0.0, 0.0, 0.0, false);
        for (of, curve) in &self.curves {
            let distance = f64::from(of.0.abs_diff(bucket.0));
            let weight = curve.weight().min(OWN) / (1.0 + distance).powi(2);
            let (row, batch) = curve.line();
            total += weight;
            fixed += weight * batch;
            per_row += weight * row * bucket.by(*of);
            is_sure |= curve.is_a_line();
        }
        (total > 0.0).then(|| Price::new(fixed / total, per_row / total, is_sure))
    }

    /// Returns each size that is known: the elements of a row, the price, and how many batches it rests on, at most fifty.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, Price, f64)> {
        self.curves.iter().map(|(bucket, curve)| (bucket.least(), price(curve), curve.weight()))
    }
}

fn price(curve: &Curve) -> Price {
    let (per_row, fixed) = curve.line();
    Price::new(fixed, per_row, curve.is_a_line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn sizes_of_a_row_are_told_apart_by_half_octaves() {
        let buckets: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 8].map(|elements| Bucket::of(elements).0).into();
        assert_eq!(buckets, [0, 2, 3, 4, 4, 5, 5, 6]);
        assert!(Bucket::of(usize::MAX).0 < u8::MAX);
    }

    #[test]
    fn what_is_not_known_is_borrowed_from_its_neighbours() {
        let mut prices = Prices::default();
        assert_eq!(prices.of(16), None);
        for rows in 1..20 {
            prices.note(16, rows, MS + MS * u32::try_from(rows).unwrap());
        }
        // Sixteen times as many elements.
        let borrowed = prices.of(256).unwrap();
        assert!((borrowed.per_row() / 16e-3 - 1.0).abs() < 0.1 && borrowed.is_sure(), "{borrowed:?}");
        for rows in 1..20 {
            prices.note(256, rows, 5 * MS + 40 * MS * u32::try_from(rows).unwrap());
        }
        let own = prices.of(256).unwrap();
        assert!((own.per_row() / 40e-3 - 1.0).abs() < 0.1, "{own:?}");
        assert!((prices.of(16).unwrap().per_row() / 1e-3 - 1.0).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn the_least_rows_of_a_bucket_are_in_it(elements in 1usize..1_000_000) {
            let bucket = Bucket::of(elements);
            let least = bucket.least();
            prop_assert!(least <= elements && Bucket::of(least) == bucket, "{least} of {bucket:?}");
        }
    }
}
