//! Blocks are added to a running runtime, and taken out of it, and nobody else notices.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Gate, Hooked, LIMIT, Operation, Rig, all_succeed, answer, columns, drain, gated, new_builder, pool_of,
    quiet_panics, receive, rig, rows_block, spawn, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served, TaskPool};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BatchEvent, Clock, ControlError, Device, DeviceError, DeviceLoss, Handle, Meter, Observer, PoolId,
    Request, RunningRuntime, Shutdown, StartError, SubmitError, TaskError, Ticket,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Makes a block that multiplies.
pub(super) fn times<D: Device>(device: &Arc<D>, name: &str, by: f32) -> FnBlock<D> {
    rows_block(device, name, move |rows| Ok(rows.iter().map(|v| by * v).collect()))
}

fn removed<T>(ticket: Ticket<T>) {
    let result = answer(ticket).map(|_| ());
    assert!(matches!(result, Err(TaskError::Removed)), "expected a removed block, got {result:?}");
}

fn is_removed<D: Device>(device: &D, pool: &TaskPool<D>) {
    let refused = pool.try_submit(columns(device, &[1.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::Removed), "{refused}");
}

/// Submits a task of one row.
pub(super) fn submit<D: Device>(device: &D, pool: &TaskPool<D>, value: f32) -> Ticket<D::Tensor> {
    pool.try_submit(columns(device, &[value])).unwrap()
}

/// Begins to take a block out, and returns when its pool takes no more tasks.
fn begin_to_remove<D: Device>(
    rig: &Rig<D>,
    how: Shutdown,
    limit: Duration,
) -> Receiver<Result<(), ControlError>> {
    let handle = rig.runtime.handle().clone();
    let removing = spawn(move || handle.remove("gated", how, limit));
    wait_until_closed(&*rig.device, &rig.pool);
    removing
}

/// Waits until a pool takes no more tasks; what it takes before that is cancelled.
fn wait_until_closed<D: Device>(device: &D, pool: &TaskPool<D>) {
    while pool.try_submit(columns(device, &[0.0])).map(drop).is_ok() {
        thread::yield_now();
    }
}

fn is_gone_in_time(gate: Gate) {
    let ran = gate.open_for_good();
    loop {
        match ran.recv_timeout(LIMIT) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => panic!("block should have been dropped"),
        }
    }
}

/// A block is served, used and taken out again and again beside another one, under one name.
pub fn a_block_comes_and_goes<S: Subject>() {
    let stats = Stats::new();
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let resident = pool_of(&mut builder, times(&device, "stays", 2.0), PoolOptions::default());
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    let names = |handle: &Handle<_>| handle.blocks().into_iter().map(|b| b.name).collect::<Vec<_>>();
    for by in [3.0, 4.0, 5.0] {
        let comes = handle.serve(times(&device, "comes", by), ServeOptions::default()).unwrap();
        assert_eq!(names(handle), ["stays", "comes"]);
        assert_eq!(handle.pools().len(), 2);
        assert_eq!(handle.pool("comes_forward").unwrap().counts().submitted, 0);
        assert_eq!(values_of(&*device, submit(&*device, &comes.forward, 1.0)), [by]);
        assert_eq!(values_of(&*device, submit(&*device, &resident, 1.0)), [2.0]);
        handle.remove("comes", Shutdown::Drain, LIMIT).unwrap();
        is_removed(&*device, &comes.forward);
        assert_eq!(names(handle), ["stays"]);
        assert!(handle.pool("comes_forward").is_none());
        assert_eq!(handle.pools().len(), 1);
        let gone = handle.remove("comes", Shutdown::Drain, LIMIT);
        assert!(matches!(gone, Err(ControlError::UnknownBlock { .. })), "{gone:?}");
        assert!(matches!(handle.state("comes"), Err(ControlError::UnknownBlock { .. })));
    }
    drain(runtime);
    let snapshot = stats.snapshot_at(clock.now());
    assert_eq!(snapshot.pools.len(), 1, "{snapshot}");
    assert_reconciled(&snapshot.pools[0]);
    assert_reconciled(&snapshot.total);
    assert_eq!((snapshot.total.succeeded, snapshot.total.batches), (6, 6), "{snapshot}");
}

