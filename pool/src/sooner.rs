//! Devices of different speeds: a slow one leaves to a faster one what that has done sooner.

use skep_runtime_core::Price;
use skep_runtime_core::pool::{Outlook, Terms};
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
        if self.elements != outlook.elements || takes >= time {
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
