//! The stage: where batches wait between the threads, and the tables by which the next one is chosen.
//!
//! Locked for the time of a choice, never while a tensor is touched or a caller is told anything.

use super::batch::{CutBatch, GatheredBatch, Joined};
use super::directory::Directory;
use super::flight::Flight;
use super::trial::Trial;
use crate::contract::event::CutReason;
use crate::contract::id::{BlockId, PoolId};
use crate::contract::pool::{Look, Shutdown};
use crate::contract::rank::Rank;
use crate::policy::ceiling::Ceilings;
use crate::policy::residents::Residents;
use crate::policy::selector::Selector;
use crate::sync::flume;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Stage<T> {
    pub(crate) directory: Directory<T>,
    pub(crate) selector: Selector,
    /// Which blocks are on the device, of those that may leave it.
    pub(crate) residents: Residents,
    pub(crate) rings: flume::Receiver<PoolId>,
    /// The number of rings that have been answered by a look at their pool.
    pub(crate) heard: usize,
    /// Batches on the device that have not started, oldest first.
    pub(crate) gathered: VecDeque<GatheredBatch<T>>,
    /// Batches cut and being gathered by the loader.
    pub(crate) gathering: usize,
    /// Replies of every batch that has been cut and not yet delivered.
    pub(crate) flights: Vec<Arc<Flight<T>>>,
    /// Expired tasks may have left their pool and have no answer yet.
    pub(crate) expiring: bool,
    /// The way in which the runtime is to stop, once it is.
    pub(crate) stop: Option<Shutdown>,
    /// All pools refuse new tasks, so what is empty now stays empty.
    pub(crate) closed: bool,
    /// The device thread has ended.
    pub(crate) ended: bool,
    /// Halves of batches that failed, which run again. Few: a batch leaves one at each halving.
    #[expect(clippy::vec_box, reason = "they come boxed and go boxed")]
    halves: Vec<Box<CutBatch<T>>>,
    /// Pools of which a batch was too large for the device.
    pub(crate) ceilings: Ceilings,
    /// Pools whose last batch failed task by task: their block may be broken.
    in_doubt: HashSet<PoolId>,
}

impl<T> Stage<T> {
    pub(crate) fn new(
        directory: Directory<T>,
        rings: flume::Receiver<PoolId>,
        selector: Selector,
        residents: Residents,
    ) -> Self {
        Self {
            directory,
            selector,
            residents,
            rings,
            heard: 0,
            gathered: VecDeque::new(),
            gathering: 0,
            flights: Vec::new(),
            expiring: false,
            stop: None,
            closed: false,
            ended: false,
            halves: Vec::new(),
            ceilings: Ceilings::default(),
            in_doubt: HashSet::new(),
        }
    }

    /// Files a pool by how it looks.
    #[inline]
    pub(crate) fn note(&mut self, block: BlockId, pool: PoolId, look: Look) {
        let look = self.admit(block, pool, look);
        self.selector.note(pool, look);
    }

    /// Returns how a pool looks to the selector: it cannot run without its block.
    #[inline]
    pub(crate) fn admit(&mut self, block: BlockId, pool: PoolId, look: Look) -> Look {
        if self.residents.note(block.slot, pool, &look) { look } else { Look::Idle }
    }

    /// Returns true if there is a batch to cut.
    pub(crate) fn has_work(&self) -> bool {
        !self.halves.is_empty() || self.selector.first().is_some()
    }

    /// The most rows that the next batch of a pool may have.
    pub(crate) fn most_rows(&self, pool: PoolId) -> usize {
        self.ceilings.most_rows(pool)
    }

    /// Notes that a batch of this many rows was too large.
    pub(crate) fn too_large(&mut self, pool: PoolId, rows: usize) {
        self.ceilings.failed(pool, rows);
    }

    pub(crate) fn is_in_doubt(&self, pool: PoolId) -> bool {
        self.in_doubt.contains(&pool)
    }

    /// Notes that the block behind a pool may be broken.
    pub(crate) fn doubt(&mut self, pool: PoolId) {
        self.in_doubt.insert(pool);
    }

    /// Notes that a batch of this many rows succeeded, so it had room and the block is not broken. Returns true if there
    /// is more to be learned of batches that succeed.
    pub(crate) fn fitted(&mut self, pool: PoolId, rows: usize) -> bool {
        if !self.in_doubt.is_empty() {
            self.in_doubt.remove(&pool);
        }
        self.ceilings.fitted(pool, rows);
        !self.in_doubt.is_empty() || !self.ceilings.is_empty()
    }

