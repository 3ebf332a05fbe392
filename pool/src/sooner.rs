//! Devices of different speeds: a slow one leaves to a faster one what that has done sooner, and tries again now and then.

use skep_runtime_core::Price;
use skep_runtime_core::pool::{Outlook, Rank, Terms};
use std::time::{Duration, Instant};

/// The last batch that was cut for a device.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    /// When it is expected to be over.
    ends: Instant,
    /// The elements of its rows, and what batches of such rows cost there.
    elements: usize,
    price: Price,
}

/// Another device would have run all that waits before the one that asks would have run its batch.
#[derive(Clone, Copy)]
pub(crate) struct Sooner {
    /// It is busy, and comes then; or it is free, and is waited for until then.
    pub(crate) until: Instant,
    pub(crate) is_busy: bool,
    /// With more rows than these there is work for both.
    pub(crate) rows: usize,
}

/// The part of the time that a faster device would save by which it is waited for if it is free: it has been rung, and may be
/// busy with another pool.
const PATIENCE: u32 = 10;

/// How far it is to be believed that a device is the slower one: what it takes is learned from its batches, and one that leaves
/// everything to others has none. So it takes one now and then all the same: often while it has had few, of which the first
/// found nothing warm.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trust {
    /// Batches that it has had since it has a price, as far as they are counted.
    had: u32,
    /// What it has left to others since the last one, and the rank of the last that it left.
    left: u32,
    last: Option<Rank>,
}

/// Batches before its price is known.
const FEW: u32 = 8;
/// So many are left to others before it takes one itself.
const OFTEN: u32 = 32;
const SELDOM: u32 = 256;

impl Trust {
    /// Notes that it takes a batch itself.
    pub(crate) fn has_cut(&mut self) {
        *self = Self { had: (self.had + 1).min(FEW), left: 0, last: None };
    }

    /// Notes that it would leave the task of this rank to another device. Returns false if it is to try once more.
    pub(crate) fn leaves(&mut self, rank: Rank) -> bool {
        if self.last != Some(rank) {
            self.left += 1;
            self.last = Some(rank);
        }
        self.left <= if self.had < FEW { OFTEN } else { SELDOM }
    }
}

impl Last {
    /// A batch of so many rows that is cut now. `None` if it is not known what it costs.
    pub(crate) fn of(terms: &Terms, rows: usize) -> Option<Self> {
        let price = terms.price?;
        Some(Self { ends: terms.begins.checked_add(price.of(rows))?, elements: terms.elements, price })
    }

    /// Returns if this device would have run what waits, so many rows, before another one would have run its next batch, on
    /// these terms.
    pub(crate) fn sooner(&self, terms: &Terms, outlook: &Outlook, waiting: usize) -> Option<Sooner> {
        let most = outlook.max_rows.min(terms.most_rows).max(1);
        let own = terms.price?.of(outlook.rows.min(most));
        let begins = self.ends.max(terms.now);
        let time = terms.begins.checked_add(own)?.saturating_duration_since(begins);
        let takes = self.takes(waiting, most);
        if !are_alike(self.elements, outlook.elements) || takes >= time {
            return None;
        }
        let is_busy = self.ends > terms.now;
        let until =
            if is_busy { begins } else { begins.checked_add(own.saturating_sub(takes) / PATIENCE)? };
        Some(Sooner { until, is_busy, rows: self.within(time, most).max(waiting) })
    }

    /// The device time of so many rows, in batches of at most `most`.
    fn takes(&self, rows: usize, most: usize) -> Duration {
        let batches = u32::try_from(rows / most).unwrap_or(u32::MAX);
        let rest = if rows.is_multiple_of(most) { Duration::ZERO } else { self.price.of(rows % most) };
        self.price.of(most).saturating_mul(batches).saturating_add(rest)
    }

    /// The rows that it runs in this time, in batches of `most`.
    fn within(&self, time: Duration, most: usize) -> usize {
        let batches = time.as_nanos() / self.price.of(most).as_nanos().max(1);
        usize::try_from(batches).unwrap_or(usize::MAX).saturating_mul(most)
    }
}

/// Returns true if what rows of so many elements cost says enough of others: prices tell sizes apart by half octaves.
fn are_alike(elements: usize, others: usize) -> bool {
    let [small, large] = [elements.min(others), elements.max(others)].map(|elements| elements as f64);
    large * large <= 2.0 * small * small
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::Priority;

    /// The tasks of which it leaves all but the last.
    fn leaves(trust: &mut Trust, from: i64) -> i64 {
        (from..i64::MAX).find(|&key| !trust.leaves(Rank::new(Priority::NORMAL, key))).unwrap() - from
    }

    /// Its first batches may have found nothing warm, and there are no others from which to learn better.
    #[test]
    fn who_is_thought_slow_tries_again() {
        let mut trust = Trust::default();
        let rank = Rank::new(Priority::NORMAL, 0);
        assert!((0..1000).all(|_| trust.leaves(rank)), "one task, however often it is asked");
        assert_eq!(leaves(&mut trust, 1), i64::from(OFTEN) - 1);
        trust.has_cut();
        assert_eq!(leaves(&mut trust, 0), i64::from(OFTEN));
        (0..FEW).for_each(|_| trust.has_cut());
        assert_eq!(leaves(&mut trust, 0), i64::from(SELDOM), "it is known by now");
    }
}
