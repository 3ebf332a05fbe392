//! Stopping without losing a task.

use crate::Subject;
use crate::kit::{
    Columns, Hooked, LIMIT, On, Operation, Rig, all_succeed, answer, block_on, columns, drain, gated,
    new_builder, poll_once, poll_pending, pool_of, receive, rig, rows_block, spawn,
};
use skep_pool::PoolOptions;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{
    ControlError, Device, Handle, Health, Request, Shutdown, ShutdownError, StartError, SubmitError,
    TaskError, TaskResult,
};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

fn assert_shut_down<T>(result: TaskResult<T>) {
    let result = result.map(|_| ());
    assert!(matches!(result, Err(TaskError::ShutDown)), "expected a shutdown, got {result:?}");
}

fn assert_refused<D: Device>(rig: &Rig<D>) {
    let refused = rig.pool.try_submit(columns(&*rig.device, &[7.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::ShutDown), "{refused}");
    let request = refused.into_request();
    assert_eq!(Columns::read(&*rig.device, request.inputs.tensors().next().unwrap()), [7.0]);
    assert!(matches!(rig.pool.submit(request).unwrap_err().error, SubmitError::ShutDown));
    let awaited = block_on(rig.pool.submit_async(columns(&*rig.device, &[7.0])));
    assert!(matches!(awaited.unwrap_err().error, SubmitError::ShutDown));
}

/// Draining runs everything that was accepted, also what waits for company.
pub fn drain_runs_all_that_was_accepted<S: Subject>() {
    for prefetch in [0, 1, 2] {
        let options = PoolOptions::default().max_rows(4).min_rows(4).max_delay(Some(LIMIT));
        let rig = rig(S::device(), prefetch, options);
        let tickets: Vec<_> = (0u8..10).map(|v| rig.submit(&[f32::from(v)])).collect();
        let ran = rig.gate.open_for_good();
        drain(rig.runtime);
        all_succeed(tickets);
        let batches: Vec<_> = ran.try_iter().collect();
        assert_eq!(batches, [vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0, 7.0], vec![8.0, 9.0]]);
    }
}

/// Aborting answers what waits at once, and lets the batch on the device finish.
pub fn abort_answers_what_waits<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, PoolOptions::default().max_rows(1));
        let held = rig.hold();
        let waiting = [1.0, 2.0, 3.0].map(|v| rig.submit(&[v]));
        let handle = rig.runtime.handle().clone();
        let stopping = spawn(move || handle.shutdown(Shutdown::Abort, LIMIT));
        let [prefetched, second, third] = waiting;
        // Still at the gate, so nothing but the shutdown can have answered them.
        assert_shut_down(answer(second));
        assert_shut_down(answer(third));
        rig.gate.open();
        answer(held).unwrap();
        assert_shut_down(answer(prefetched));
        receive(&stopping).unwrap();
        assert!(rig.gate.is_gone(), "nothing else ran");
        assert!(!rig.runtime.handle().is_running());
    }
}

/// Stopping twice is harmless, in any combination, also after the end and after the drop.
pub fn stopping_twice_is_harmless<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    for how in [Shutdown::Drain, Shutdown::Drain, Shutdown::Abort, Shutdown::Drain] {
        rig.runtime.shutdown(how, LIMIT).unwrap();
        assert_refused(&rig);
    }
    let handle = rig.runtime.handle().clone();
    drop(rig.runtime);
    handle.shutdown(Shutdown::Drain, LIMIT).unwrap();
    assert!(!handle.is_running());
    assert!(matches!(handle.state("gated"), Err(ControlError::ShutDown)));
}

/// An abort cuts a drain short.
pub fn an_abort_cuts_a_drain_short<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let waiting = [1.0, 2.0].map(|v| rig.submit(&[v]));
    let spawn = |how| {
        let handle = rig.runtime.handle().clone();
        spawn(move || handle.shutdown(how, LIMIT))
    };
    let draining = spawn(Shutdown::Drain);
    let aborting = spawn(Shutdown::Abort);
    for ticket in waiting {
        assert_shut_down(answer(ticket));
    }
    rig.gate.open();
    answer(held).unwrap();
    receive(&draining).unwrap();
    receive(&aborting).unwrap();
}

