//! One of the residents.

use crate::contract::id::PoolId;
use crate::contract::rank::Rank;
use std::time::{Duration, Instant};

/// How urgently a block is wanted: for work with it before anything else, then by its most urgent task.
pub(super) type Want = Option<Rank>;

pub(super) struct Resident {
    pub(super) bytes: u64,
    pub(super) place: Place,
    /// Its pools that could run, each with its most urgent task.
    pub(super) ready: Vec<(PoolId, Rank)>,
    /// Pieces of work with the block that wait for it.
    pub(super) jobs: usize,
    /// When it was used last, among all uses.
    pub(super) used: u64,
    /// Its place among those that are wanted.
    pub(super) filed: Option<Want>,
    /// It cannot leave.
    pub(super) is_fixed: bool,
    /// It has left the runtime, and the porter still has it in hand.
    pub(super) is_gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the device.
    On {
        since: Instant,
        /// How long it took to come.
        took: Duration,
        has_run: bool,
    },
    /// On the device, and no more batches are cut.
    Leaving,
    /// In the porter's hands, on the way out.
    Going,
    Off,
    /// Next, as soon as there is room.
    Coming,
    /// In the porter's hands, on the way in.
    Loading,
}

impl Resident {
    /// A block that nobody wants yet.
    pub(super) fn new(bytes: u64, place: Place, jobs: usize) -> Self {
        let (ready, filed) = (Vec::new(), None);
        Self { bytes, place, ready, jobs, used: 0, filed, is_fixed: false, is_gone: false }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self.place, Place::On { .. })
    }

    pub(super) fn want(&self) -> Option<Want> {
        if self.jobs > 0 { Some(None) } else { self.ready.iter().map(|(_, rank)| Some(*rank)).min() }
    }

    /// Returns true if it may leave for a block that is wanted so urgently.
    pub(super) fn makes_room(&self, want: Want, now: Instant) -> bool {
        let Place::On { since, took, has_run } = self.place else { return false };
        if self.is_fixed || self.jobs > 0 {
            return false;
        }
        let Some(own) = self.ready.iter().map(|(_, rank)| *rank).min() else { return true };
        let has_stayed = || {
            let is_of_its_class = want.is_some_and(|want| want.class() == own.class());
            !is_of_its_class || now.saturating_duration_since(since) >= took
        };
        has_run && want < Some(own) && has_stayed()
    }
}
