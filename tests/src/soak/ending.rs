//! The ways in which a runtime's life ends while callers are at work.

use super::caller::Caller;
use super::device::Faulty;
use crate::kit::LIMIT;
use rand::Rng;
use rand::rngs::StdRng;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{
    Device, Handle, Health, RunningRuntime, Runtime, RuntimeBuilder, Shutdown, ShutdownError, StartError,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Drain,
    Abort,
    Drop,
    /// An abort cuts a drain short.
    DrainThenAbort,
    /// Several threads stop it at once, each in its way, and then once more.
    Twice,
    /// The shutdown's time is up at once.
    LimitPasses,
    /// A block does not return before the shutdown's time is up.
    Stuck,
    /// A block does not return before its batch's limit passes.
    Hangs,
    /// The device reports an error after which nothing works.
    Dies,
    /// One of two devices reports such an error: the other one goes on, and a third takes its place.
    OneDies,
    /// One of two does not return.
    OneHangs,
    /// Work between two batches shuts its own runtime down.
    FromBlock,
    /// The waker of a ticket does.
    FromWaker,
    /// It is shut down while it starts.
    WhileStarting,
    /// It never starts.
    NeverStarted,
}

impl Ending {
    /// Draws an ending; those that leave nothing to watch are rare.
    pub(super) fn random(rng: &mut StdRng) -> Self {
        let most = if rng.random_bool(0.1) { Self::ALL.len() } else { Self::ALL.len() - 2 };
        Self::ALL[rng.random_range(0..most)]
    }

    const ALL: [Self; 15] = [
        Self::Drain,
        Self::Abort,
        Self::Drop,
        Self::DrainThenAbort,
        Self::Twice,
        Self::LimitPasses,
        Self::Stuck,
        Self::Hangs,
        Self::Dies,
        Self::OneDies,
        Self::OneHangs,
        Self::FromBlock,
        Self::FromWaker,
        Self::WhileStarting,
        Self::NeverStarted,
    ];

    /// Sets up the runtime to end like this.
    pub(super) fn prepare<D: Device>(self, builder: RuntimeBuilder<D>) -> RuntimeBuilder<D> {
        // Long beside what a batch takes; where the machine is so busy that one takes longer, it is given up.
        if self.hangs() { builder.batch_limit(Duration::from_millis(50)) } else { builder }
    }

    fn hangs(self) -> bool {
        matches!(self, Self::Hangs | Self::OneHangs)
    }

    /// Returns true if it is the end of one of several devices.
    pub(super) fn is_one_of_several(self) -> bool {
        matches!(self, Self::OneDies | Self::OneHangs)
    }

    /// Returns true if no task of a forward pass that fits into a batch is told of the loss. Where the machine is so busy
    /// that gathering takes longer than a batch may, one is.
    pub(super) fn goes_on(self, are_others_there: bool) -> bool {
        are_others_there && self == Self::OneDies
    }

    /// Starts the runtime, waits until the callers are `halfway` through, and ends it. The runtime has stopped when
    /// this returns.
    pub(super) fn of<D: Device>(
        self,
        runtime: Runtime<Faulty<D>>,
        caller: &mut Caller<D>,
        halfway: impl FnOnce(),
    ) {
        let handle = runtime.handle().clone();
        match self {
            Self::NeverStarted => return drop(runtime),
            Self::WhileStarting => {
                let stopping = stop(&handle, Shutdown::Drain);
                let started = runtime.start();
                stopping.join().unwrap();
                // A shutdown before the start only keeps it from starting, and one after it has ended it.
                return drop(started);
            }
            _ => {}
        }
        match runtime.start() {
            Ok(running) => {
                halfway();
                self.stop_running(&running, caller);
                drop(running);
            }
            Err(StartError::Device(error)) => drop(error),
            Err(other) => panic!("no start should fail like this: {other}"),
        }
        match handle.shutdown(Shutdown::Abort, LIMIT) {
            // Its thread ends when its block returns, which it has been let to.
            Err(ShutdownError::DeviceStuck { .. }) if self.hangs() => {}
            stopped => stopped.expect("runtime should have stopped"),
        }
    }

