//! What programs over whole runtimes share: a runtime with two blocks, callers, and the accounts of what became of tasks.

use crate::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{JoinHandle, spawn};
use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served, TaskPool};
use skep_runtime_core::pool::Policy;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock, ManualClock};
use skep_runtime_core::{
    Aging, BatchEvent, Classes, DeviceError, DeviceLoss, EarliestDeadline, Fair, Meter, Observer,
    OldestFirst, PoolId, Priority, Reload, Request, RunningRuntime, Runtime, RuntimeBuilder, SubmitError,
    TaskError, Ticket, Unrun,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// There is no time here, so only a wait of none ends by itself.
pub(crate) const LIMIT: Duration = Duration::from_hours(1);
/// A row that makes its batch fail.
pub(crate) const CULPRIT: f32 = 13.0;
/// A row that the outputs lack.
pub(crate) const MISSING: f32 = 19.0;
/// A row beside which there is no room for another.
pub(crate) const LARGE: f32 = 17.0;
/// A row that is the end of the device.
pub(crate) const FATAL: f32 = 23.0;
pub(crate) const LATE: Duration = Duration::from_millis(10);

/// Tasks that were answered with a batch, which the meters do not count, and batches that were taken apart.
#[derive(Default)]
pub(crate) struct Answered(pub(crate) AtomicU64, pub(crate) AtomicU64);

impl Observer for Answered {
    fn started(&self, _: &str, _: Instant) {}
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {}
    fn batch(&self, event: &BatchEvent<'_>) {
        eat_wake_up();
        self.0.fetch_add((event.tasks_succeeded + event.tasks_failed) as u64, Ordering::Relaxed);
        self.1.fetch_add(u64::from(event.taken_apart), Ordering::Relaxed);
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
        eat_wake_up();
    }
    fn stopped(&self, _: Instant) {}
}

/// What a bounded channel in an observer may do to the thread that calls it.
pub(crate) fn eat_wake_up() {
    shuttle::thread::current().unpark();
    shuttle::thread::park();
}

pub(crate) struct Rig {
    pub(crate) served: [Served<FakeDevice>; 2],
    pub(crate) pools: [TaskPool<FakeDevice>; 2],
    pub(crate) meters: Vec<Arc<dyn Meter>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) order: Arc<dyn Policy>,
    pub(crate) answered: Arc<Answered>,
    /// The rows of every run, those that failed too.
    pub(crate) ran: Arc<Mutex<Vec<f32>>>,
    /// The rows of tasks that have expired.
    pub(crate) expired: Mutex<Vec<f32>>,
}

/// Doubles rows, and notes them in `ran`.
pub(crate) fn block(name: &str, ran: &Arc<Mutex<Vec<f32>>>) -> FnBlock<FakeDevice> {
    let ran = Arc::clone(ran);
    FnBlock::rows(name, 1, move |x: &[FakeTensor]| {
        let rows = x[0].values();
        // It takes its time: others go on meanwhile.
        shuttle::thread::yield_now();
        ran.lock().extend(rows);
        if rows.contains(&FATAL) {
            return Err(DeviceError::Fatal { device: "fake".to_owned(), message: String::new() }.into());
        }
        if rows.contains(&CULPRIT) {
            return Err("on purpose".into());
        }
        if rows.contains(&LARGE) && rows.len() > 1 {
            let (device, message) = ("fake".to_owned(), "on purpose".to_owned());
            return Err(DeviceError::OutOfMemory { device, message }.into());
        }
        let rows = rows.iter().filter(|v| **v != MISSING).map(|v| [2.0 * v]);
        Ok(vec![FakeTensor::rows(&rows.collect::<Vec<_>>())])
    })
}

/// Makes such a block of 10 bytes, which takes its time, too.
fn reload(name: &'static str, ran: &Arc<Mutex<Vec<f32>>>) -> Reload<FakeDevice> {
    let ran = Arc::clone(ran);
    let make = move || {
        shuttle::thread::yield_now();
        Ok(block(name, &ran))
    };
    Reload::new(make).bytes(10)
}

/// Draws an order of work.
fn any_order() -> Arc<dyn Policy> {
    match thread_rng().gen_range(0..6) {
        0..4 => shared_order(),
        4 => Arc::new(Fair::new()),
        _ => Arc::new(Classes::of(Fair::new())),
    }
}

