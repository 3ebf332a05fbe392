//! A device that hangs or dies: every caller hears it, and another device takes over.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Gate, Hooked, LIMIT, On, Operation, answer, block_on, columns, gated, new_builder, poll_once, receive,
    rows_block, spawn, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served, TaskPool};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    Chain, ControlError, Device, DeviceError, DeviceLoss, Health, RunningRuntime, RuntimeBuilder, Shutdown,
    ShutdownError, StartError, SubmitError, TaskError, TaskResult, Ticket,
};
use skep_stats::Stats;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// For one batch.
const MOST: Duration = Duration::from_secs(5);
/// Just within that.
const ALMOST: Duration = Duration::from_nanos(4_999_999_999);

/// A runtime whose batches have a limit, and all that is needed to replace it.
struct Guarded<D: Device> {
    device: Arc<D>,
    clock: Arc<ManualClock>,
    gate: Gate,
    served: Served<D>,
    stats: Stats,
    runtime: RunningRuntime<D>,
}

fn guarded_runtime<D: Device>(device: D, prefetch: usize, options: PoolOptions) -> Guarded<D> {
    let stats = Stats::new();
    let (builder, clock) = new_builder(device, prefetch);
    let mut builder = builder.batch_limit(MOST).observer(stats.observer());
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
    Guarded { device, clock, gate, served, stats, runtime: builder.start().unwrap() }
}

impl<D: Device> Guarded<D> {
    fn pool(&self) -> &TaskPool<D> {
        &self.served.forward
    }

    fn submit(&self, row: f32) -> Ticket<D::Tensor> {
        self.pool().try_submit(columns(&*self.device, &[row])).unwrap()
    }

    fn hold(&self) -> Ticket<D::Tensor> {
        let ticket = self.submit(-1.0);
        assert_eq!(self.gate.entered(), [-1.0]);
        ticket
    }

    fn refusal(&self) -> SubmitError {
        self.pool().try_submit(columns(&*self.device, &[7.0])).unwrap_err().error
    }

    fn assert_every_task_counted(&self) {
        assert_reconciled(&self.stats.snapshot_at(skep_runtime_core::Clock::now(&*self.clock)).pools[0]);
    }

    /// A builder for a device in place of this one.
    fn successor<S: Subject<Device = D>>(&self) -> RuntimeBuilder<D> {
        RuntimeBuilder::new(S::device()).clock(Arc::clone(&self.clock) as Arc<_>)
    }
}

fn assert_stuck<T>(result: TaskResult<T>) {
    match result.map(|_| ()) {
        Err(TaskError::DeviceLost(DeviceLoss::Stuck { work, limit })) => {
            assert_eq!((&*work, limit), ("a batch of pool `gated_forward`", MOST));
        }
        other => panic!("expected a stuck device, got {other:?}"),
    }
}

/// A block that does not return: at the limit everybody is answered, wherever the task is, and nobody gets in.
pub fn a_block_that_never_returns_is_given_up_at_the_limit<S: Subject>() {
    for prefetch in [0, 1] {
        let options = PoolOptions::default().max_rows(1).capacity(3);
        let rig = guarded_runtime(S::device(), prefetch, options);
        let held = rig.hold();
        let waiting: Vec<_> = [1.0, 2.0, 3.0].map(|row| rig.submit(row)).into();
        let handle = rig.runtime.handle().clone();
        let working = spawn(move || handle.state("gated"));
        rig.clock.advance(ALMOST);
        assert!(rig.runtime.handle().is_running());
        rig.clock.advance(Duration::from_nanos(1));
        assert_stuck(answer(held));
        for ticket in waiting {
            assert_stuck(answer(ticket));
        }
        assert!(matches!(receive(&working), Err(ControlError::DeviceLost(DeviceLoss::Stuck { .. }))));

        assert!(matches!(rig.refusal(), SubmitError::DeviceLost(DeviceLoss::Stuck { .. })));
        assert!(matches!(rig.runtime.handle().health(), Health::Lost(DeviceLoss::Stuck { .. })));
        assert!(!rig.runtime.handle().is_running());
        assert!(matches!(rig.runtime.handle().ready().wait(), Err(StartError::DeviceLost(_))));
        rig.assert_every_task_counted();
        for how in [Shutdown::Drain, Shutdown::Abort] {
            assert_eq!(
                rig.runtime.shutdown(how, LIMIT),
                Err(ShutdownError::DeviceStuck { limit: MOST }),
                "it does not wait"
            );
        }
        drop(rig.runtime);
        // It ends when the block returns.
        let ended = rig.gate.open_for_good().recv_timeout(LIMIT);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "nothing else ran");
    }
}

