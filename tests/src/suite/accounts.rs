//! Every task is counted, once, as what became of it.

use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, On, Operation, Rig, answer, columns, drain, gated, new_builder, pool_of, receive,
    rows_block, spawn,
};
use skep_pool::PoolOptions;
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{Clock, Request, Shutdown, TaskError};
use skep_stats::{PoolSnapshot, Stats};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// `submitted = succeeded + failed + cancelled + expired + refused` once nothing is open.
pub(super) fn assert_reconciled(pool: &PoolSnapshot) {
    assert_eq!((pool.waiting, pool.in_flight), (0, 0), "{}", pool.accounts());
    assert_eq!(pool.answered(), pool.submitted, "{}", pool.accounts());
}

/// One task of each fate, in a pool and in a prefetched batch, is counted as its caller saw it.
pub fn every_fate_is_counted<S: Subject>() {
    const SHORT: Duration = Duration::from_millis(10);
    let (tell, cut) = channel();
    let device: On<S> = Hooked::new(S::device()).hook(move |operation| {
        if operation == Operation::Gather && std::thread::current().name() == Some("skep-loader") {
            tell.send(()).ok();
        }
        Ok(())
    });
    let stats = Stats::new();
    let (builder, clock) = new_builder(device, 1);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let options = PoolOptions::default().capacity(4).max_rows(2);
    let pool = pool_of(&mut builder, block, options);
    let block = rows_block(&device, "broken", |_| Err("broken".into()));
    let broken = pool_of(&mut builder, block, PoolOptions::default());
    let rig = Rig { device, clock, gate, pool, runtime: builder.start().unwrap() };
    let submit = |rows: &[f32]| Request::new(columns(&*rig.device, rows));

    let failed = broken.submit(columns(&*rig.device, &[1.0])).unwrap();
    assert!(answer(failed).is_err());
    let held = rig.hold();
    let prefetched = rig.pool.try_submit(submit(&[1.0]).deadline(SHORT)).unwrap();
    receive(&cut);
    let expiring = rig.pool.try_submit(submit(&[2.0]).deadline(SHORT)).unwrap();
    rig.clock.advance(SHORT);
    assert!(matches!(answer(prefetched), Err(TaskError::Expired { .. })));
    assert!(matches!(answer(expiring), Err(TaskError::Expired { .. })));
    drop(rig.pool.try_submit(submit(&[3.0])).unwrap());
    assert!(rig.pool.try_submit(submit(&[1.0, 2.0, 3.0])).is_err());
    let waiting = [4.0, 5.0, 6.0, 7.0].map(|v| rig.pool.try_submit(submit(&[v])).unwrap());
    assert!(rig.pool.try_submit(submit(&[8.0])).is_err());

    let seen = stats.snapshot_at(rig.clock.now());
    let seen = &seen.pools[0];
    assert_eq!((seen.submitted, seen.waiting, seen.in_flight), (10, 4, 1), "{}", seen.accounts());
    assert_eq!((seen.cancelled, seen.expired, seen.refused), (1, 2, 2), "{}", seen.accounts());

    rig.gate.open();
    answer(held).unwrap();
    rig.gate.entered();
    // Behind a whole batch that the loader may have, this one waits for sure.
    let last = rig.pool.try_submit(submit(&[9.0])).unwrap();
    let handle = rig.runtime.handle().clone();
    let stopping = spawn(move || handle.shutdown(Shutdown::Abort, LIMIT));
    assert!(matches!(answer(last), Err(TaskError::ShutDown)));
    let [first, second, third, fourth] = waiting;
    rig.gate.open();
    let results = [first, second, third, fourth].map(|ticket| answer(ticket).is_ok());
    receive(&stopping).unwrap();
    assert_eq!(results, [true, true, false, false]);
    let end = stats.snapshot();
    let (gated, broken) = (&end.pools[0], &end.pools[1]);
    assert_eq!((gated.succeeded, gated.failed, gated.shut_down), (3, 3, 3), "{}", gated.accounts());
    assert_eq!((broken.failed, broken.failed_batches), (1, 1));
    assert_eq!((gated.batches, gated.rows), (2, 3));
    [gated, broken, &end.total].into_iter().for_each(assert_reconciled);
}