/// Draws an order of work that several runtimes can share.
fn shared_order() -> Arc<dyn Policy> {
    match thread_rng().gen_range(0..4) {
        0 | 1 => Arc::new(OldestFirst),
        2 => Arc::new(Aging::new(Duration::from_millis(1))),
        _ => Arc::new(EarliestDeadline::new()),
    }
}

pub(crate) fn build(
    device: FakeDevice,
    prefetch: usize,
    limit: Option<Duration>,
) -> (Rig, Runtime<FakeDevice>) {
    build_by(device, prefetch, limit, any_order(), None)
}

/// With blocks of which one is on the device at a time.
pub(crate) fn start_turns(device: FakeDevice, prefetch: usize) -> (Rig, RunningRuntime<FakeDevice>) {
    let (rig, runtime) = build_by(device, prefetch, None, any_order(), Some(10));
    (rig, runtime.start().unwrap())
}

/// With pools that other runtimes can join.
pub(crate) fn build_shared(
    device: FakeDevice,
    prefetch: usize,
    limit: Option<Duration>,
) -> (Rig, Runtime<FakeDevice>) {
    build_by(device, prefetch, limit, shared_order(), None)
}

fn build_by(
    device: FakeDevice,
    prefetch: usize,
    limit: Option<Duration>,
    order: Arc<dyn Policy>,
    budget: Option<u64>,
) -> (Rig, Runtime<FakeDevice>) {
    let (clock, answered) = (ManualClock::new(), Arc::new(Answered::default()));
    let ran = Arc::new(Mutex::new(Vec::new()));
    let mut builder = RuntimeBuilder::new(device)
        .prefetch(prefetch)
        .hand_over(Duration::ZERO)
        .clock(Arc::clone(&clock) as Arc<_>)
        .policy(Arc::clone(&order))
        .observer(Arc::clone(&answered) as Arc<_>);
    if let Some(limit) = limit {
        builder = builder.batch_limit(limit);
    }
    if let Some(budget) = budget {
        builder = builder.budget(budget);
    }
    let served = [("one", 2), ("two", 1)].map(|(name, capacity)| {
        let options = PoolOptions::default()
            .max_rows(2)
            .capacity(capacity)
            .capacity_rows(Some(8))
            .split_large_tasks(true);
        let options = ServeOptions::forward(options);
        match budget {
            Some(_) => builder.serve_reloadable(reload(name, &ran), options).unwrap(),
            None => builder.serve(block(name, &ran), options).unwrap(),
        }
    });
    let pools = served.each_ref().map(|served| served.forward.clone());
    let runtime = builder.build().unwrap();
    let meters = runtime.handle().pools();
    (Rig { served, pools, meters, clock, order, answered, ran, expired: Mutex::default() }, runtime)
}

pub(crate) fn start_shared(device: FakeDevice, prefetch: usize) -> (Rig, RunningRuntime<FakeDevice>) {
    let (rig, runtime) = build_shared(device, prefetch, None);
    (rig, runtime.start().unwrap())
}

pub(crate) fn start(device: FakeDevice, prefetch: usize) -> (Rig, RunningRuntime<FakeDevice>) {
    let (rig, runtime) = build(device, prefetch, None);
    (rig, runtime.start().unwrap())
}

/// How tasks may end.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum May {
    Succeed,
    BeShutDown,
    Expire,
    BeLost,
    BeRemoved,
    /// Be refused, because the block has left.
    FindNobody,
}