/// Callers who wait for room when the device gets stuck are refused, blocking and awaiting.
pub fn callers_who_wait_for_room_hear_of_the_loss<S: Subject>() {
    let rig = guarded_runtime(S::device(), 0, PoolOptions::default().capacity(1));
    let held = rig.hold();
    let waiting = rig.submit(1.0);
    let mut awaiting = pin!(rig.pool().submit_async(columns(&*rig.device, &[2.0])));
    assert!(poll_once(&mut awaiting).is_pending());
    let (pool, input) = (rig.pool().clone(), columns(&*rig.device, &[3.0]));
    let blocked = spawn(move || pool.submit(input).map(|_| ()));
    rig.clock.advance(MOST);
    for refused in [block_on(awaiting).map(|_| ()), receive(&blocked)].map(Result::unwrap_err) {
        assert!(matches!(refused.error, SubmitError::DeviceLost(_)), "{refused}");
    }
    assert_stuck(answer(held));
    assert_stuck(answer(waiting));
}

/// A device that hangs while it gathers, synchronizes or scatters is as stuck as a block.
pub fn a_device_that_hangs_anywhere_is_given_up<S: Subject>() {
    use Operation::{Gather, Join, Scatter, Slice, Synchronize};
    for operation in [Slice, Gather, Synchronize, Scatter, Join] {
        for prefetch in [0, 1] {
            let (enter, entered) = channel();
            let (open, opened) = channel::<()>();
            let opened = skep_runtime_core::sync::Mutex::new(opened);
            let device: On<S> = Hooked::new(S::device()).remote().hook(move |at| {
                if at == operation {
                    enter.send(()).ok();
                    opened.lock().recv().ok();
                }
                Ok(())
            });
            let (builder, clock) = new_builder(device, prefetch);
            let mut builder = builder.batch_limit(MOST);
            let device = Arc::clone(builder.device());
            let block = rows_block(&device, "gated", Ok);
            let options = PoolOptions::default().max_rows(1).split_large_tasks(true);
            let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
            let runtime = builder.start().unwrap();
            let submit = || served.forward.try_submit(columns(&*device, &[1.0, 2.0]));
            let stuck = submit().unwrap();
            receive(&entered);
            let waiting = submit().unwrap();
            clock.advance(MOST);
            assert_stuck(answer(stuck));
            assert_stuck(answer(waiting));
            assert!(matches!(submit().unwrap_err().error, SubmitError::DeviceLost(_)));
            drop(runtime);
            drop(open);
        }
    }
}

/// A runtime that is dropped while its device is stuck is let go at the limit.
pub fn a_drop_waits_no_longer_than_the_limit<S: Subject>() {
    let rig = guarded_runtime(S::device(), 1, PoolOptions::default());
    let held = rig.hold();
    let runtime = rig.runtime;
    let dropping = spawn(move || drop(runtime));
    // Once the drop has closed the pool; it then waits for the block.
    while rig.served.forward.try_submit(columns(&*rig.device, &[1.0])).is_ok() {
        std::thread::yield_now();
    }
    rig.clock.advance(MOST);
    receive(&dropping);
    assert_stuck(answer(held));
}

/// The limit is one batch's: any number of batches may take almost as long, one after the other.
pub fn batches_within_the_limit_go_on<S: Subject>() {
    for prefetch in [0, 1] {
        let options = PoolOptions::default().max_rows(1);
        let rig = guarded_runtime(S::device(), prefetch, options);
        let tickets: Vec<_> = [1.0, 2.0, 3.0, 4.0].map(|row| rig.submit(row)).into();
        for (ticket, row) in tickets.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
            assert_eq!(rig.gate.entered(), [row]);
            rig.clock.advance(ALMOST);
            rig.gate.open();
            assert_eq!(values_of(&*rig.device, ticket), [2.0 * row]);
        }
        // Idle for longer than any batch may take.
        rig.clock.advance(100 * MOST);
        let last = rig.hold();
        rig.clock.advance(ALMOST);
        rig.gate.open();
        answer(last).unwrap();
        assert!(rig.runtime.handle().is_running());
        rig.runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        assert!(matches!(rig.runtime.handle().health(), Health::Stopped));
    }
}

