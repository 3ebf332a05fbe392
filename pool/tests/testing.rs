//! What `testing` gives to tests of applications.
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock, Gate, ManualClock};
use skep_runtime_core::{DeviceError, Request, RunningRuntime, RuntimeBuilder, TaskError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(10);

struct Rig {
    pool: TaskPool<FakeDevice>,
    clock: Arc<ManualClock>,
    gate: Gate,
    runtime: RunningRuntime<FakeDevice>,
}

/// A block that waits at a gate with each batch.
fn rig(device: FakeDevice, options: PoolOptions) -> Rig {
    let (clock, gate) = (ManualClock::new(), Gate::new());
    let mut builder = RuntimeBuilder::new(device).clock(Arc::clone(&clock) as Arc<_>);
    let at = gate.hook();
    let block = FnBlock::rows("gated", 1, move |x: &[FakeTensor]| {
        at();
        Ok(vec![x[0].map(|v| 2.0 * v)])
    });
    let pool = builder.serve(block, ServeOptions::forward(options)).unwrap().forward;
    Rig { pool, clock, gate, runtime: builder.start().unwrap() }
}

fn rows<const N: usize>(values: [f32; N]) -> Vec<FakeTensor> {
    vec![FakeTensor::rows(&values.map(|v| [v]))]
}

#[test]
fn a_runtime_settles_when_all_has_happened_that_can() {
    let rig = rig(FakeDevice::new(), PoolOptions::default());
    let handle = rig.runtime.handle();
    assert!(handle.settled(LIMIT), "there is nothing to do");
    let held = rig.pool.submit(rows([1.0])).unwrap();
    assert!(rig.gate.reached(1, LIMIT));
    assert!(!handle.settled(Duration::ZERO), "a batch is at the gate");
    let late = rig.pool.submit(Request::new(rows([2.0])).deadline(SHORT)).unwrap();
    rig.clock.advance(SHORT);
    rig.gate.open();
    assert!(handle.settled(LIMIT));
    assert!(held.is_done() && late.is_done());
    assert!(matches!(late.wait(), Err(TaskError::Expired { .. })));
    drop(rig.runtime);
}

#[test]
fn a_runtime_that_has_stopped_has_settled() {
    let rig = rig(FakeDevice::new(), PoolOptions::default());
    let handle = rig.runtime.handle().clone();
    drop(rig.runtime);
    assert!(handle.settled(LIMIT));
}

#[test]
fn hooks_of_a_split_and_a_join_may_fail() {
    let (cut, joined) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (cuts, joins) = (Arc::clone(&cut), Arc::clone(&joined));
    let device = FakeDevice::new()
        .on_split(move |_| {
            cuts.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .on_join(move |_| match joins.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(()),
            _ => Err(DeviceError::operation("no join")),
        });
    let rig = rig(device, PoolOptions::default().max_rows(2).split_large_tasks(true));
    rig.gate.open();
    let submit = || rig.pool.submit(rows([1.0, 2.0, 3.0])).unwrap();
    assert_eq!(submit().wait().unwrap(), rows([2.0, 4.0, 6.0]));
    assert!(matches!(submit().wait(), Err(TaskError::Failed(_))));
    assert_eq!((cut.load(Ordering::SeqCst), joined.load(Ordering::SeqCst)), (4, 2));
    drop(rig.runtime);
}
