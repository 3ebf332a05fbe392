//! Shapes: which group is whose, and which of many is next. No answer looks at them all.

use super::group::{Filed, Pace};
use super::item::Key;
use skep_runtime_core::Dims;
use skep_runtime_core::pool::Rank;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Groups by their places in a table. Most blocks have no free dims, and then there is none of this.
pub(crate) struct Shapes<R> {
    pub(crate) places: HashMap<Dims, usize>,
    /// Places that are empty.
    pub(crate) free_places: Vec<usize>,
    pub(crate) index: Index<R>,
}

impl<R: Copy + Ord> Shapes<R> {
    pub(crate) fn new() -> Self {
        Self { places: HashMap::new(), free_places: Vec::new(), index: Index::new() }
    }
}

/// Groups in the orders in which they are asked for.
pub(crate) struct Index<R> {
    /// How each stands, if it does.
    filed: Vec<Option<Filed<R>>>,
    ripe: BTreeSet<(Rank, usize)>,
    unripe: BTreeSet<(Rank, usize)>,
    /// Of those that are unripe, when they will be ripe all the same.
    due: BTreeSet<(Instant, usize)>,
    /// By the least urgent item.
    last: BTreeSet<(Key<R>, usize)>,
    /// The rows from which groups were filed as ripe.
    pub(crate) min_rows: usize,
}

impl<R: Copy + Ord> Index<R> {
    pub(crate) const fn new() -> Self {
        Self {
            filed: Vec::new(),
            ripe: BTreeSet::new(),
            unripe: BTreeSet::new(),
            due: BTreeSet::new(),
            last: BTreeSet::new(),
            min_rows: 1,
        }
    }

    /// Files a group anew. Returns true if it was filed and is no more.
    pub(crate) fn file(&mut self, at: usize, new: Option<Filed<R>>) -> bool {
        if self.filed.len() <= at {
            self.filed.resize(at + 1, None);
        }
        let old = std::mem::replace(&mut self.filed[at], new);
        if old == new {
            return false;
        }
        if let Some(old) = old {
            let by_rank = if old.is_ripe { &mut self.ripe } else { &mut self.unripe };
            by_rank.remove(&(old.rank, at));
            old.due.map(|due| self.due.remove(&(due, at)));
            old.last.map(|last| self.last.remove(&(last, at)));
        }
        if let Some(new) = new {
            let by_rank = if new.is_ripe { &mut self.ripe } else { &mut self.unripe };
            by_rank.insert((new.rank, at));
            new.due.map(|due| self.due.insert((due, at)));
            new.last.map(|last| self.last.insert((last, at)));
        }
        old.is_some() && new.is_none()
    }

    /// Files as ripe whose time has come.
    pub(crate) fn ripen(&mut self, now: Instant) {
        while let Some(&(_, at)) = self.due.first().filter(|(due, _)| *due <= now) {
            let filed = self.filed[at].map(|filed| Filed { is_ripe: true, due: None, ..filed });
            self.file(at, filed);
        }
    }

    /// The group that is next.
    pub(crate) fn first(&self, pace: Pace) -> Option<usize> {
        let unripe = self.unripe.first().filter(|_| pace.at_once);
        self.ripe.first().into_iter().chain(unripe).min().map(|(_, at)| *at)
    }

    /// When there will be one.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Groups by their least urgent item, the least urgent first.
    pub(crate) fn least_urgent(&self) -> impl Iterator<Item = usize> {
        self.last.iter().rev().map(|(_, at)| *at)
    }
}