/// The pools of a stuck device go on with another one, under the callers' hands; whatever the stuck one does
/// later reaches nobody.
pub fn another_device_takes_the_pools_over<S: Subject>() {
    let rig = guarded_runtime(S::device(), 1, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let prefetched = rig.submit(1.0);
    let again = |name: &str| rows_block(&rig.device, name, |rows| Ok(rows.iter().map(|v| 3.0 * v).collect()));
    let error = rig.successor::<S>().take_over(again("new"), &rig.served).unwrap_err();
    assert!(matches!(&error, StartError::PoolInUse { pool } if pool == "gated_forward"), "{error}");
    rig.clock.advance(MOST);
    assert_stuck(answer(held));
    assert_stuck(answer(prefetched));

    let other = crate::kit::named_schema(&["z"]);
    let other = skep_runtime_core::testing::FnBlock::new("other", other.clone(), Some(other), |_| {
        Err::<Vec<_>, _>("never called".into())
    });
    let error = rig.successor::<S>().take_over(other, &rig.served).unwrap_err();
    assert_eq!(error.to_string(), "block `other` cannot take over the pools of `gated`: their inputs differ");

    let stats = Stats::new();
    let mut builder = rig.successor::<S>().observer(stats.observer());
    builder.take_over(again("new"), &rig.served).unwrap();
    assert!(matches!(rig.refusal(), SubmitError::DeviceLost(_)), "not before the start");
    let second = builder.start().unwrap();
    assert!(rig.served.forward.loss().is_none());
    assert_eq!(values_of(&*rig.device, rig.submit(2.0)), [6.0]);

    // The stuck block returns, and its runtime ends. Neither touches the pool.
    drop(rig.runtime);
    let ended = rig.gate.open_for_good().recv_timeout(LIMIT);
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "the prefetched batch did not run");
    let more = rig.served.forward.try_submit(columns(&*rig.device, &[4.0])).unwrap();
    assert_eq!(values_of(&*rig.device, more), [12.0]);
    second.shutdown(Shutdown::Drain, LIMIT).unwrap();
    let refused = rig.served.forward.try_submit(columns(&*rig.device, &[4.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::ShutDown), "an ordinary end: {refused}");

    // Each runtime counts its own tasks.
    let counted = |stats: &Stats| {
        let pool = stats.snapshot().pools.swap_remove(0);
        assert_reconciled(&pool);
        (pool.succeeded, pool.failed)
    };
    assert_eq!(counted(&rig.stats), (0, 2));
    assert_eq!(counted(&stats), (2, 0));
}

/// The pools of classes go along with those that every block has.
pub fn pools_of_classes_are_taken_over_too<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 0);
    let mut builder = builder.batch_limit(MOST);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let mut served = builder.serve(block, ServeOptions::default()).unwrap();
    let options = PoolOptions::default();
    let bulk = builder.add_pool(&mut served, skep_runtime_core::Pass::Forward, "bulk", options).unwrap();
    let first = builder.start().unwrap();
    let held = bulk.try_submit(columns(&*device, &[1.0])).unwrap();
    gate.entered();
    clock.advance(MOST);
    assert!(matches!(answer(held), Err(TaskError::DeviceLost(_))));
    let (mut builder, _) = new_builder(S::device(), 0);
    let again = rows_block(&device, "again", |rows| Ok(rows.iter().map(|v| 3.0 * v).collect()));
    builder.take_over(again, &served).unwrap();
    let second = builder.start().unwrap();
    for pool in [&bulk, &served.forward] {
        assert_eq!(values_of(&*device, pool.try_submit(columns(&*device, &[2.0])).unwrap()), [6.0]);
    }
    drop(gate);
    drop(first);
    second.shutdown(Shutdown::Drain, LIMIT).unwrap();
}

/// Pools that were lost have one new owner: a second builder is refused, and one that gives up lets them go, whatever of
/// its own it had begun.
pub fn pools_have_one_owner<S: Subject>() {
    let rig = guarded_runtime(S::device(), 1, PoolOptions::default());
    let held = rig.hold();
    rig.clock.advance(MOST);
    assert_stuck(answer(held));
    let again = |name: &str| rows_block(&rig.device, name, |rows| Ok(rows.iter().map(|v| 3.0 * v).collect()));
    let in_use = |error: StartError| assert!(matches!(&error, StartError::PoolInUse { .. }), "{error}");

    let mut first = rig.successor::<S>();
    first.take_over(again("first"), &rig.served).unwrap();
    in_use(rig.successor::<S>().take_over(again("second"), &rig.served).unwrap_err());
    drop(first);
    assert!(matches!(rig.refusal(), SubmitError::DeviceLost(_)), "still lost, and not closed");

    let mut unstarted = rig.successor::<S>();
    unstarted.take_over(again("unstarted"), &rig.served).unwrap();
    let unstarted = unstarted.build().unwrap();
    in_use(rig.successor::<S>().take_over(again("second"), &rig.served).unwrap_err());
    drop(unstarted);

    let mut second = rig.successor::<S>();
    second.take_over(again("second"), &rig.served).unwrap();
    let second = second.start().unwrap();
    assert_eq!(values_of(&*rig.device, rig.submit(2.0)), [6.0]);
    let mut third = rig.successor::<S>();
    let third = third.take_over(again("third"), &rig.served).unwrap_err();
    in_use(third);
    assert_eq!(values_of(&*rig.device, rig.submit(4.0)), [12.0]);
    drop(rig.gate.open_for_good());
    second.shutdown(Shutdown::Drain, LIMIT).unwrap();
}

