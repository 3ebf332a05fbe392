//! Tasks of one shape, which can run in one batch.

use super::item::{Item, Key, Place};
use super::limit::Limit;
use super::ordered::Ordered;
use super::times::Times;
use crate::options::{PoolOptions, elements};
use skep_runtime_core::Dims;
use skep_runtime_core::pool::{Look, Outlook, Rank};
use std::time::Instant;

/// When a batch may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// As soon as there are so many rows.
    pub(crate) min_rows: usize,
    /// At once: no company can come.
    pub(crate) at_once: bool,
    /// The most rows of a batch.
    pub(crate) max_rows: usize,
}

/// Tasks whose free dims agree, as far as they must.
pub(crate) struct Group<I: Item> {
    pub(crate) free: Dims,
    /// The elements of a row, as far as they differ between groups.
    of_row: usize,
    /// The most rows of a batch, if each has as few elements as any here can have.
    pub(crate) most: usize,
    /// The most elements of a batch.
    max_elements: usize,
    pub(crate) items: Ordered<I>,
    pub(crate) rows: usize,
    /// Of all rows.
    elements: usize,
    /// When each item has waited for company for long enough, if it may wait for any.
    due: Times<Key<I::Rank>>,
}

/// How a group stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filed<R> {
    /// The rank of its first item.
    pub(crate) rank: Rank,
    /// A batch of it can be cut.
    pub(crate) is_ripe: bool,
    /// If it is not ripe, when it will be all the same.
    pub(crate) due: Option<Instant>,
    /// Its least urgent item, if somebody wants to know.
    pub(crate) last: Option<Key<R>>,
}

impl<I: Item<Rank = Place>> Group<I> {
    pub(crate) fn new(free: Dims, options: &PoolOptions) -> Self {
        let of_row = elements(&free);
        let (most, max_elements) = (options.most_rows(of_row), options.max_elements.unwrap_or(usize::MAX));
        Self {
            free,
            of_row,
            most,
            max_elements,
            items: Ordered::new(),
            rows: 0,
            elements: 0,
            due: Times::new(),
        }
    }

    /// The most that a batch may have.
    #[inline]
    pub(crate) const fn limit(&self) -> Limit {
        Limit { rows: self.most, elements: self.max_elements }
    }

    /// The elements of a row: where tasks of all sizes are together, in the middle, rounded up.
    #[inline]
    fn elements_of_row(&self) -> usize {
        // A division for each look would be dear where nobody needs it.
        if !self.free.is_empty() || self.elements == self.rows {
            return self.of_row;
        }
        self.elements.div_ceil(self.rows.max(1)).max(1)
    }

    /// The most rows of a batch of such as are here.
    #[inline]
    pub(crate) fn most_now(&self) -> usize {
        if self.max_elements == usize::MAX {
            return self.most;
        }
        self.most.min((self.max_elements / self.elements_of_row()).max(1))
    }

    /// Accounts for items that have left as a segment.
    pub(crate) fn left_together(&mut self, rows: usize, elements: usize) {
        self.rows -= rows;
        self.elements = self.elements.wrapping_sub(elements);
    }

    /// Adds an item. Returns true if it is the first one now, and if it is the first that will have waited for company for
    /// long enough.
    #[inline]
    pub(crate) fn push(&mut self, key: Key<I::Rank>, item: I, options: &PoolOptions) -> (bool, bool) {
        self.rows += item.rows();
        self.elements = self.elements.wrapping_add(item.elements());
        let is_due_first = due(&item, options).is_some_and(|due| self.due.push(due, key));
        (self.items.push(key, item, self.most), is_due_first)
    }

    /// Accounts for items that have left.
    pub(crate) fn left<'a>(&mut self, items: impl Iterator<Item = &'a I>, options: &PoolOptions)
    where
        I: 'a,
    {
        let mut timed = 0;
        for item in items {
            self.left_together(item.rows(), item.elements());
            timed += usize::from(due(item, options).is_some());
        }
        if timed > 0 {
            self.due.left(timed, |key| self.items.get(key).is_some());
        }
    }

    #[inline]
    pub(crate) fn outlook(&self, pace: Pace) -> Option<Outlook> {
        let (key, _) = self.items.first()?;
        let most = self.most_now();
        let outlook = Outlook::new(key.rank.rank(), self.rows).rows(self.rows, most);
        let outlook = outlook.elements(self.elements_of_row()).by_elements(most < pace.max_rows);
        Some(outlook.at_once(pace.at_once || self.rows < pace.min_rows.min(most)))
    }

    #[inline]
    pub(crate) fn look(&mut self, now: Instant, pace: Pace) -> Look {
        let Some(outlook) = self.outlook(pace) else { return Look::Idle };
        if pace.at_once || self.rows >= pace.min_rows.min(self.most_now()) {
            return Look::Ready(outlook);
        }
        match self.due.first(|key| self.items.get(key).is_some()) {
            Some(time) if time > now => Look::At(time),
            Some(_) => Look::Ready(outlook),
            None => Look::Idle,
        }
    }

    /// How it stands among others; `None` if it is empty.
    pub(crate) fn stand(&mut self, min_rows: usize, evicts: bool) -> Option<Filed<I::Rank>> {
        let rank = self.items.first()?.0.rank.rank();
        let is_ripe = self.rows >= min_rows.min(self.most_now());
        let due = if is_ripe { None } else { self.due.first(|key| self.items.get(key).is_some()) };
        let last = if evicts { self.items.iter_back().next().map(|(key, _)| key) } else { None };
        Some(Filed { rank, is_ripe, due, last })
    }
}

/// When an item has waited for company for long enough: for `max_delay`, and no longer than half of the time that it has
/// until its deadline, so that the other half is left for the batch to be gathered, or to wait for the device.
#[inline]
fn due<I: Item>(item: &I, options: &PoolOptions) -> Option<Instant> {
    if options.min_rows <= 1 {
        return None;
    }
    let header = item.header();
    let by_delay = options.max_delay.and_then(|delay| item.since().checked_add(delay));
    let half = |deadline: Instant| {
        header.submitted.checked_add(deadline.saturating_duration_since(header.submitted) / 2)
    };
    by_delay.into_iter().chain(header.deadline.and_then(half)).min()
}