/// Who has an answer finds it counted, whichever thread gave it.
pub fn an_answer_is_counted_before_it_is_given<S: Subject>() {
    for device in [Hooked::new(S::device()), Hooked::new(S::device()).remote()] {
        let stats = Stats::new();
        let (builder, _) = new_builder::<On<S>>(device, 1);
        let mut builder = builder.observer(stats.observer());
        let device = Arc::clone(builder.device());
        let block = rows_block(&device, "moody", |rows| {
            if rows[0] < 0.0 { Err("no negative rows".into()) } else { Ok(rows) }
        });
        let pool = pool_of(&mut builder, block, PoolOptions::default());
        let runtime = builder.start().unwrap();
        for i in 1..=200 {
            answer(pool.submit(columns(&*device, &[1.0])).unwrap()).unwrap();
            assert!(answer(pool.submit(columns(&*device, &[-1.0])).unwrap()).is_err());
            let total = stats.snapshot().total;
            assert_eq!((total.succeeded, total.failed), (i, i), "{}", total.accounts());
        }
        drain(runtime);
        assert_reconciled(&stats.snapshot().total);
    }
}

/// A task in several parts is one task.
pub fn a_split_task_is_counted_once<S: Subject>() {
    let stats = Stats::new();
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "moody", |rows| {
        if rows.contains(&-1.0) { Err("no negative rows".into()) } else { Ok(rows) }
    });
    let options = PoolOptions::default().max_rows(2).split_large_tasks(true);
    let pool = pool_of(&mut builder, block, options);
    let waiting = pool.submit(columns(&*device, &[1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
    let counts = pool.counts();
    assert_eq!((counts.waiting, counts.waiting_rows), (1, 5), "three parts are one task");
    let runtime = builder.start().unwrap();
    answer(waiting).unwrap();
    let submit = |rows: &[f32]| answer(pool.submit(columns(&*device, rows)).unwrap());
    assert!(submit(&[1.0, 2.0, -1.0, 4.0, -1.0]).is_err());
    assert!(submit(&[-1.0, -1.0, -1.0]).is_err());
    drain(runtime);
    let total = stats.snapshot().total;
    assert_eq!((total.submitted, total.succeeded, total.failed), (3, 1, 2), "{}", total.accounts());
    assert_reconciled(&total);
}

/// Times add up on a clock that the case moves: waiting until the cut, the device until the block is done.
pub fn times_are_those_of_the_clock<S: Subject>() {
    let stats = Stats::new();
    let (builder, clock) = new_builder(S::device(), 0);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    let first = pool.submit(columns(&*device, &[1.0])).unwrap();
    gate.entered();
    let second = pool.submit(columns(&*device, &[2.0])).unwrap();
    clock.advance(Duration::from_millis(30));
    gate.open();
    answer(first).unwrap();
    gate.entered();
    clock.advance(Duration::from_millis(10));
    gate.open();
    answer(second).unwrap();
    clock.advance(Duration::from_millis(40));
    drain(runtime);
    let snapshot = stats.snapshot();
    let total = &snapshot.total;
    assert_eq!(snapshot.elapsed, Duration::from_millis(80));
    assert_eq!(total.device.total, Duration::from_millis(40));
    assert_eq!(total.queue_wait.total, Duration::from_millis(30));
    assert_eq!(total.end_to_end.total, Duration::from_millis(30 + 40));
    assert!((snapshot.device_busy - 0.5).abs() < 1e-9, "{}", snapshot.device_busy);
}

/// A device on which a gather takes 3 ms, in the block too, and a scatter 5 ms.
pub fn gather_and_scatter_are_timed<S: Subject>() {
    let clock = Arc::new(OnceLock::new());
    let of_device: Arc<OnceLock<Arc<ManualClock>>> = Arc::clone(&clock);
    let device: On<S> = Hooked::new(S::device()).hook(move |operation| {
        let ms = match operation {
            Operation::Gather => 3,
            Operation::Scatter => 5,
            _ => 0,
        };
        if let Some(clock) = of_device.get() {
            clock.advance(Duration::from_millis(ms));
        }
        Ok(())
    });
    let stats = Stats::new();
    let (builder, moved) = new_builder(device, 0);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
    let runtime = builder.start().unwrap();
    clock.set(moved).ok();
    answer(pool.submit(columns(&*device, &[1.0])).unwrap()).unwrap();
    drain(runtime);
    let total = stats.snapshot().total;
    let times =
        [total.gather, total.device, total.scatter, total.end_to_end].map(|time| time.total.as_millis());
    assert_eq!(times, [3, 3, 5, 11]);
}