/// What was accepted runs, also what is no batch yet, and the names are free meanwhile.
pub fn what_was_accepted_runs_before_the_block_goes<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let accepted = [1.0, 2.0, 3.0].map(|value| rig.submit(&[value]));
    let removing = begin_to_remove(&rig, Shutdown::Drain, LIMIT);
    is_removed(&*rig.device, &rig.pool);
    let handle = rig.runtime.handle();
    assert!(handle.blocks().is_empty());
    let gone = handle.with_block("gated", |_| ());
    assert!(matches!(gone, Err(ControlError::UnknownBlock { .. })), "{gone:?}");

    // The device is held, so the next of this name is taken in later.
    let (next, device) = (handle.clone(), Arc::clone(&rig.device));
    let serving = spawn(move || next.serve(times(&device, "gated", 7.0), ServeOptions::default()));
    for _ in 0..4 {
        rig.gate.open();
    }
    assert_eq!(values_of(&*rig.device, held), [-2.0]);
    all_succeed(accepted);
    receive(&removing).unwrap();
    let ran = rig.gate.open_for_good();
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [[1.0], [2.0], [3.0]]);
    assert_eq!(ran.try_recv(), Err(TryRecvError::Disconnected), "nothing is left of the block");
    let next = receive(&serving).unwrap();
    assert_eq!(values_of(&*rig.device, submit(&*rig.device, &next.forward, 1.0)), [7.0]);
    drain(rig.runtime);
}

/// A block whose tasks wait for company, or whose caller gives them up, is not waited for.
pub fn a_block_goes_with_its_last_task_however_that_ends<S: Subject>() {
    let (mut builder, clock) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let patient = PoolOptions::default().min_rows(4).max_delay(Duration::from_hours(1));
    let alone = pool_of(&mut builder, times(&device, "alone", 2.0), patient.clone());
    let (block, gate) = gated(&device, "busy");
    let busy = pool_of(&mut builder, block, PoolOptions::default());
    let idle = pool_of(&mut builder, times(&device, "idle", 2.0), patient.clone());
    let late = pool_of(&mut builder, times(&device, "late", 2.0), patient);
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    let waiting = submit(&*device, &alone, 1.0);
    handle.remove("alone", Shutdown::Drain, LIMIT).unwrap();
    assert_eq!(values_of(&*device, waiting), [2.0]);

    let held = submit(&*device, &busy, 1.0);
    gate.entered();
    let cancelled = submit(&*device, &idle, 1.0);
    let minute = Duration::from_mins(1);
    let request = Request::new(columns(&*device, &[1.0])).deadline(minute);
    let expiring = late.try_submit(request).unwrap();
    let removing = ["idle", "late"].map(|name| {
        let handle = handle.clone();
        spawn(move || handle.remove(name, Shutdown::Drain, LIMIT))
    });
    wait_until_closed(&*device, &idle);
    wait_until_closed(&*device, &late);
    drop(cancelled);
    clock.advance(minute);
    // One may have been gathered ahead.
    let ended = answer(expiring).map(|_| ());
    assert!(matches!(ended, Err(TaskError::Expired { .. })), "{ended:?}");
    gate.open();
    answer(held).unwrap();
    for removing in removing {
        receive(&removing).unwrap();
    }
    drop(gate);
    drain(runtime);
}

/// An abort answers what has not begun, and lets the batch on the device finish.
pub fn an_abort_takes_a_block_out_after_its_batch<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, PoolOptions::default().max_rows(1));
        let held = rig.hold();
        let waiting = [1.0, 2.0, 3.0].map(|value| rig.submit(&[value]));
        let removing = begin_to_remove(&rig, Shutdown::Abort, LIMIT);
        // What the loader has in hand at this moment may run.
        let mut ran = 0;
        let [first, rest @ ..] = waiting;
        rest.into_iter().for_each(removed);
        rig.gate.open();
        rig.gate.open();
        match answer(first) {
            Ok(_) => ran += 1,
            Err(error) => assert!(matches!(error, TaskError::Removed), "{error}"),
        }
        assert!(ran <= prefetch);
        assert_eq!(values_of(&*rig.device, held), [-2.0]);
        receive(&removing).unwrap();
        drain(rig.runtime);
    }
}

/// When the limit passes every task is answered, names are free, and the block goes when it returns.
pub fn a_limit_ends_the_wait_for_a_block<S: Subject>() {
    let stats = Stats::new();
    let (builder, clock) = new_builder(S::device(), 0);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(1));
    let rig = Rig { device, clock, gate, pool, runtime: builder.start().unwrap() };
    let held = rig.hold();
    let waiting = [1.0, 2.0, 3.0].map(|value| rig.submit(&[value]));
    let handle = rig.runtime.handle();
    let error = handle.remove("gated", Shutdown::Drain, Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "block did not leave within 0ns: 4 tasks were given up");
    removed(held);
    waiting.into_iter().for_each(removed);
    let (next, device) = (handle.clone(), Arc::clone(&rig.device));
    let serving = spawn(move || next.serve(times(&device, "gated", 7.0), ServeOptions::default()));
    is_gone_in_time(rig.gate);
    let next = receive(&serving).unwrap();
    assert_eq!(values_of(&*rig.device, submit(&*rig.device, &next.forward, 1.0)), [7.0]);
    drain(rig.runtime);
    let total = stats.snapshot_at(rig.clock.now()).total;
    assert_reconciled(&total);
    assert_eq!((total.succeeded, total.shut_down), (1, 4), "{}", total.accounts());
}