/// Three callers: one waits, one awaits, one drops what it has submitted.
pub(crate) fn callers(rig: &Rig, may: &'static [May]) -> Vec<JoinHandle<()>> {
    let allowed = |result: Result<Vec<FakeTensor>, TaskError>, value: f32, may: &[May]| match result {
        Ok(outputs) => assert_eq!(outputs, [FakeTensor::rows(&[[2.0 * value]])]),
        Err(TaskError::ShutDown) => assert!(may.contains(&May::BeShutDown), "shut down"),
        Err(TaskError::Expired { .. }) => assert!(may.contains(&May::Expire), "expired"),
        Err(TaskError::DeviceLost(_)) => assert!(may.contains(&May::BeLost), "lost"),
        Err(TaskError::Removed) => assert!(may.contains(&May::BeRemoved), "removed"),
        Err(other) => panic!("no task should end like this: {other}"),
    };
    let task = move |value: f32| {
        let request = Request::new(vec![FakeTensor::rows(&[[value]])]);
        if may.contains(&May::Expire) { request.deadline(LATE) } else { request }
    };
    let closed = |error: &SubmitError| match error {
        SubmitError::ShutDown | SubmitError::DeadlinePassed => {}
        SubmitError::DeviceLost(_) => assert!(may.contains(&May::BeLost), "lost"),
        SubmitError::Removed => assert!(may.contains(&May::FindNobody), "removed"),
        other => panic!("no task should be refused like this: {other}"),
    };
    let [one, two] = rig.pools.clone();
    let waiting = spawn(move || match one.submit(task(1.0)) {
        Ok(ticket) => allowed(ticket.wait(), 1.0, may),
        Err(refused) => closed(&refused.error),
    });
    let urgent = two.clone();
    let awaiting = spawn(move || match block_on(urgent.submit_async(task(2.0).priority(Priority::URGENT))) {
        Ok(ticket) => allowed(block_on(ticket), 2.0, may),
        Err(refused) => closed(&refused.error),
    });
    let dropping = spawn(move || match two.submit(task(3.0)) {
        Ok(ticket) => drop(ticket),
        Err(refused) => closed(&refused.error),
    });
    vec![waiting, awaiting, dropping]
}

impl Rig {
    /// Every task that was submitted is accounted for, once.
    pub(crate) fn assert_reconciled(&self) {
        let counts: Vec<_> = self.meters.iter().map(|meter| meter.counts()).collect();
        let submitted: u64 = counts.iter().map(|c| c.submitted).sum();
        let uncut: u64 = counts
            .iter()
            .map(|c| c.refused + c.cancelled + c.expired + c.evicted + c.failed + c.shut_down)
            .sum();
        let cut = self.answered.0.load(Ordering::Relaxed);
        assert_eq!(submitted, uncut + cut, "{counts:?} and {cut} answered after the cut");
        assert!(counts.iter().all(|c| c.waiting == 0), "{counts:?}");
        let ran = self.ran.lock();
        assert!(self.expired.lock().iter().all(|row| !ran.contains(row)), "expired and ran");
    }
}

/// A batch of these tasks, or several, and what came of each.
pub(crate) fn tickets<const N: usize>(rig: &Rig, rows: [f32; N], deadline: Option<Duration>) -> [Tried; N] {
    rows.map(|row| {
        let request = Request::new(vec![FakeTensor::rows(&[[row]])]);
        let ticket = rig.pools[0].submit(request.deadline(deadline)).unwrap();
        Tried { row, ticket }
    })
}

pub(crate) struct Tried {
    pub(crate) row: f32,
    pub(crate) ticket: Ticket<FakeTensor>,
}

impl Tried {
    /// Waits for the answer: the outputs, or for the culprit its failure, or what else may be.
    pub(crate) fn wait(self, rig: &Rig, may: &[May]) {
        match self.ticket.wait() {
            Ok(outputs) => assert_eq!(outputs, [FakeTensor::rows(&[[2.0 * self.row]])]),
            Err(TaskError::Failed(_)) => assert!([CULPRIT, MISSING].contains(&self.row), "harmed"),
            Err(TaskError::ShutDown) => assert!(may.contains(&May::BeShutDown), "shut down"),
            Err(TaskError::Expired { .. }) => {
                assert!(may.contains(&May::Expire), "expired");
                rig.expired.lock().push(self.row);
            }
            Err(other) => panic!("no task should end like this: {other}"),
        }
    }
}

pub(crate) fn join_all(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Submits a task that is the end of the device, if it is still there.
pub(crate) fn kill(pool: &TaskPool<FakeDevice>) -> JoinHandle<()> {
    let pool = pool.clone();
    spawn(move || {
        if let Ok(ticket) = pool.submit(vec![FakeTensor::rows(&[[FATAL]])]) {
            assert!(matches!(ticket.wait(), Err(TaskError::DeviceLost(DeviceLoss::Fatal(_)))));
        }
    })
}