/// Stopping a runtime before its start keeps it from starting, and its tasks are answered.
pub fn a_runtime_stopped_before_its_start_does_not_start<S: Subject>() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let (mut builder, _) = new_builder(S::device(), 1);
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let ticket = pool.submit(columns(&*device, &[1.0])).unwrap();
        let runtime = builder.build().unwrap();
        let handle = runtime.handle().clone();
        handle.shutdown(how, LIMIT).unwrap();
        assert!(matches!(runtime.start().map(|_| ()), Err(StartError::ShutDown)));
        assert_shut_down(answer(ticket));
        assert!(matches!(handle.ready().wait(), Err(StartError::ShutDown)));
        handle.shutdown(how, LIMIT).unwrap();
    }
}

/// A builder or a runtime that is dropped unstarted answers the tasks that its pools took.
pub fn what_never_starts_answers_its_tasks<S: Subject>() {
    for build in [false, true] {
        let (mut builder, _) = new_builder(S::device(), 1);
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let ticket = pool.submit(columns(&*device, &[1.0])).unwrap();
        if build {
            let runtime = builder.build().unwrap();
            let ready = runtime.handle().ready();
            drop(runtime);
            assert!(matches!(ready.wait(), Err(StartError::ShutDown)));
        } else {
            drop(builder);
        }
        assert_shut_down(answer(ticket));
        let refused = pool.submit(columns(&*device, &[1.0])).unwrap_err();
        assert!(matches!(refused.error, SubmitError::ShutDown));
    }
}

/// When the limit passes while a block does not return, every task is answered, and so is every caller who
/// waits for the block; the runtime ends when the block returns.
pub fn a_limit_that_passes_answers_everybody<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, PoolOptions::default().max_rows(1));
        let held = rig.hold();
        let waiting = [1.0, 2.0, 3.0].map(|v| rig.submit(&[v]));
        let handle = rig.runtime.handle().clone();
        let working = spawn(move || handle.state("gated"));
        let limit = Duration::ZERO;
        let error = rig.runtime.shutdown(Shutdown::Drain, limit).unwrap_err();
        assert_eq!(error, ShutdownError::LimitPassed { limit, unfinished: 4 });
        assert!(matches!(rig.runtime.handle().health(), Health::Stuck));
        for ticket in waiting {
            assert_shut_down(answer(ticket));
        }
        assert_shut_down(answer(held));
        assert!(matches!(receive(&working), Err(ControlError::ShutDown)));
        assert_refused(&rig);
        let handle = rig.runtime.handle().clone();
        drop(rig.runtime);
        rig.gate.open();
        handle.shutdown(Shutdown::Abort, LIMIT).unwrap();
        assert!(rig.gate.is_gone(), "nothing else ran");
    }
}

/// A runtime that is drained says so, until it has stopped.
pub fn a_drain_shows_in_the_health<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let held = rig.hold();
    assert!(matches!(rig.runtime.handle().health(), Health::Running));
    let (handle, other) = (rig.runtime.handle().clone(), rig.runtime.handle().clone());
    let draining = spawn(move || handle.shutdown(Shutdown::Drain, LIMIT));
    // The pools are closed after the health says so.
    while rig.pool.try_submit(columns(&*rig.device, &[1.0])).is_ok() {}
    assert!(matches!(other.health(), Health::Draining));
    assert!(!other.is_running());
    drop(rig.gate.open_for_good());
    answer(held).unwrap();
    receive(&draining).unwrap();
    assert!(matches!(other.health(), Health::Stopped));
}

/// A drain runs what was accepted and leaves the runtime, so that the last state can be saved; then it stops as ever.
pub fn a_drain_leaves_the_blocks_to_be_saved<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let held = rig.hold();
    let waiting = rig.submit(&[1.0]);
    let (handle, late) = (rig.runtime.handle().clone(), rig.runtime.handle().clone());
    assert_eq!(handle.drain(Duration::ZERO), Err(ShutdownError::NotDrained { limit: Duration::ZERO }));
    assert!(!waiting.is_done(), "nothing is given up");
    let draining = spawn(move || handle.drain(LIMIT));
    assert!(matches!(
        rig.pool.try_submit(columns(&*rig.device, &[2.0])).unwrap_err().error,
        SubmitError::ShutDown
    ));
    drop(rig.gate.open_for_good());
    receive(&draining).unwrap();
    assert!(held.is_done() && waiting.is_done());
    assert!(matches!(late.health(), Health::Draining));
    late.state("gated").unwrap();
    late.drain(LIMIT).unwrap();
    drain(rig.runtime);
    late.drain(LIMIT).unwrap();
}

