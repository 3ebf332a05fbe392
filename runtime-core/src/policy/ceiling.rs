//! Ceilings: the rows of a pool that the device has room for, learned from batches that were too large.
//!
//! Pure data: told the rows of what failed and what fitted, it gives the most rows of the next batch.

use crate::contract::id::PoolId;
use std::collections::HashMap;

/// Full batches at the ceiling before more rows are tried again. Doubles with each try that fails.
const PATIENCE: u32 = 256;
const MOST_PATIENCE: u32 = 1 << 16;
/// Full batches before more rows are allowed, while more are being tried: tasks of several rows may not fill
/// the batch that is tried, and some batches were cut before.
const TRIES: u32 = 16;

/// The limit on the rows of one pool's batches. Made when one of them did not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    /// The most rows that have fitted and were not too many later.
    fits: usize,
    /// The fewest rows that did not fit; `None` while more than ever fitted are tried.
    fails: Option<usize>,
    /// The most rows that ever failed: beyond them there is no limit to keep.
    most: usize,
    rows: usize,
    full_batches: u32,
    patience: u32,
}

/// The ceilings of the pools that have one.
#[derive(Debug, Default)]
pub(crate) struct Ceilings(HashMap<PoolId, Ceiling>);

impl Ceilings {
    /// The most rows that the next batch of a pool may have.
    #[inline]
    pub(crate) fn most_rows(&self, pool: PoolId) -> usize {
        if self.0.is_empty() { usize::MAX } else { self.0.get(&pool).map_or(usize::MAX, Ceiling::rows) }
    }

    /// Forgets a pool that is gone.
    pub(crate) fn forget(&mut self, pool: PoolId) {
        self.0.remove(&pool);
    }

    /// Returns true if no pool has one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A batch of this many rows of a pool was too large.
    pub(crate) fn failed(&mut self, pool: PoolId, rows: usize) {
        self.0.entry(pool).or_insert_with(Ceiling::new).failed(rows);
    }

    /// A batch of this many rows of a pool fitted.
    pub(crate) fn fitted(&mut self, pool: PoolId, rows: usize) {
        if self.0.get_mut(&pool).is_some_and(|ceiling| ceiling.fitted(rows)) {
            self.0.remove(&pool);
        }
    }
}

impl Ceiling {
    pub(crate) fn new() -> Self {
        Self { fits: 0, fails: None, most: 0, rows: usize::MAX, full_batches: 0, patience: PATIENCE }
    }

    /// The most rows of the next batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A batch of this many rows was too large.
    pub(crate) fn failed(&mut self, rows: usize) {
        if self.fails.is_some_and(|fails| fails < rows) {
            return; // It was cut before the ceiling was as low as it is.
        }
        if self.fails.is_none() && self.most > 0 {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
        }
        if rows <= self.fits {
            // Memory is shorter than it was, or these rows are larger ones.
            self.fits = 0;
        }
        self.most = self.most.max(rows);
        self.fails = Some(rows);
        self.full_batches = 0;
        self.rows = next(self.fits, rows);
    }

    /// A batch of this many rows fitted. Says whether as many rows as ever failed have fitted since, so that the
    /// ceiling can be forgotten.
    pub(crate) fn fitted(&mut self, rows: usize) -> bool {
        let more_than_ever = rows > self.fits;
        if self.fails.is_none_or(|fails| rows < fails) {
            self.fits = self.fits.max(rows);
        }
        // Tasks of several rows seldom fill a batch exactly. Where no further task of their size would have had
        // room, they fill more than half of it.
        let full = rows.saturating_mul(2) > self.rows;
        if !full {
            return false;
        }
        let (allowed, patience) = match self.fails {
            Some(fails) => (next(self.fits, fails), self.patience),
            None if more_than_ever => (self.fits.saturating_mul(2), TRIES),
            None => (0, TRIES),
        };
        if allowed > self.rows {
            self.rows = allowed;
            self.full_batches = 0;
        } else {
            self.full_batches += 1;
            if self.full_batches >= patience {
                self.full_batches = 0;
                self.fails = None;
                self.rows = self.rows.saturating_add((self.rows / 8).max(1));
            }
        }
        self.fails.is_none() && rows >= self.most
    }
}

