//! Which batches of a pool are verified, and by which of their tasks.

use crate::contract::error::batch::BatchError;
use crate::contract::verify::Verify;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A pool's rule at work.
pub(crate) struct Verifying {
    rule: Verify,
    /// Batches that could have been verified so far.
    batches: AtomicU64,
}

/// A task of a batch that was run alone.
pub(crate) struct Alone<T> {
    /// Its place in the batch.
    pub(crate) place: usize,
    pub(crate) tolerance: f64,
    pub(crate) outputs: Result<Vec<T>, BatchError>,
}

impl Verifying {
    pub(crate) fn new(rule: Verify) -> Self {
        Self { rule, batches: AtomicU64::new(0) }
    }

    pub(crate) fn tolerance(&self) -> f64 {
        self.rule.tolerance
    }

    /// The place of the task that is to be run alone, if this batch of so many is to be verified: each place has its
    /// turn.
    pub(crate) fn next(&self, tasks: usize) -> Option<usize> {
        if tasks < 2 {
            return None;
        }
        let batch = self.batches.fetch_add(1, Ordering::Relaxed);
        let every = self.rule.every.max(1);
        let turn = usize::try_from(batch / every).unwrap_or(0);
        batch.is_multiple_of(every).then_some(turn % tasks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_in_so_many_is_verified_and_each_place_has_its_turn() {
        let every_third = Verifying::new(Verify::every(3));
        let places: Vec<_> = (0..10).map(|_| every_third.next(2)).collect();
        let (first, second, none) = (Some(0), Some(1), None);
        assert_eq!(places, [first, none, none, second, none, none, first, none, none, second]);
        let always = Verifying::new(Verify::every(0));
        assert_eq!((always.next(1), always.next(3), always.next(3)), (None, Some(0), Some(1)));
    }
}