/// A drain is over when its last task is cancelled, or expires, as well as when it ran.
pub fn a_drain_ends_with_the_last_task_however_it_ends<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default());
    let held = rig.hold();
    let cancelled = rig.submit(&[1.0]);
    let request = Request::new(columns(&*rig.device, &[2.0])).deadline(Duration::from_millis(5));
    let expired = rig.pool.try_submit(request).unwrap();
    let handle = rig.runtime.handle().clone();
    let draining = spawn(move || handle.drain(LIMIT));
    while rig.pool.try_submit(columns(&*rig.device, &[3.0])).is_ok_and(|ticket| {
        ticket.cancel();
        true
    }) {}
    cancelled.cancel();
    rig.clock.advance(Duration::from_millis(5));
    assert!(matches!(answer(expired), Err(TaskError::Expired { .. })));
    drop(rig.gate.open_for_good());
    answer(held).unwrap();
    receive(&draining).unwrap();
    drain(rig.runtime);
}

/// A runtime whose block does not return is dropped within its limit: everybody is answered, and the thread left behind.
pub fn a_drop_gives_a_block_that_hangs_up<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.drop_limit(Duration::from_millis(1));
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    let held = pool.try_submit(columns(&*device, &[-1.0])).unwrap();
    assert_eq!(gate.entered(), [-1.0]);
    let waiting = pool.try_submit(columns(&*device, &[1.0])).unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    assert_shut_down(answer(held));
    assert_shut_down(answer(waiting));
    assert!(matches!(handle.health(), Health::Stuck));
    assert!(matches!(handle.state("gated"), Err(ControlError::ShutDown)));
    drop(gate.open_for_good());
}

/// A shutdown can be awaited, begins at once, and is not taken back.
pub fn a_shutdown_can_be_awaited<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let held = rig.hold();
    let mut stopping = Box::pin(rig.runtime.handle().shutdown_async(Shutdown::Drain));
    assert!(matches!(
        rig.pool.try_submit(columns(&*rig.device, &[1.0])).unwrap_err().error,
        SubmitError::ShutDown
    ));
    drop(rig.runtime.handle().shutdown_async(Shutdown::Drain));
    let told = poll_pending(&mut stopping);
    drop(rig.gate.open_for_good());
    answer(held).unwrap();
    receive(&told);
    block_on(stopping).unwrap();
    assert!(matches!(rig.runtime.handle().health(), Health::Stopped));
    block_on(rig.runtime.handle().shutdown_async(Shutdown::Abort)).unwrap();
}

/// From inside a block, nothing waits for the runtime itself: not for its end, not for room, not for a task.
pub fn a_block_cannot_wait_for_its_runtime<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (send, handles) = channel::<Handle<S::Device>>();
    let (block, gate) = gated(&device, "other");
    let other = pool_of(&mut builder, block, PoolOptions::default().capacity(1));
    let (inside, on) = (other.clone(), Arc::clone(&device));
    let block = rows_block(&device, "selfish", move |rows| {
        let handle = receive(&handles);
        assert!(matches!(handle.state("selfish"), Err(ControlError::WouldDeadlock)));
        // The loader may take the first one out while this thread tries.
        let mut tickets = vec![inside.try_submit(columns(&*on, &[1.0])).unwrap()];
        let refused = loop {
            match inside.submit(columns(&*on, &[1.0])) {
                Ok(ticket) => tickets.push(ticket),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused.error, SubmitError::WouldDeadlock), "{refused}");
        let waited = tickets.remove(0).wait().map(|_| ());
        assert!(matches!(waited, Err(TaskError::WouldDeadlock)), "{waited:?}");
        assert_eq!(handle.shutdown(Shutdown::Drain, LIMIT), Err(ShutdownError::WouldDeadlock));
        Ok(rows)
    });
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    send.send(runtime.handle().clone()).unwrap();
    drop(gate);
    answer(pool.submit(columns(&*device, &[1.0])).unwrap()).unwrap();
    // The shutdown that was begun in the block goes on by itself.
    runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
    assert!(matches!(pool.submit(columns(&*device, &[1.0])).unwrap_err().error, SubmitError::ShutDown));
}