    fn stop_running<D: Device>(self, running: &RunningRuntime<Faulty<D>>, caller: &mut Caller<D>) {
        match self {
            Self::Drain => running.shutdown(Shutdown::Drain, LIMIT).expect("drain should end"),
            Self::Abort => running.shutdown(Shutdown::Abort, LIMIT).expect("abort should end"),
            Self::DrainThenAbort => {
                let drain = stop(running.handle(), Shutdown::Drain);
                running.shutdown(Shutdown::Abort, LIMIT).expect("abort should end");
                drain.join().unwrap();
            }
            Self::Twice => {
                let stops = [Shutdown::Drain, Shutdown::Abort, Shutdown::Drain]
                    .map(|how| stop(running.handle(), how));
                for stop in stops {
                    stop.join().unwrap();
                }
                running.shutdown(Shutdown::Drain, LIMIT).expect("a second shutdown should do nothing");
            }
            Self::LimitPasses => drop(running.shutdown(Shutdown::Drain, Duration::ZERO)),
            Self::Stuck => {
                let hold = running.handle().device().stuck.arm();
                // A task may be refused, and its batch may fail before it runs.
                while !hold.holds(Duration::from_millis(1)) {
                    caller.push();
                }
                let stopped = running.shutdown(Shutdown::Drain, Duration::from_millis(1));
                assert!(matches!(stopped, Err(ShutdownError::LimitPassed { .. })), "{stopped:?}");
                caller.finish();
                drop(hold);
            }
            Self::Hangs | Self::OneHangs => {
                let hold = running.handle().device().stuck.arm();
                let mut entered = false;
                while running.handle().is_running() {
                    entered |= hold.holds(Duration::from_millis(1));
                    if !entered {
                        caller.push();
                    }
                }
                while !matches!(running.handle().health(), Health::Lost(_)) {
                    thread::yield_now();
                }
                // From then on nothing that it still does reaches anybody.
                let stopped = running.shutdown(Shutdown::Abort, LIMIT);
                assert!(matches!(stopped, Err(ShutdownError::DeviceStuck { .. })), "{stopped:?}");
                caller.finish();
                drop(hold);
            }
            Self::Dies | Self::OneDies => {
                running.handle().device().dead.store(true, Ordering::Relaxed);
                while running.handle().is_running() {
                    caller.push();
                    thread::yield_now();
                }
                caller.finish();
            }
            Self::FromBlock => {
                let handle = running.handle().clone();
                let stopped =
                    running.handle().with_block("block.0", move |_| handle.shutdown(Shutdown::Abort, LIMIT));
                assert!(matches!(stopped, Ok(Err(ShutdownError::WouldDeadlock))), "{stopped:?}");
            }
            Self::FromWaker => {
                let handle = Mutex::new(Some(running.handle().clone()));
                let waker = Waker::from(Arc::new(StoppingWaker(handle)));
                if !caller.poll_with(&waker) {
                    waker.wake();
                }
                caller.finish();
            }
            Self::Drop | Self::WhileStarting | Self::NeverStarted => {}
        }
    }
}

/// Shuts the runtime down from another thread.
fn stop<D: Device>(handle: &Handle<D>, how: Shutdown) -> JoinHandle<()> {
    let handle = handle.clone();
    thread::spawn(move || handle.shutdown(how, LIMIT).expect("shutdown should end"))
}

struct StoppingWaker<D: Device>(Mutex<Option<Handle<D>>>);

impl<D: Device> Wake for StoppingWaker<D> {
    fn wake(self: Arc<Self>) {
        let handle = self.0.lock().take();
        if let Some(handle) = handle {
            // On a thread of the runtime this only begins it.
            handle.shutdown(Shutdown::Abort, LIMIT).ok();
        }
    }
}
