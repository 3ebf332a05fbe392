//! Where batches wait between the threads, and who may cut the next one.
//!
//! Locked for the time of a choice, never while a tensor is touched or a caller is told anything.

use super::ceiling::Ceiling;
use super::flight::{Cut, Flight, Joined, Loaded};
use super::select::Selector;
use crate::pool::{PoolId, Shutdown};
use crate::priority::Urgency;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

pub(crate) struct Stage<T> {
    pub(crate) selector: Selector,
    /// How many rings have been answered by a look at their pool.
    pub(crate) heard: usize,
    /// Batches on the device that have not started, oldest first.
    pub(crate) loaded: VecDeque<Loaded<T>>,
    /// Batches cut and being gathered by the loader.
    pub(crate) loading: usize,
    /// Replies of every batch that has been cut and not yet delivered.
    pub(crate) flights: Vec<Arc<Flight<T>>>,
    /// How the runtime is to stop, once it is.
    pub(crate) stop: Option<Shutdown>,
    /// All pools refuse new tasks, so what is empty now stays empty.
    pub(crate) closed: bool,
    /// The device thread has ended.
    pub(crate) ended: bool,
    /// Parts of batches that failed, which run again. Few: a batch leaves one at each halving.
    #[expect(clippy::vec_box, reason = "they come boxed and go boxed")]
    parts: Vec<Box<Cut<T>>>,
    /// Pools of which a batch was too large for the device.
    ceilings: HashMap<PoolId, Ceiling>,
}

impl<T> Stage<T> {
    pub(crate) fn new(pools: usize) -> Self {
        Self {
            selector: Selector::new(pools),
            heard: 0,
            loaded: VecDeque::new(),
            loading: 0,
            flights: Vec::new(),
            stop: None,
            closed: false,
            ended: false,
            parts: Vec::new(),
            ceilings: HashMap::new(),
        }
    }

    /// Whether there is a batch to cut.
    pub(crate) fn has_work(&self) -> bool {
        !self.parts.is_empty() || self.selector.most_urgent().is_some()
    }

    /// The most rows that the next batch of a pool may have.
    pub(crate) fn most_rows(&self, pool: PoolId) -> usize {
        self.ceilings.get(&pool).map_or(usize::MAX, Ceiling::rows)
    }

    /// Notes that a batch of this many rows was too large.
    pub(crate) fn too_large(&mut self, pool: PoolId, rows: usize) {
        self.ceilings.entry(pool).or_insert_with(Ceiling::new).failed(rows);
    }

    /// Notes that a batch of this many rows had room.
    pub(crate) fn fitted(&mut self, pool: PoolId, rows: usize) {
        if self.ceilings.get_mut(&pool).is_some_and(|ceiling| ceiling.fitted(rows)) {
            self.ceilings.remove(&pool);
        }
    }

    /// The next batch that was gathered ahead. Those that are now known to be too large are halved; what they
    /// had on the device goes to `useless`, to be freed once the lock is released.
    pub(crate) fn take_loaded(&mut self, useless: &mut Vec<T>) -> Option<Loaded<T>> {
        while let Some(loaded) = self.loaded.pop_front() {
            if !self.exceeds(&loaded.batch) {
                return Some(loaded);
            }
            useless.extend(loaded.inputs);
            self.halve(loaded.batch);
        }
        None
    }

    /// The most urgent part of a batch that failed, unless a pool is more urgent.
    pub(crate) fn take_part(&mut self, pool: Option<Urgency>) -> Option<Box<Cut<T>>> {
        loop {
            // Of equal ones the newest: a batch is taken apart to its end before the next one is.
            let (at, part) = self.parts.iter().enumerate().rev().min_by_key(|(_, part)| part.urgency)?;
            if pool.is_some_and(|pool| pool < part.urgency) {
                return None;
            }
            let exceeds = self.exceeds(part);
            let part = self.parts.remove(at);
            if exceeds {
                self.halve(part);
            } else {
                return Some(part);
            }
        }
    }

    fn exceeds(&self, batch: &Cut<T>) -> bool {
        batch.rows.len() > 1 && batch.total_rows() > self.most_rows(batch.flight.pool)
    }

    /// Files a batch to run in two halves.
    pub(crate) fn halve(&mut self, batch: Box<Cut<T>>) {
        self.forget(&batch.flight);
        let from = self.parts.len();
        for half in batch.halves() {
            self.flights.push(Arc::clone(&half.flight));
            self.parts.push(half);
        }
        self.parts[from..].reverse();
    }

    /// Takes out every batch that has been cut and is not running.
    pub(crate) fn take_unstarted(&mut self) -> Vec<Loaded<T>> {
        let parts = self.parts.drain(..).map(|batch| Loaded { batch, inputs: Joined::new() });
        self.loaded.drain(..).chain(parts).collect()
    }

    /// Forgets a flight whose replies have been taken.
    pub(crate) fn forget(&mut self, flight: &Arc<Flight<T>>) {
        if let Some(at) = self.flights.iter().position(|other| Arc::ptr_eq(other, flight)) {
            self.flights.swap_remove(at);
        }
    }
}
