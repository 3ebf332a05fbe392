//! One pool feeds several devices, and goes on when one of them is lost.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, On, Operation, all_succeed, answer, columns, drain, receive, rows_block, schema, spawn,
    values_of,
};
use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::{FnBlock, ManualClock};
use skep_runtime_core::{
    Clock, Device, DeviceError, DeviceLoss, Health, Priority, Request, RunningRuntime, RuntimeBuilder,
    Shutdown, ShutdownError, StartError, SubmitError, TaskError, TensorOps, Ticket,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// For one batch.
const MOST: Duration = Duration::from_secs(5);

/// Several devices that feed from one pool.
struct Group<D: Device> {
    device: Arc<D>,
    clock: Arc<ManualClock>,
    served: Served<D>,
    runtimes: Vec<RunningRuntime<D>>,
    stats: Vec<Stats>,
    /// Which device a batch is on, and its rows.
    entered: Receiver<(usize, Vec<f32>)>,
    /// For each device what lets a batch pass.
    open: Vec<Sender<()>>,
}

/// A builder of a group's device, on its clock.
pub(super) fn builder_of<D: Device>(
    device: D,
    clock: &Arc<ManualClock>,
    prefetch: usize,
    stats: &Stats,
) -> RuntimeBuilder<D> {
    RuntimeBuilder::new(device)
        .prefetch(prefetch)
        .hand_over(Duration::ZERO)
        .clock(Arc::clone(clock) as Arc<_>)
        .batch_limit(MOST)
        .observer(stats.observer())
}

fn group<S: Subject>(devices: usize, prefetch: usize, options: &PoolOptions) -> Group<S::Device> {
    let clock = ManualClock::new();
    let (enter, entered) = channel();
    let (mut served, mut runtimes) = (None::<Served<S::Device>>, Vec::new());
    let (mut stats, mut open) = (Vec::new(), Vec::new());
    let mut first = None;
    for at in 0..devices {
        let of_it = Stats::new();
        let mut builder = builder_of(S::device(), &clock, prefetch, &of_it);
        let device = Arc::clone(builder.device());
        let (release, opened) = channel::<()>();
        let enter = enter.clone();
        let block = rows_block(&device, "copy", move |rows| {
            enter.send((at, rows.clone())).ok();
            opened.recv().ok();
            Ok(rows.iter().map(|v| 2.0 * v).collect())
        });
        match &served {
            None => served = Some(builder.serve(block, ServeOptions::forward(options.clone())).unwrap()),
            Some(served) => builder.join(block, served).unwrap(),
        }
        runtimes.push(builder.start().unwrap());
        stats.push(of_it);
        open.push(release);
        first.get_or_insert(device);
    }
    Group { device: first.unwrap(), clock, served: served.unwrap(), runtimes, stats, entered, open }
}

impl<D: Device> Group<D> {
    fn submit(&self, value: f32) -> Ticket<D::Tensor> {
        self.served.forward.try_submit(columns(&*self.device, &[value])).unwrap()
    }

    /// Submits a task, and returns the device that has it at its gate.
    fn hold(&self, value: f32) -> (usize, Ticket<D::Tensor>) {
        let ticket = self.submit(value);
        let (at, rows) = receive(&self.entered);
        assert_eq!(rows, [value]);
        (at, ticket)
    }

    /// Waits until a device has been given up.
    fn assert_stuck(&self, at: usize) {
        // It is stuck before its tasks have been given to others, and lost after.
        let health = || self.runtimes[at].handle().health();
        while matches!(health(), Health::Running | Health::Stuck) {
            std::thread::yield_now();
        }
        let health = health();
        assert!(matches!(health, Health::Lost(DeviceLoss::Stuck { .. })), "{health:?}");
    }

    /// Every task is counted by one of the runtimes.
    fn assert_reconciled(&self, succeeded: u64) {
        let now = self.clock.now();
        let totals: Vec<_> = self.stats.iter().map(|stats| stats.snapshot_at(now).total).collect();
        totals.iter().for_each(assert_reconciled);
        assert_eq!(totals.iter().map(|total| total.succeeded).sum::<u64>(), succeeded);
        let submitted: u64 = totals.iter().map(|total| total.submitted).sum();
        assert_eq!(submitted, self.served.forward.counts().submitted);
    }
}

/// Whichever device comes free first cuts, and what is cut next is the most urgent.
pub fn whoever_comes_free_first_cuts<S: Subject>() {
    let group = group::<S>(2, 0, &PoolOptions::default().max_rows(1));
    let (one, first) = group.hold(1.0);
    // The other one is free.
    let (other, second) = group.hold(2.0);
    assert_eq!(one + other, 1);
    let late = group.submit(3.0);
    let urgent = Request::new(columns(&*group.device, &[4.0])).priority(Priority::URGENT);
    let urgent = group.served.forward.try_submit(urgent).unwrap();
    group.open[other].send(()).unwrap();
    assert_eq!(receive(&group.entered), (other, vec![4.0]));
    assert_eq!(values_of(&*group.device, second), [4.0]);
    group.open[one].send(()).unwrap();
    assert_eq!(receive(&group.entered), (one, vec![3.0]));
    let Group { open, runtimes, .. } = &group;
    for at in [one, other] {
        open[at].send(()).unwrap();
    }
    all_succeed([first, late, urgent]);
    for runtime in runtimes {
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
    }
    group.assert_reconciled(4);
    let refused = group.served.forward.try_submit(columns(&*group.device, &[1.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::ShutDown), "{refused}");
}

/// What a stuck device had goes on with the other, with its age; what it does later reaches nobody.
pub fn tasks_of_a_stuck_device_go_on<S: Subject>() {
    {
        let group = group::<S>(2, 0, &PoolOptions::default().max_rows(1));
        let (stuck, first) = group.hold(1.0);
        let other = 1 - stuck;
        let (_, second) = group.hold(2.0);
        // These wait, or have been gathered ahead by either.
        let waiting = [3.0, 4.0, 5.0].map(|value| group.submit(value));
        group.clock.advance(MOST / 2);
        // The other one is never stuck for as long as that.
        group.open[other].send(()).unwrap();
        all_succeed([second]);
        let (at, _) = receive(&group.entered);
        assert_eq!(at, other);
        group.clock.advance(MOST / 2);
        group.assert_stuck(stuck);
        for _ in 0..4 {
            group.open[other].send(()).unwrap();
        }
        assert_eq!(values_of(&*group.device, first), [2.0]);
        for (ticket, value) in waiting.into_iter().zip([3.0, 4.0, 5.0]) {
            assert_eq!(values_of(&*group.device, ticket), [2.0 * value]);
        }
        let ran: Vec<_> = group.entered.try_iter().collect();
        assert!(ran.iter().all(|(at, _)| *at == other), "{ran:?}");
        assert_eq!(ran.iter().filter(|(_, rows)| rows == &[1.0]).count(), 1, "once: {ran:?}");

        // It returns, and its answer reaches nobody.
        group.open[stuck].send(()).unwrap();
        let more = group.submit(6.0);
        group.open[other].send(()).unwrap();
        assert_eq!(values_of(&*group.device, more), [12.0]);
        group.runtimes[other].shutdown(Shutdown::Drain, LIMIT).unwrap();
        group.assert_reconciled(6);
    }
}

/// A device that dies, in whatever operation, loses no task of a pool that another one feeds from.
pub fn tasks_of_a_dead_device_go_on<S: Subject>() {
    for operation in [None, Some(Operation::Gather), Some(Operation::Synchronize), Some(Operation::Scatter)] {
        for prefetch in [0, 1] {
            let dead = Arc::new(AtomicBool::new(false));
            let clock = ManualClock::new();
            let name = S::device().name();
            let fatal = move || DeviceError::Fatal { device: name.clone(), message: "poisoned".to_owned() };
            let stats = [(); 2].map(|()| Stats::new());
            let device = |dies: Option<Arc<AtomicBool>>| -> On<S> {
                let fatal = fatal.clone();
                Hooked::new(S::device()).remote().hook(move |at| {
                    let is_dead = dies.as_ref().is_some_and(|dead| dead.load(Ordering::SeqCst));
                    if Some(at) == operation && is_dead { Err(fatal()) } else { Ok(()) }
                })
            };
            let block = |on: &Arc<On<S>>, dies: Option<Arc<AtomicBool>>| {
                let fatal = fatal.clone();
                rows_block(on, "copy", move |rows| {
                    let is_dead = dies.as_ref().is_some_and(|dead| dead.load(Ordering::SeqCst));
                    if operation.is_none() && is_dead { Err(fatal().into()) } else { Ok(rows) }
                })
            };
            let mut dying = builder_of(device(Some(Arc::clone(&dead))), &clock, prefetch, &stats[0]);
            let on = Arc::clone(dying.device());
            let options = ServeOptions::forward(PoolOptions::default().max_rows(2));
            let served = dying.serve(block(&on, Some(Arc::clone(&dead))), options).unwrap();
            let mut living = builder_of(device(None), &clock, prefetch, &stats[1]);
            let own = Arc::clone(living.device());
            living.join(block(&own, None), &served).unwrap();
            let (dying, living) = (dying.start().unwrap(), living.start().unwrap());
            let callers: Vec<_> = (0..4_u16)
                .map(|caller| {
                    let (served, on, dead) = (served.clone(), Arc::clone(&on), Arc::clone(&dead));
                    spawn(move || {
                        for call in 0..50_u16 {
                            if caller == 0 && call == 10 {
                                dead.store(true, Ordering::SeqCst);
                            }
                            let value = f32::from(100 * caller + call);
                            let ticket = served.forward.submit(columns(&*on, &[value])).unwrap();
                            assert_eq!(values_of(&*on, ticket), [value]);
                        }
                    })
                })
                .collect();
            callers.iter().for_each(receive);
            // It may not have had a batch since it died.
            let lost = dying.handle().health();
            assert!(matches!(lost, Health::Lost(DeviceLoss::Fatal(_)) | Health::Running), "{lost:?}");
            dying.shutdown(Shutdown::Drain, LIMIT).unwrap();
            living.shutdown(Shutdown::Drain, LIMIT).unwrap();
            let totals = stats.each_ref().map(|stats| stats.snapshot_at(clock.now()).total);
            totals.iter().for_each(assert_reconciled);
            assert_eq!(totals.iter().map(|total| total.succeeded).sum::<u64>(), 200);
        }
    }
}

/// Of three devices under load one hangs, and then one dies: every answer comes, and is right.
pub fn one_hangs_and_one_dies_under_load<S: Subject>() {
    const CALLERS: u16 = 64;
    const CALLS: u16 = 10;
    let clock = ManualClock::new();
    let stats = [(); 3].map(|()| Stats::new());
    let name = S::device().name();
    let [hangs, dies] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (enter, entered) = channel();
    let (open, opened) = channel::<()>();
    let hanging = (Arc::clone(&hangs), enter, Mutex::new(opened));
    let dying = Arc::clone(&dies);
    // Only the one that hangs has a limit: time stands still for what the others are at. Nobody puts a cut off until a time
    // that does not come.
    let [first, second, third] = stats
        .each_ref()
        .map(|stats| builder_of(S::device(), &clock, 1, stats).senders(2).just_in_time(false).linger(false));
    let (mut first, mut second, mut third) =
        (first, second.batch_limit(Duration::MAX), third.batch_limit(Duration::MAX));
    let device = Arc::clone(first.device());
    let double = |rows: Vec<f32>| rows.iter().map(|v| 2.0 * v).collect::<Vec<_>>();
    let block = rows_block(&device, "double", move |rows| {
        let (hangs, enter, opened) = &hanging;
        if hangs.swap(false, Ordering::SeqCst) {
            enter.send(()).ok();
            opened.lock().recv().ok();
        }
        Ok(double(rows))
    });
    let options = ServeOptions::forward(PoolOptions::default().max_rows(8));
    let served = first.serve(block, options).unwrap();
    let own = Arc::clone(second.device());
    let block = rows_block(&own, "double", move |rows| {
        let fatal = || DeviceError::Fatal { device: name.clone(), message: "poisoned".to_owned() };
        if dying.load(Ordering::SeqCst) { Err(fatal().into()) } else { Ok(double(rows)) }
    });
    second.join(block, &served).unwrap();
    let own = Arc::clone(third.device());
    third.join(rows_block(&own, "double", move |rows| Ok(double(rows))), &served).unwrap();
    let runtimes = [first, second, third].map(|builder| builder.start().unwrap());

    let round = |first: u16, ends: &Arc<AtomicBool>| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (served, on, ends) = (served.clone(), Arc::clone(&device), Arc::clone(ends));
                spawn(move || {
                    for call in 0..CALLS {
                        if caller == 0 && call == CALLS / 2 {
                            ends.store(true, Ordering::SeqCst);
                        }
                        let value = f32::from(first + CALLS * caller + call);
                        let ticket = served.forward.submit(columns(&*on, &[value])).unwrap();
                        assert_eq!(values_of(&*on, ticket), [2.0 * value]);
                    }
                })
            })
            .collect();
        spawn(move || callers.iter().for_each(receive))
    };
    let (all, mut are_over) = (round(0, &hangs), false);
    // It may not have had a batch since it was told to hang.
    while entered.try_recv().is_err() && !are_over {
        are_over = all.try_recv().is_ok();
        std::thread::yield_now();
    }
    clock.advance(MOST);
    if !are_over {
        receive(&all);
    }
    hangs.store(false, Ordering::SeqCst);
    // None of its tasks is left, so none meets a second loss.
    receive(&round(CALLERS * CALLS, &dies));
    drop(open);
    for runtime in &runtimes {
        let ended = runtime.shutdown(Shutdown::Drain, LIMIT);
        assert!(matches!(ended, Ok(()) | Err(ShutdownError::DeviceStuck { .. })), "{ended:?}");
    }
    let totals = stats.each_ref().map(|stats| stats.snapshot_at(clock.now()).total);
    totals.iter().for_each(assert_reconciled);
    let tasks = u64::from(2 * CALLERS * CALLS);
    assert_eq!(totals.iter().map(|total| total.succeeded).sum::<u64>(), tasks);
    assert_eq!(totals.iter().map(|total| total.submitted).sum::<u64>(), tasks);
    assert_eq!(served.forward.counts().submitted, tasks);
}

