//! The doorbell: a pool's way to wake its runtime.

use crate::contract::clock::Clock;
use crate::contract::id::{PoolId, RuntimeId};
use crate::contract::policy::Policy;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::contract::thread_mark::on_thread_of;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The runtime's side of its pools' doorbells. Neither method waits.
pub trait Ring: Send + Sync {
    /// Hears that an earlier look at the pool may be out of date.
    fn ring(&self, pool: PoolId);

    /// Hears that [`Pool::expire`](super::pool::Pool::expire) is to be called at this time.
    fn expire_at(&self, pool: PoolId, at: Instant);
}

/// A pool's way to wake its runtime: [`Pool::attach`](super::pool::Pool::attach) brings it. Cheap to clone: that is done
/// for each ring.
#[derive(Clone)]
pub struct Doorbell(Arc<Wire>);

/// All that is behind a doorbell.
struct Wire {
    pool: PoolId,
    runtime: RuntimeId,
    spin: Duration,
    clock: Arc<dyn Clock>,
    policy: Arc<dyn Policy>,
    ring: Arc<dyn Ring>,
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}

impl Doorbell {
    /// Creates a doorbell, for tests of pools of one's own: a runtime makes those of its pools.
    pub fn new(
        pool: PoolId,
        runtime: RuntimeId,
        spin: Duration,
        clock: Arc<dyn Clock>,
        policy: Arc<dyn Policy>,
        ring: Arc<dyn Ring>,
    ) -> Self {
        Self(Arc::new(Wire { pool, runtime, spin, clock, policy, ring }))
    }

    /// Returns the rank of a task that waits in the pool, by the runtime's policy.
    #[inline]
    pub fn rank(&self, task: &TaskHeader) -> Rank {
        self.0.policy.rank(self.0.pool, task)
    }

    /// Returns true if the rank of a task that waits in the pool may fall, by the runtime's policy.
    #[inline]
    pub fn may_fall(&self, task: &TaskHeader) -> bool {
        self.0.policy.may_fall(self.0.pool, task)
    }

    /// Returns the runtime's policy.
    pub fn policy(&self) -> &Arc<dyn Policy> {
        &self.0.policy
    }

    /// Returns the pool that this is the bell of.
    pub fn pool(&self) -> PoolId {
        self.0.pool
    }

    /// Asks the runtime to look at the pool again. Never waits.
    pub fn ring(&self) {
        self.0.ring.ring(self.0.pool);
    }

    /// Asks the runtime to call [`Pool::expire`](super::pool::Pool::expire) at this time. Never waits.
    pub fn expire_at(&self, at: Instant) {
        self.0.ring.expire_at(self.0.pool, at);
    }

    /// Returns the runtime's clock, by which it tells the pool the time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Returns the runtime behind this bell.
    pub fn runtime(&self) -> RuntimeId {
        self.0.runtime
    }

    /// Returns the time that a thread which waits for an answer of this runtime looks for it before it sleeps, for
    /// [`Reply::queued`](super::answer::reply::Reply::queued).
    pub fn spin(&self) -> Duration {
        self.0.spin
    }

    /// Returns true if the current thread is one of the runtime's, which must not wait for the runtime.
    pub fn is_own_thread(&self) -> bool {
        on_thread_of(|| Some(self.0.runtime))
    }
}
