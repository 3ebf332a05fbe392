//! Views: the pool as each of its runtimes sees it.

use crate::shared::{Inner, State};
use skep_runtime_core::pool::{Batch, Doorbell, Expired, Look, Policy, Pool, Rank, Returned, Settled, Terms};
use skep_runtime_core::sync::atomic::{AtomicU64, Ordering};
use skep_runtime_core::{
    Counts, DeviceLoss, FailureRules, Meter, Padding, RuntimeId, Shutdown, TensorOps, Verify,
};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The pool as one runtime sees it.
pub(crate) struct View<O: TensorOps> {
    pool: Arc<Inner<O>>,
    pub(crate) number: u32,
    /// Other runtimes may feed from the pool as well.
    shares: bool,
    /// Its share of the counts for good, once it has left.
    left: OnceLock<Counts>,
    /// Tasks of that share that others have got since. Both are written under the pool's lock.
    back: AtomicU64,
}

impl<O: TensorOps> View<O> {
    pub(crate) fn new(pool: &Arc<Inner<O>>, shares: bool) -> Self {
        let (pool, number) = (Arc::clone(pool), pool.next_view());
        Self { pool, number, shares, left: OnceLock::new(), back: AtomicU64::new(0) }
    }

    /// Returns true if its runtime has left: it is no other one's then.
    pub(crate) fn has_left(&self) -> bool {
        self.left.get().is_some()
    }

    /// Takes its runtime out, and its share of the counts.
    pub(crate) fn leave(&self, state: &mut State<O::Tensor>) {
        let all = state.present();
        if let Some(share) = state.seats.leave(self.number, all) {
            (state.counts, state.gone) = (state.counts - share, state.gone + share);
            self.left.set(share).ok();
        }
    }

    /// Counts tasks as waiting again that were cut for its runtime, whether that has left or not.
    pub(crate) fn count_back(&self, state: &mut State<O::Tensor>, tasks: u64) {
        if !self.has_left() {
            return state.seats.count_back(self.number, tasks);
        }
        let back = Counts::default().submitted(tasks);
        self.back.fetch_add(tasks, Ordering::Relaxed);
        (state.counts, state.gone) = (state.counts + back, state.gone - back);
    }

    /// Its share of the counts.
    pub(crate) fn share(&self, state: &State<O::Tensor>) -> Counts {
        match self.left.get() {
            Some(left) => *left - Counts::default().submitted(self.back.load(Ordering::Relaxed)),
            None => state.seats.share(self.number, state.present()),
        }
    }
}

impl<O: TensorOps> Meter for View<O> {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn counts(&self) -> Counts {
        self.share(&self.pool.state.lock())
    }
}

impl<O: TensorOps> Pool<O::Tensor> for View<O> {
    fn claim(&self, by: RuntimeId) -> bool {
        !self.has_left() && self.pool.claim(self.number, self.shares, by)
    }

    fn rank_by(&self, by: RuntimeId, policy: &Arc<dyn Policy>) -> Result<(), &'static str> {
        self.pool.state.lock().seats.rank_by(self.number, by, policy)
    }

    fn attach(&self, doorbell: Doorbell) {
        self.pool.attach(self.number, doorbell);
    }

    fn look(&self, now: Instant, most_rows: usize) -> Look {
        self.pool.look(self.number, now, most_rows, false)
    }

    fn look_again(&self, now: Instant, most_rows: usize) -> Look {
        self.pool.look(self.number, now, most_rows, true)
    }

    fn failure_rules(&self) -> FailureRules {
        self.pool.options.failures
    }

    fn verify(&self) -> Option<Verify> {
        self.pool.options.verify
    }

    fn padding(&self) -> Option<Padding> {
        self.pool.options.padding.clone()
    }

    fn cut(&self, terms: &Terms) -> Option<Batch<O::Tensor>> {
        self.pool.cut(self.number, terms)
    }

    fn cut_if(&self, rank: Rank, terms: &Terms, look: &mut Look) -> Option<Batch<O::Tensor>> {
        self.pool.cut_if(self.number, rank, terms, look)
    }

    fn wake_at(&self, rows: usize) {
        if let Some(seat) = self.pool.state.lock().seats.of(self.number) {
            seat.wake_at = rows;
        }
    }

    fn after_cut(&self) {
        self.pool.after_cut();
    }

    fn expire(&self, by: RuntimeId, now: Instant) -> Expired<O::Tensor> {
        self.pool.expire(self.number, by, now)
    }

    fn close(&self, by: RuntimeId, how: Shutdown) {
        self.pool.end(self, by, how, false);
    }

    fn remove(&self, by: RuntimeId, how: Shutdown) {
        self.pool.end(self, by, how, true);
    }

    fn take_back(&self, tasks: Vec<Returned<O::Tensor>>) -> Vec<Returned<O::Tensor>> {
        self.pool.take_back(self, tasks)
    }

    fn lose(&self, by: RuntimeId, loss: &DeviceLoss) -> Vec<Settled<O::Tensor>> {
        self.pool.lose(self, by, loss)
    }
}