/// A task goes on once: what a second device loses as well is answered with the loss. Then the pool waits for a third.
pub fn a_task_goes_on_once<S: Subject>() {
    let group = group::<S>(2, 0, &PoolOptions::default().max_rows(1));
    let (one, doomed) = group.hold(1.0);
    group.clock.advance(MOST);
    group.assert_stuck(one);
    let other = 1 - one;
    assert_eq!(receive(&group.entered), (other, vec![1.0]));
    let waiting = group.submit(2.0);
    group.clock.advance(MOST);
    group.assert_stuck(other);
    for ticket in [doomed, waiting] {
        let result = answer(ticket).map(|_| ());
        assert!(matches!(result, Err(TaskError::DeviceLost(DeviceLoss::Stuck { .. }))), "{result:?}");
    }
    let refused = group.served.forward.try_submit(columns(&*group.device, &[1.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::DeviceLost(_)), "{refused}");

    let stats = Stats::new();
    let mut third = builder_of(S::device(), &group.clock, 0, &stats);
    let device = Arc::clone(third.device());
    third.join(rows_block(&device, "third", Ok), &group.served).unwrap();
    let third = third.start().unwrap();
    assert_eq!(values_of(&*group.device, group.submit(3.0)), [3.0]);
    drain(third);
    let total = stats.snapshot_at(group.clock.now()).total;
    assert_reconciled(&total);
    assert_eq!(total.succeeded, 1);
}

/// A device joins while others are at work, and leaves them again.
pub fn a_device_joins_and_leaves<S: Subject>() {
    let mut group = group::<S>(1, 0, &PoolOptions::default().max_rows(1));
    let (_, held) = group.hold(1.0);
    let waiting = group.submit(2.0);
    let stats = Stats::new();
    let third = builder_of(S::device(), &group.clock, 0, &stats).start().unwrap();
    let device = Arc::clone(third.handle().device());
    let times = |by: f32| rows_block(&device, "copy", move |rows| Ok(rows.iter().map(|v| by * v).collect()));
    let other = FnBlock::new("other", schema("z"), Some(schema("y")), |_| Err("never called".into()));
    let error = third.handle().join(other, &group.served).unwrap_err();
    assert!(matches!(error, StartError::OtherSchema { what: "inputs", .. }), "{error}");
    third.handle().join(times(3.0), &group.served).unwrap();
    assert_eq!(values_of(&*group.device, waiting), [6.0], "the first one is busy");
    third.handle().remove("copy", Shutdown::Drain, LIMIT).unwrap();
    // The first one goes on alone.
    let late = group.submit(4.0);
    group.open[0].send(()).unwrap();
    group.open[0].send(()).unwrap();
    assert_eq!(values_of(&*group.device, held), [2.0]);
    assert_eq!(values_of(&*group.device, late), [8.0]);
    drain(third);
    group.stats.push(stats);
    let Group { runtimes, .. } = &group;
    runtimes[0].shutdown(Shutdown::Drain, LIMIT).unwrap();
    group.assert_reconciled(3);
}

/// One of two runtimes is shut down: it finishes what it has begun, and the other one runs the rest.
pub fn one_of_two_is_shut_down<S: Subject>() {
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let group = group::<S>(2, 0, &PoolOptions::default().max_rows(1));
        let mut held = [group.hold(1.0), group.hold(2.0)];
        held.sort_unstable_by_key(|(at, _)| *at);
        let [(one, first), (other, second)] = held;
        let waiting = [3.0, 4.0].map(|value| group.submit(value));
        let handle = group.runtimes[one].handle().clone();
        let stopping = spawn(move || handle.shutdown(how, LIMIT));
        // It counts what waits until it leaves that to the other one.
        let meter = &group.runtimes[one].handle().pools()[0];
        while meter.counts().waiting > 0 {
            std::thread::yield_now();
        }
        group.open[one].send(()).unwrap();
        receive(&stopping).unwrap();
        answer(first).unwrap();
        for _ in 0..3 {
            group.open[other].send(()).unwrap();
        }
        all_succeed([second]);
        all_succeed(waiting);
        assert!(group.entered.try_iter().all(|(at, _)| at == other));
        group.runtimes[other].shutdown(Shutdown::Drain, LIMIT).unwrap();
        group.assert_reconciled(4);
    }
}

