//! Views: the pool as each of its runtimes sees it.

use crate::shared::Inner;
use skep_runtime_core::pool::{Batch, Doorbell, Expired, Look, Lost, Pool, Rank, Returned, Terms};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::{Counts, DeviceLoss, FailureRules, Meter, RuntimeId, Shutdown, TensorOps, Verify};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The pool as one runtime sees it.
pub(crate) struct View<O: TensorOps> {
    pool: Arc<Inner<O>>,
    number: u32,
    /// Other runtimes may feed from the pool as well.
    shares: bool,
    /// Its share of the counts for good, if it has left and others have not.
    left: OnceLock<Counts>,
}

impl<O: TensorOps> View<O> {
    pub(crate) fn new(pool: &Arc<Inner<O>>, shares: bool) -> Self {
        Self { pool: Arc::clone(pool), number: pool.next_view(), shares, left: OnceLock::new() }
    }

    fn note_left(&self, share: Option<Counts>) {
        if let Some(share) = share {
            self.left.set(share).ok();
        }
    }
}

impl<O: TensorOps> Meter for View<O> {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn counts(&self) -> Counts {
        self.left.get().copied().unwrap_or_else(|| self.pool.share(self.number))
    }
}

impl<O: TensorOps> Pool<O::Tensor> for View<O> {
    fn claim(&self, by: RuntimeId) -> bool {
        self.pool.claim(self.number, self.shares, by)
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

    fn cut(&self, terms: &Terms) -> Option<Batch<O::Tensor>> {
        self.pool.cut(self.number, terms)
    }

    fn cut_if(&self, rank: Rank, terms: &Terms) -> (Option<Batch<O::Tensor>>, Look) {
        self.pool.cut_if(self.number, rank, terms)
    }

    fn wake_at(&self, rows: usize) {
        self.pool.state.lock().wake_at = rows;
    }

    fn after_cut(&self) {
        self.pool.after_cut();
    }

    fn expire(&self, by: RuntimeId, now: Instant) -> Expired<O::Tensor> {
        self.pool.expire(self.number, by, now)
    }

    fn close(&self, by: RuntimeId, how: Shutdown) {
        self.note_left(self.pool.end(self.number, by, how, false));
    }

    fn remove(&self, by: RuntimeId, how: Shutdown) {
        self.note_left(self.pool.end(self.number, by, how, true));
    }

    fn shares(&self) -> bool {
        self.pool.is_shared.load(Ordering::SeqCst)
    }

    fn take_back(&self, tasks: Vec<Returned<O::Tensor>>) -> Vec<Returned<O::Tensor>> {
        self.pool.take_back(self.number, tasks)
    }

    fn lose(&self, by: RuntimeId, loss: &DeviceLoss) -> Lost<O::Tensor> {
        self.pool.lose(self.number, by, loss)
    }
}