/// A device that says that it is lost: what is in flight and what waits fails with the reason, the rest is
/// refused with it, and the runtime ends by itself.
pub fn a_device_that_dies_fails_what_is_in_flight<S: Subject>() {
    for operation in [None, Some(Operation::Gather), Some(Operation::Synchronize), Some(Operation::Scatter)] {
        for prefetch in [0, 1] {
            let dead = Arc::new(AtomicBool::new(false));
            let dies = Arc::clone(&dead);
            let name = S::device().name();
            let fatal = move || DeviceError::Fatal { device: name.clone(), message: "poisoned".to_owned() };
            let of_device = fatal.clone();
            let device: On<S> = Hooked::new(S::device()).remote().hook(move |at| {
                let fails = Some(at) == operation && dies.load(Ordering::SeqCst);
                if fails { Err(of_device()) } else { Ok(()) }
            });
            let (mut builder, _) = new_builder(device, prefetch);
            let device = Arc::clone(builder.device());
            let (open, opened) = channel::<()>();
            let dies = Arc::clone(&dead);
            let block = rows_block(&device, "moody", move |rows| {
                opened.recv().ok();
                let fails = operation.is_none() && dies.load(Ordering::SeqCst);
                if fails { Err(fatal().into()) } else { Ok(rows) }
            });
            let options = PoolOptions::default().max_rows(1);
            let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
            let runtime = builder.start().unwrap();
            let submit = |row| served.forward.try_submit(columns(&*device, &[row]));
            open.send(()).unwrap();
            assert_eq!(values_of(&*device, submit(1.0).unwrap()), [1.0]);
            dead.store(true, Ordering::SeqCst);
            let tickets = [2.0, 3.0, 4.0, 5.0].map(submit);
            drop(open);
            for ticket in tickets {
                // The first may have died before the last was handed in.
                let loss = match ticket {
                    Ok(ticket) => match answer(ticket).map(|_| ()) {
                        Err(TaskError::DeviceLost(loss)) => loss,
                        other => panic!("expected a lost device, got {other:?}"),
                    },
                    Err(refused) => match refused.error {
                        SubmitError::DeviceLost(loss) => loss,
                        other => panic!("expected a lost device, got {other}"),
                    },
                };
                assert!(matches!(loss, DeviceLoss::Fatal(_)), "{loss}");
                assert!(Chain(&loss).to_string().ends_with(" is lost: poisoned"), "{loss}");
            }
            assert!(matches!(submit(6.0).unwrap_err().error, SubmitError::DeviceLost(_)));
            assert!(matches!(runtime.handle().health(), Health::Lost(DeviceLoss::Fatal(_))));
            runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
            assert!(matches!(runtime.handle().health(), Health::Lost(_)), "the reason stays");
        }
    }
}

/// No time at all is no limit for a batch.
pub fn a_limit_of_nothing_is_refused<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let error = builder.batch_limit(Duration::ZERO).build().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "runtime: batch_limit is 0ns, expected more than no time");
}

/// A pool follows the clock of the runtime that takes it over.
pub fn a_pool_follows_the_clock_of_its_new_runtime<S: Subject>() {
    let rig = guarded_runtime(S::device(), 1, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    rig.clock.advance(MOST);
    assert_stuck(answer(held));
    let (mut builder, clock) = crate::kit::new_builder(S::device(), 0);
    clock.advance(Duration::from_hours(1));
    let (block, gate) = crate::kit::gated(&rig.device, "new");
    builder.take_over(block, &rig.served).unwrap();
    let second = builder.start().unwrap();
    let submit = |value, deadline: Option<Duration>| {
        let request = skep_runtime_core::Request::new(columns(&*rig.device, &[value])).deadline(deadline);
        rig.served.forward.try_submit(request).unwrap()
    };
    let running = submit(1.0, None);
    assert_eq!(gate.entered(), [1.0]);
    let late = Duration::from_millis(10);
    let waiting = submit(2.0, Some(late));
    clock.advance(late);
    match answer(waiting).map(|_| ()) {
        Err(TaskError::Expired { waited }) => assert_eq!(waited, late),
        other => panic!("expected an expired task, got {other:?}"),
    }
    drop(gate);
    answer(running).unwrap();
    drop(rig.runtime);
    drop(rig.gate);
    second.shutdown(Shutdown::Drain, LIMIT).unwrap();
}