/// Backward passes have one home: its loss is theirs, and who joins after it is the next one.
pub fn backward_passes_have_one_home<S: Subject>() {
    let clock = ManualClock::new();
    let steps = Arc::new(AtomicUsize::new(0));
    let (enter, entered) = channel();
    let (open, opened) = channel::<()>();
    let opened = Mutex::new(Some(opened));
    let trained = |device: &Arc<S::Device>, stuck: bool| {
        let (on, steps, enter) = (Arc::clone(device), Arc::clone(&steps), enter.clone());
        let opened = if stuck { opened.lock().take() } else { None };
        rows_block(device, "trained", Ok).with_backward(move |inputs, _| {
            enter.send(()).ok();
            if let Some(opened) = &opened {
                opened.recv().ok();
            }
            steps.fetch_add(1, Ordering::SeqCst);
            Ok(vec![on.from_host(&on.to_host(&inputs[0])?)?])
        })
    };
    let new_home = |stuck| {
        let builder = builder_of(S::device(), &clock, 0, &Stats::new());
        let device = Arc::clone(builder.device());
        (builder, trained(&device, stuck))
    };
    let (mut first, block) = new_home(true);
    let device = Arc::clone(first.device());
    let served = first.serve(block, ServeOptions::default()).unwrap();
    let (mut second, block) = new_home(false);
    second.join(block, &served).unwrap();
    let (first, second) = (first.start().unwrap(), second.start().unwrap());
    let backward = served.backward.clone().unwrap();
    let step = || {
        let inputs = [columns(&*device, &[1.0]), columns(&*device, &[1.0])].into_iter().flatten();
        backward.try_submit(inputs.collect::<Vec<_>>())
    };
    let lost = step().unwrap();
    receive(&entered);
    clock.advance(MOST);
    let result = answer(lost).map(|_| ());
    assert!(matches!(result, Err(TaskError::DeviceLost(_))), "{result:?}");
    assert!(matches!(step().unwrap_err().error, SubmitError::DeviceLost(_)));
    let forward = served.forward.try_submit(columns(&*device, &[5.0])).unwrap();
    assert_eq!(values_of(&*device, forward), [5.0], "inference goes on");

    let (mut third, block) = new_home(false);
    third.join(block, &served).unwrap();
    let third = third.start().unwrap();
    answer(step().unwrap()).unwrap();
    assert_eq!(steps.load(Ordering::SeqCst), 1);
    drop(open);
    drop(first);
    drain(second);
    drain(third);
}