    /// The next batch that was gathered ahead. Those that are now known to be too large are halved; what they
    /// had on the device goes to `useless`, to be freed once the lock is released.
    pub(crate) fn take_gathered(&mut self, useless: &mut Vec<T>) -> Option<GatheredBatch<T>> {
        while let Some(gathered) = self.gathered.pop_front() {
            if !self.exceeds(&gathered.batch) {
                return Some(gathered);
            }
            useless.extend(gathered.inputs);
            self.halve_unstarted(gathered.batch);
        }
        None
    }

    /// The most urgent half of a batch that failed, unless a pool has a lower rank.
    pub(crate) fn take_half(&mut self, pool: Option<Rank>) -> Option<Box<CutBatch<T>>> {
        loop {
            // Of equal ones the newest: a batch is taken apart to its end before the next one is.
            let (at, half) = self.halves.iter().enumerate().rev().min_by_key(|(_, half)| half.rank)?;
            if pool.is_some_and(|pool| pool < half.rank) {
                return None;
            }
            let exceeds = self.exceeds(half);
            let half = self.halves.remove(at);
            if exceeds {
                self.halve_unstarted(half);
            } else {
                return Some(half);
            }
        }
    }

    fn exceeds(&self, batch: &CutBatch<T>) -> bool {
        let is_divisible = batch.headers.len() > 1 || batch.is_divisible_part();
        is_divisible && batch.rows() > self.most_rows(batch.flight.pool)
    }

    /// Files a batch that is too large to run in two halves.
    fn halve_unstarted(&mut self, mut batch: Box<CutBatch<T>>) {
        if let Some(price) = batch.forecast.price {
            self.selector.is_due(std::mem::take(&mut batch.ahead), price);
            self.selector.left_out(batch.station.id, &batch.headers, &batch.forecast, true);
        }
        self.halve(batch);
    }

    /// Files a batch to run in two halves.
    pub(crate) fn halve(&mut self, batch: Box<CutBatch<T>>) {
        self.forget(&batch.flight);
        let from = self.halves.len();
        for half in batch.halves() {
            self.file(half);
        }
        self.halves[from..].reverse();
    }

    /// Files a batch to run in probes, and then the rest of it.
    pub(crate) fn probe(&mut self, batch: Box<CutBatch<T>>) {
        self.forget(&batch.flight);
        for piece in batch.probes(Trial::PROBES) {
            self.file(piece);
        }
    }

    /// Files a batch to run again.
    pub(crate) fn file(&mut self, mut half: Box<CutBatch<T>>) {
        half.forecast.reason = CutReason::Half;
        half.forecast.put_off = Duration::ZERO;
        half.ahead = half.rows();
        self.selector.half(half.station.id, half.ahead, half.forecast.price);
        self.flights.push(Arc::clone(&half.flight));
        self.halves.push(half);
    }

    /// Takes out every batch that has been cut and is not running.
    pub(crate) fn take_unstarted(&mut self) -> Vec<GatheredBatch<T>> {
        self.take_unstarted_if(|_| true)
    }

    /// Takes out such batches, if they are of these pools.
    pub(crate) fn take_unstarted_if(&mut self, of: impl Fn(PoolId) -> bool) -> Vec<GatheredBatch<T>> {
        let (mut taken, kept): (Vec<_>, _) =
            self.gathered.drain(..).partition::<Vec<_>, _>(|gathered| of(gathered.batch.flight.pool));
        self.gathered = kept.into();
        let (halves, kept) = self.halves.drain(..).partition(|half| of(half.flight.pool));
        self.halves = kept;
        taken.extend(Vec::into_iter(halves).map(|batch| GatheredBatch { batch, inputs: Joined::new() }));
        taken
    }

    /// Returns true if a batch has been cut and nobody works on it.
    pub(crate) fn is_unstarted(&self, flight: &Arc<Flight<T>>) -> bool {
        let gathered = self.gathered.iter().map(|gathered| &gathered.batch);
        gathered.chain(&self.halves).any(|batch| Arc::ptr_eq(&batch.flight, flight))
    }

    /// Forgets what is known of pools that are gone, before their places are let again.
    pub(crate) fn forget_pool(&mut self, pool: PoolId) {
        self.selector.forget(pool);
        self.forget_lessons(pool);
    }

    /// Forgets what failed batches of a pool have taught: its block is another one.
    pub(crate) fn forget_lessons(&mut self, pool: PoolId) {
        self.ceilings.forget(pool);
        self.selector.unlearn(pool);
        self.in_doubt.remove(&pool);
    }

    /// Forgets a flight whose replies have been taken.
    pub(crate) fn forget(&mut self, flight: &Arc<Flight<T>>) {
        if let Some(at) = self.flights.iter().position(|other| Arc::ptr_eq(other, flight)) {
            self.flights.swap_remove(at);
        }
    }
}
