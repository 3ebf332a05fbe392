//! A pool that does what another does, and panics if a case wants it to.

use skep_pool::TaskPool;
use skep_runtime_core::pool::{Batch, Doorbell, Expired, Look, Policy, Pool, Terms};
use skep_runtime_core::{Counts, Device, Meter, RuntimeId, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A method of [`Pool`] that can panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// [`Pool::attach`].
    Attach,
    /// [`Pool::look`].
    Look,
    /// [`Pool::cut`].
    Cut,
    /// [`Pool::after_cut`].
    AfterCut,
    /// [`Pool::expire`].
    Expire,
    /// [`Pool::close`], and all that it would do with it.
    Close,
}

/// A pool that panics in one of its methods while it is armed.
pub struct Moody<D: Device> {
    inner: Arc<dyn Pool<D::Tensor>>,
    method: Method,
    armed: Arc<AtomicBool>,
}

impl<D: Device> Moody<D> {
    /// Returns a pool as the runtime sees it, and the flag that arms it.
    pub fn armable(pool: &TaskPool<D>, method: Method) -> (Arc<dyn Pool<D::Tensor>>, Arc<AtomicBool>) {
        let armed = Arc::new(AtomicBool::new(false));
        (Arc::new(Self { inner: pool.as_pool(), method, armed: Arc::clone(&armed) }), armed)
    }

    fn enter(&self, method: Method) -> &dyn Pool<D::Tensor> {
        assert!(method != self.method || !self.armed.load(Ordering::SeqCst), "on purpose: {method:?}");
        &*self.inner
    }
}

impl<D: Device> Meter for Moody<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }
}

impl<D: Device> Pool<D::Tensor> for Moody<D> {
    fn rank_by(&self, by: RuntimeId, policy: &Arc<dyn Policy>) -> Result<(), &'static str> {
        self.inner.rank_by(by, policy)
    }

    fn attach(&self, doorbell: Doorbell) {
        self.enter(Method::Attach).attach(doorbell);
    }

    fn look(&self, now: Instant, most_rows: usize) -> Look {
        self.enter(Method::Look).look(now, most_rows)
    }

    fn cut(&self, terms: &Terms) -> Option<Batch<D::Tensor>> {
        self.enter(Method::Cut).cut(terms)
    }

    fn after_cut(&self) {
        self.enter(Method::AfterCut).after_cut();
    }

    fn claim(&self, by: RuntimeId) -> bool {
        self.inner.claim(by)
    }

    fn expire(&self, by: RuntimeId, now: Instant) -> Expired<D::Tensor> {
        self.enter(Method::Expire).expire(by, now)
    }

    fn close(&self, by: RuntimeId, how: Shutdown) {
        self.enter(Method::Close).close(by, how);
    }

    fn remove(&self, by: RuntimeId, how: Shutdown) {
        self.enter(Method::Close).remove(by, how);
    }
}