/// Callers who wait for room are refused at once.
pub fn callers_who_wait_for_room_hear_of_the_removal<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default().max_rows(1).capacity(1));
    let held = rig.hold();
    let waiting = rig.submit(&[1.0]);
    let (pool, device) = (rig.pool.clone(), Arc::clone(&rig.device));
    let (tell, told) = channel();
    let blocked = spawn(move || {
        tell.send(()).ok();
        pool.submit(columns(&*device, &[2.0])).map(drop).map_err(|refused| refused.error)
    });
    receive(&told);
    let removing = begin_to_remove(&rig, Shutdown::Drain, LIMIT);
    let refused = receive(&blocked);
    assert!(matches!(refused, Err(SubmitError::Removed)), "{refused:?}");
    drop(rig.gate);
    all_succeed([held, waiting]);
    receive(&removing).unwrap();
    drain(rig.runtime);
}

/// Freeing a large block takes long, so the device thread does not do it, and what an allocator keeps is given back.
pub fn a_block_is_freed_by_who_lets_it_go<S: Subject>() {
    #[derive(Debug, PartialEq)]
    enum Freed {
        /// A block was dropped, by this thread.
        Dropped(ThreadId),
        Trimmed,
    }

    struct Told(Sender<Freed>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(Freed::Dropped(thread::current().id())).ok();
            panic!("on purpose: drop");
        }
    }

    quiet_panics();
    let (tell, told) = channel();
    let trims = Mutex::new(tell.clone());
    let device = Hooked::new(S::device()).hook(move |operation| {
        if operation == Operation::TrimMemory {
            trims.lock().send(Freed::Trimmed).ok();
            panic!("on purpose: trim");
        }
        Ok(())
    });
    let (builder, _) = new_builder(device, 1);
    let device = Arc::clone(builder.device());
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    let block = |tell: &Sender<_>| {
        let told = Told(tell.clone());
        rows_block(&device, "told", move |rows| {
            let _ = &told;
            Ok(rows)
        })
    };
    let freed_here = || {
        assert_eq!(told.try_recv(), Ok(Freed::Dropped(thread::current().id())));
        assert_eq!(told.try_recv(), Ok(Freed::Trimmed));
        assert_eq!(told.try_recv(), Err(TryRecvError::Empty));
    };
    let served = handle.serve(block(&tell), ServeOptions::default()).unwrap();
    handle.replace("told", block(&tell)).unwrap();
    freed_here();
    assert_eq!(values_of(&*device, submit(&*device, &served.forward, 1.0)), [1.0]);
    handle.remove("told", Shutdown::Drain, LIMIT).unwrap();
    freed_here();
    drain(runtime);
}

#[derive(Debug, PartialEq)]
enum Heard {
    Added(PoolId, String),
    Removed(PoolId),
    Ran(PoolId),
}

struct Hears(Mutex<Vec<Heard>>, Mutex<Sender<()>>);

impl Observer for Hears {
    fn pool_added(&self, pool: PoolId, meter: Arc<dyn Meter>) {
        self.0.lock().push(Heard::Added(pool, meter.name().to_owned()));
    }

    fn pool_removed(&self, pool: PoolId) {
        self.0.lock().push(Heard::Removed(pool));
        self.1.lock().send(()).ok();
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        self.0.lock().push(Heard::Ran(event.pool));
    }
}

/// Observers hear of each pool before its first event and after its last, under an id that no other pool ever has.
pub fn observers_hear_of_pools_that_come_and_go<S: Subject>() {
    let (tell, told) = channel();
    let observer = Arc::new(Hears(Mutex::default(), Mutex::new(tell)));
    let (builder, _) = new_builder(S::device(), 1);
    let builder = builder.observer(Arc::clone(&observer) as Arc<_>);
    let device = Arc::clone(builder.device());
    let runtime = builder.start().unwrap();
    for name in ["a", "b"] {
        let served = runtime.handle().serve(times(&device, name, 2.0), ServeOptions::default()).unwrap();
        answer(submit(&*device, &served.forward, 1.0)).unwrap();
        runtime.handle().remove(name, Shutdown::Drain, LIMIT).unwrap();
        receive(&told);
    }
    drain(runtime);
    let heard = std::mem::take(&mut *observer.0.lock());
    let [Heard::Added(a, _), .., Heard::Removed(b)] = heard[..] else { panic!("{heard:?}") };
    assert_eq!((a.index(), a.generation(), b.index(), b.generation()), (0, 0, 0, 1));
    let expected = [("a", a), ("b", b)]
        .map(|(name, id)| [Heard::Added(id, format!("{name}_forward")), Heard::Ran(id), Heard::Removed(id)]);
    assert_eq!(heard, expected.into_iter().flatten().collect::<Vec<_>>());
}

