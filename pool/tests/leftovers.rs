//! Tensors of tasks that never run are code of others as well: the thread that keeps deadlines frees none.
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::pool::Pool;
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    DType, DeviceError, DeviceLoss, Dims, HostTensor, Pass, Request, RuntimeId, Schema, TensorInfo,
    TensorOps, TensorSpec, Ticket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts how many of its kind have been freed.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Ops;

impl TensorOps for Ops {
    type Tensor = Counted;

    fn describe(&self, _: &Counted) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: DType::F32, dims: Dims::from([1, 1]) })
    }

    fn join(&self, _: Vec<Counted>) -> Result<Counted, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }

    fn split(&self, _: &Counted, _: &[usize]) -> Result<Vec<Counted>, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }

    fn index_outside(&self, _: &Counted, _: u64) -> Result<Option<i64>, DeviceError> {
        Ok(None)
    }

    fn from_host(&self, _: &HostTensor) -> Result<Counted, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }

    fn to_host(&self, _: &Counted) -> Result<HostTensor, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }
}

struct Rig {
    contract: Arc<dyn Pool<Counted>>,
    owner: RuntimeId,
    clock: Arc<ManualClock>,
    freed: Arc<AtomicUsize>,
    _ticket: Ticket<Counted>,
}

const SHORT: Duration = Duration::from_millis(1);

/// A pool in which one task waits.
fn rig() -> Rig {
    let (clock, freed, owner) = (ManualClock::new(), Arc::new(AtomicUsize::new(0)), RuntimeId::next());
    let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
    let time = Arc::clone(&clock) as Arc<_>;
    let pool =
        TaskPool::new("p".to_owned(), Pass::Forward, Arc::new(Ops), schema, PoolOptions::default(), time);
    let pool = pool.unwrap();
    assert!(pool.as_pool().claim(owner));
    let request = Request::new(vec![Counted(Arc::clone(&freed))]).deadline(SHORT);
    let ticket = pool.try_submit(request).unwrap();
    Rig { contract: pool.as_pool(), owner, clock, freed, _ticket: ticket }
}

impl Rig {
    fn freed(&self) -> usize {
        self.freed.load(Ordering::SeqCst)
    }
}

#[test]
fn tensors_of_expired_tasks_are_freed_after_the_cut() {
    let rig = rig();
    rig.clock.advance(SHORT);
    let expired = rig.contract.expire(rig.owner, skep_runtime_core::Clock::now(&*rig.clock));
    assert_eq!((expired.settled.len(), rig.freed()), (1, 0));
    rig.contract.after_cut();
    assert_eq!(rig.freed(), 1);
}

#[test]
fn tensors_of_a_lost_pool_are_freed_after_the_cut() {
    let rig = rig();
    let lost = rig.contract.lose(rig.owner, &DeviceLoss::Stuck { work: "a batch".into(), limit: SHORT });
    assert_eq!((lost.len(), rig.freed()), (1, 0));
    rig.contract.after_cut();
    assert_eq!(rig.freed(), 1);
}