/// Half way between what fits and what does not, until they are close.
fn next(fits: usize, fails: usize) -> usize {
    let close = fits > 0 && fails.saturating_sub(fits) <= (fails / 6).max(1);
    if close { fits } else { fits.midpoint(fails).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs `batches` batches as large as allowed, up to `max_rows`, on a device with room for `room` rows,
    /// and gives the rows of those that failed.
    fn run(ceiling: &mut Option<Ceiling>, room: usize, max_rows: usize, batches: usize) -> Vec<usize> {
        let mut failed = Vec::new();
        for _ in 0..batches {
            let rows = ceiling.as_ref().map_or(max_rows, |ceiling| ceiling.rows().min(max_rows));
            if rows > room {
                failed.push(rows);
                ceiling.get_or_insert_with(Ceiling::new).failed(rows);
            } else if ceiling.as_mut().is_some_and(|ceiling| ceiling.fitted(rows)) {
                *ceiling = None;
            }
        }
        failed
    }

    #[test]
    fn a_ceiling_is_found_within_three_failures() {
        let mut ceiling = None;
        assert_eq!(run(&mut ceiling, 24, 64, 200), [64, 32, 28]);
        assert_eq!(ceiling.unwrap().rows(), 24);
    }

    #[test]
    fn more_is_tried_seldom_and_ever_more_seldom() {
        let mut ceiling = None;
        run(&mut ceiling, 24, 64, 10);
        assert_eq!(run(&mut ceiling, 24, 64, 4000).len(), 4);
    }

    #[test]
    fn where_almost_all_fits_more_is_tried_ever_more_seldom_too() {
        let mut ceiling = None;
        assert!(run(&mut ceiling, 24, 25, 10_000).len() <= 8);
    }

    #[test]
    fn a_ceiling_is_lifted_once_there_is_room_again() {
        let mut ceiling = None;
        run(&mut ceiling, 1, 64, 20);
        assert_eq!(ceiling.as_ref().map(Ceiling::rows), Some(1));
        assert!(run(&mut ceiling, 64, 64, 300).is_empty());
        assert_eq!(ceiling, None);
    }

    #[test]
    fn a_ceiling_is_lifted_where_tasks_never_fill_a_batch_exactly() {
        let mut ceiling = Ceiling::new();
        for rows in [64, 32, 16, 8] {
            ceiling.failed(rows);
        }
        // Tasks of four rows each, on a device that has room for any number of them by now.
        let lifted = (0..2000).any(|_| ceiling.fitted((ceiling.rows() / 4).max(1) * 4));
        assert!(lifted, "stuck at {ceiling:?}");
    }

    #[test]
    fn a_batch_that_was_cut_before_teaches_nothing_new() {
        let mut ceiling = Ceiling::new();
        ceiling.failed(32);
        ceiling.failed(64);
        assert_eq!(ceiling.rows(), 16);
    }

    proptest! {
        #[test]
        fn what_is_found_fits_and_is_close(room in 1usize..500, max_rows in 1usize..500) {
            let mut ceiling = None;
            let failed = run(&mut ceiling, room, max_rows, 100);
            let found = ceiling.as_ref().map_or(max_rows, Ceiling::rows).min(max_rows);
            prop_assert!(found <= room && found * 6 + 6 >= room.min(max_rows) * 5, "found {found}");
            prop_assert!(failed.len() <= 12, "{failed:?}");
        }

        #[test]
        fn anything_may_be_told(told in prop::collection::vec((any::<bool>(), any::<usize>()), 0..50)) {
            let mut ceiling = Ceiling::new();
            for (fits, rows) in told {
                if fits { ceiling.fitted(rows); } else { ceiling.failed(rows); }
                prop_assert!(ceiling.rows() >= 1);
            }
        }
    }
}
