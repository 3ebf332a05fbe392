//! Code of others (wakers, observers, errors, panic payloads) that panics, hangs or takes its time: it harms nobody else.

use crate::Subject;
use crate::kit::{
    Bomb, HostileError, LIMIT, Log, answer, columns, drain, gated, new_builder, poll_once, pool_of,
    quiet_panics, rig, rows_block, values_of,
};
use skep_pool::PoolOptions;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{
    BatchEvent, BoxError, Meter, Observer, PoolId, Request, Shutdown, ShutdownError, TaskError, Unrun,
};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(170);

/// Says that it was called, and returns when it is told to.
struct Slow {
    called: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

impl Slow {
    fn new() -> (Arc<Self>, Receiver<()>, Sender<()>) {
        let ((call, called), (go, go_on)) = (channel(), channel());
        (Arc::new(Self { called: Mutex::new(call), go_on: Mutex::new(go_on) }), called, go)
    }

    fn wait(&self) {
        self.called.lock().send(()).ok();
        self.go_on.lock().recv().ok();
    }
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        self.wait();
    }
}

/// Whoever waits on a thread hears of its deadline at its time, while the waker of another one takes its time.
pub fn a_slow_waker_delays_no_deadline<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default());
    let held = rig.hold();
    let task = |row: f32, deadline| Request::new(columns(&*rig.device, &[row])).deadline(deadline);
    let (slow, called, go_on) = Slow::new();
    let mut awaited = rig.pool.try_submit(task(1.0, SHORT)).unwrap();
    let waker = Waker::from(slow);
    assert!(Pin::new(&mut awaited).poll(&mut Context::from_waker(&waker)).is_pending());
    let waited = rig.pool.try_submit(task(2.0, 2 * SHORT)).unwrap();
    rig.clock.advance(SHORT);
    called.recv_timeout(LIMIT).unwrap();
    rig.clock.advance(SHORT);
    assert!(matches!(answer(waited), Err(TaskError::Expired { waited }) if waited == 2 * SHORT));
    assert!(matches!(poll_once(&mut awaited), std::task::Poll::Ready(Err(TaskError::Expired { .. }))));
    drop(go_on);
    assert!(rig.finish(held).is_empty());
}

/// Errors and panic payloads that panic when they are printed, asked for their cause or dropped, and an error that is
/// its own cause: their callers are answered, and the runtime goes on.
pub fn hostile_errors_harm_their_batch_only<S: Subject>() {
    quiet_panics();
    for prefetch in [0, 1] {
        let (mut builder, _) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let block = rows_block(&device, "hostile", |rows| {
            let error: BoxError = match rows[0] {
                1.0 => HostileError::Display.into(),
                2.0 => HostileError::Source.into(),
                3.0 => HostileError::Endless.into(),
                4.0 => std::panic::panic_any(Bomb),
                _ => return Ok(rows),
            };
            Err(error)
        });
        let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(1));
        let runtime = builder.start().unwrap();
        for row in [1.0, 2.0, 3.0, 4.0] {
            let ticket = pool.submit(columns(&*device, &[row])).unwrap();
            assert!(matches!(answer(ticket).map(drop), Err(TaskError::Failed(_))), "row {row}");
            assert_eq!(values_of(&*device, pool.submit(columns(&*device, &[7.0])).unwrap()), [7.0]);
        }
        drain(runtime);
    }
}

/// An observer that hangs in `batch`.
struct Hanging(Arc<Slow>);

impl Observer for Hanging {
    fn started(&self, _: &str, _: Instant) {}
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {}
    fn batch(&self, _: &BatchEvent<'_>) {
        self.0.wait();
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {}
    fn stopped(&self, _: Instant) {}
}

/// A batch that an observer hangs over is answered when the limit of a shutdown passes, with its outputs.
pub fn an_observer_that_hangs_keeps_no_answer<S: Subject>() {
    for remote in [false, true] {
        let (slow, called, go_on) = Slow::new();
        let device = crate::kit::Hooked::new(S::device());
        let (builder, _) = new_builder(if remote { device.remote() } else { device }, 1);
        let mut builder = builder.observer(Arc::new(Hanging(slow)));
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let runtime = builder.start().unwrap();
        let ticket = pool.submit(columns(&*device, &[7.0])).unwrap();
        called.recv_timeout(LIMIT).unwrap();
        assert!(!ticket.is_done(), "who has an answer finds it counted");
        let late = runtime.shutdown(Shutdown::Drain, Duration::ZERO);
        assert!(matches!(late, Err(ShutdownError::LimitPassed { .. })), "{late:?}");
        assert_eq!(values_of(&*device, ticket), [7.0]);
        drop(go_on);
        drop(runtime);
    }
}

/// An observer that eats the wake-ups of the thread that it is called on, as a bounded channel may.
struct Parking(Log<&'static str>);

impl Parking {
    fn park(&self, during: &'static str) {
        self.0.push(during);
        std::thread::current().unpark();
        std::thread::park();
    }
}

impl Observer for Parking {
    fn started(&self, _: &str, _: Instant) {
        self.park("started");
    }
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {
        self.park("pool_added");
    }
    fn batch(&self, _: &BatchEvent<'_>) {
        self.park("batch");
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
        self.park("unrun");
    }
    fn stopped(&self, _: Instant) {
        self.park("stopped");
    }
}

/// An abort ends, although an observer parks while batches that were gathered ahead are given up.
pub fn an_observer_that_parks_keeps_nobody_asleep<S: Subject>() {
    for _ in 0..50 {
        let (builder, _) = new_builder(S::device(), 2);
        let log = Log::new();
        let mut builder = builder.observer(Arc::new(Parking(log.clone())));
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(1));
        let runtime = builder.start().unwrap();
        let tickets: Vec<_> = (0..5).map(|_| pool.try_submit(columns(&*device, &[1.0])).unwrap()).collect();
        gate.entered();
        let handle = runtime.handle().clone();
        let aborting = crate::kit::spawn(move || handle.shutdown(Shutdown::Abort, LIMIT));
        let opened = gate.open_for_good();
        crate::kit::receive(&aborting).unwrap();
        for ticket in tickets {
            answer(ticket).ok();
        }
        drop((runtime, opened));
        assert_eq!(log.take().last(), Some(&"stopped"));
    }
}

/// Work with a block takes turns with batches, however much of it there is.
pub fn work_with_blocks_starves_nobody<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let order = Log::new();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (handle, order) = (rig.runtime.handle().clone(), order.clone());
            crate::kit::spawn(move || handle.with_block("gated", move |_| order.push("work")))
        })
        .collect();
    let task = rig.submit(&[3.0]);
    rig.gate.open();
    answer(held).unwrap();
    rig.gate.entered();
    let before = order.take().len();
    assert!(before <= 1, "{before} pieces of work before a task that waited");
    rig.gate.open();
    answer(task).unwrap();
    for worker in workers {
        crate::kit::receive(&worker).unwrap();
    }
    drain(rig.runtime);
}