/// Callers who wait for room are let go: blocking and awaiting.
pub fn callers_who_wait_for_room_are_let_go<S: Subject>() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let rig = rig(S::device(), 0, PoolOptions::default().capacity(1));
        let held = rig.hold();
        let waiting = rig.submit(&[1.0]);
        let mut awaiting = pin!(rig.pool.submit_async(columns(&*rig.device, &[2.0])));
        assert!(poll_once(&mut awaiting).is_pending());
        let (pool, input) = (rig.pool.clone(), columns(&*rig.device, &[3.0]));
        let blocked = spawn(move || pool.submit(input).map(|_| ()));
        let handle = rig.runtime.handle().clone();
        let stopping = spawn(move || handle.shutdown(how, LIMIT));
        let refused = [block_on(awaiting).map(|_| ()), receive(&blocked)].map(Result::unwrap_err);
        for (refused, row) in refused.into_iter().zip([2.0, 3.0]) {
            assert!(matches!(refused.error, SubmitError::ShutDown), "{refused}");
            assert_eq!(
                Columns::read(&*rig.device, refused.into_request().inputs.tensors().next().unwrap()),
                [row]
            );
        }
        rig.gate.open();
        rig.gate.open();
        answer(held).unwrap();
        receive(&stopping).unwrap();
        assert_eq!(answer(waiting).is_ok(), how == Shutdown::Drain);
    }
}

/// Dropping a running runtime answers what waits, finishes the batch on the device, and joins.
pub fn a_drop_answers_and_joins<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let waiting = [1.0, 2.0, 3.0].map(|v| rig.submit(&[v]));
    let handle = rig.runtime.handle().clone();
    let runtime = rig.runtime;
    let dropping = spawn(move || drop(runtime));
    let [prefetched, second, third] = waiting;
    assert_shut_down(answer(second));
    assert_shut_down(answer(third));
    rig.gate.open();
    answer(held).unwrap();
    assert_shut_down(answer(prefetched));
    receive(&dropping);
    assert!(!handle.is_running());
    assert!(rig.gate.is_gone(), "the threads have been joined, so the block is gone and ran no more");
}

/// A request is refused for the shutdown although it is urgent or has all the time in the world.
pub fn nothing_gets_in_after_the_end<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    rig.runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
    let request = Request::new(columns(&*rig.device, &[1.0]))
        .priority(skep_runtime_core::Priority::URGENT)
        .deadline(LIMIT);
    assert!(matches!(rig.pool.submit(request).unwrap_err().error, SubmitError::ShutDown));
    let counts = rig.pool.counts();
    assert_eq!((counts.submitted, counts.refused), (1, 1));
}

struct Stopper<D: Device>(Mutex<Option<Handle<D>>>, Mutex<Sender<Result<(), ShutdownError>>>);

impl<D: Device> Wake for Stopper<D> {
    fn wake(self: Arc<Self>) {
        let handle = self.0.lock().take();
        if let Some(handle) = handle {
            self.1.lock().send(handle.shutdown(Shutdown::Drain, LIMIT)).ok();
        }
    }
}

/// A ticket's waker runs on a thread of the runtime: a shutdown from there is begun and not waited for.
pub fn a_waker_cannot_wait_for_its_runtime<S: Subject>() {
    for remote in [false, true] {
        let device: On<S> = Hooked::new(S::device());
        let rig = rig(if remote { device.remote() } else { device }, 1, PoolOptions::default());
        let mut held = rig.hold();
        let (tell, told) = channel();
        let stopper = Arc::new(Stopper(Mutex::new(Some(rig.runtime.handle().clone())), Mutex::new(tell)));
        let waker = Waker::from(stopper);
        assert!(Pin::new(&mut held).poll(&mut Context::from_waker(&waker)).is_pending());
        let waiting = rig.submit(&[1.0]);
        rig.gate.open();
        assert_eq!(receive(&told), Err(ShutdownError::WouldDeadlock));
        rig.gate.open();
        answer(held).unwrap();
        answer(waiting).unwrap();
        rig.runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        assert_refused(&rig);
    }
}

/// A shutdown that comes while the device thread is about to start keeps it from starting.
pub fn a_runtime_that_is_stopped_while_it_starts<S: Subject>() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let (enter, entered) = channel();
        let (open, opened) = channel::<()>();
        let opened = Mutex::new(opened);
        let device: On<S> = Hooked::new(S::device()).hook(move |at| {
            if at == Operation::Bind {
                enter.send(()).ok();
                opened.lock().recv().ok();
            }
            Ok(())
        });
        let (mut builder, _) = new_builder(device, 1);
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let ticket = pool.submit(columns(&*device, &[1.0])).unwrap();
        let runtime = builder.build().unwrap();
        let handle = runtime.handle().clone();
        let starting = spawn(move || runtime.start().map(drop));
        receive(&entered);
        handle.shutdown(how, LIMIT).unwrap();
        drop(open);
        assert!(matches!(receive(&starting), Err(StartError::ShutDown)));
        assert_shut_down(answer(ticket));
        handle.shutdown(how, LIMIT).unwrap();
    }
}