/// A runtime that stops takes its leaving blocks along, and who waits for them hears of it.
pub fn the_end_of_the_runtime_ends_a_removal<S: Subject>() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let rig = rig(S::device(), 1, PoolOptions::default().max_rows(1));
        let held = rig.hold();
        let waiting = rig.submit(&[1.0]);
        let removing = begin_to_remove(&rig, Shutdown::Drain, LIMIT);
        let handle = rig.runtime.handle().clone();
        let stopping = spawn(move || handle.shutdown(how, LIMIT));
        if how == Shutdown::Abort {
            let result = answer(waiting).map(|_| ());
            assert!(matches!(result, Err(TaskError::ShutDown)), "{result:?}");
            drop(rig.gate);
        } else {
            drop(rig.gate);
            answer(waiting).unwrap();
        }
        answer(held).unwrap();
        receive(&stopping).unwrap();
        // It may have gone just before.
        let gone = receive(&removing);
        assert!(matches!(gone, Ok(()) | Err(ControlError::ShutDown)), "{gone:?}");
        is_removed(&*rig.device, &rig.pool);
    }
}

/// A device that dies takes its leaving blocks along; their pools are nobody's to take over.
pub fn the_loss_of_the_device_ends_a_removal<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let name = device.name();
    let (open, opened) = channel::<()>();
    let (enter, entered) = channel();
    let dying = rows_block(&device, "dying", move |_| {
        enter.send(()).ok();
        opened.recv().ok();
        Err(DeviceError::Fatal { device: name.clone(), message: "poisoned".to_owned() }.into())
    });
    let served = builder.serve(dying, ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let held = submit(&*device, &served.forward, 1.0);
    receive(&entered);
    let handle = runtime.handle().clone();
    let removing = spawn(move || handle.remove("dying", Shutdown::Drain, LIMIT));
    wait_until_closed(&*device, &served.forward);
    drop(open);
    let lost = receive(&removing);
    assert!(matches!(lost, Err(ControlError::DeviceLost(DeviceLoss::Fatal(_)))), "{lost:?}");
    assert!(matches!(answer(held), Err(TaskError::DeviceLost(_))));
    is_removed(&*device, &served.forward);
    let late = runtime.handle().serve(times(&device, "late", 1.0), ServeOptions::default()).map(drop);
    assert!(matches!(late, Err(StartError::DeviceLost(_))), "{late:?}");
    let (mut successor, _) = new_builder(S::device(), 1);
    let error = successor.take_over(times(&device, "dying", 1.0), &served).unwrap_err();
    assert!(matches!(error, StartError::PoolInUse { .. }), "{error}");
    drop(runtime);
}

/// Blocks come, are used and go while others are under load, and every sum agrees.
pub fn a_pool_under_load_does_not_notice<S: Subject>() {
    const CYCLES: usize = 30;
    let stats = Stats::new();
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let loaded = pool_of(&mut builder, times(&device, "loaded", 2.0), PoolOptions::default());
    let runtime: RunningRuntime<_> = builder.start().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (pool, device, stop) = (loaded.clone(), Arc::clone(&device), Arc::clone(&stop));
            spawn(move || {
                let mut calls = 0;
                while !stop.load(Ordering::SeqCst) {
                    let ticket = pool.submit(columns(&*device, &[1.0])).unwrap();
                    assert_eq!(values_of(&*device, ticket), [2.0]);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut succeeded = 0_u64;
    for _ in 0..CYCLES {
        let served: Served<_> =
            runtime.handle().serve(times(&device, "guest", 3.0), ServeOptions::default()).unwrap();
        let tickets = [1.0; 5].map(|value| submit(&*device, &served.forward, value));
        runtime.handle().remove("guest", Shutdown::Drain, LIMIT).unwrap();
        for ticket in tickets {
            assert_eq!(values_of(&*device, ticket), [3.0]);
            succeeded += 1;
        }
    }
    stop.store(true, Ordering::SeqCst);
    succeeded += callers.iter().map(receive).sum::<u64>();
    drain(runtime);
    let total = stats.snapshot_at(clock.now()).total;
    assert_reconciled(&total);
    assert_eq!(total.succeeded, succeeded);
}
