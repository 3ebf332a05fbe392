//! The status of a runtime: ready, without its device, or stopped. For everybody who waits for that.

use crate::contract::error::control::{ShutdownError, StartError};
use crate::contract::error::device_loss::DeviceLoss;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::event_listener::{self, Event, EventListener};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Built,
    Running,
    Stopped,
}

/// The health of a runtime.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// Not started yet.
    NotStarted,
    /// It takes tasks and runs batches.
    Running,
    /// It is being shut down: it takes no more tasks, and still runs batches.
    Draining,
    /// Its shutdown has passed its limit: every task is answered, and a block has not returned yet.
    Stuck,
    /// It takes no more work: the device is lost. Another runtime can take its pools over.
    Lost(DeviceLoss),
    /// It was shut down.
    Stopped,
}

pub(crate) struct Status {
    phase: Mutex<Phase>,
    loss: OnceLock<DeviceLoss>,
    /// The device is lost, and every pool and task that was this runtime's has been let go.
    let_go: AtomicBool,
    /// The device thread may never end, so nobody waits for it any more.
    abandoned: AtomicBool,
    /// The pools take no more tasks.
    closing: AtomicBool,
    /// How many wait for the ends of tasks: shutdowns, and blocks that leave. Read at the end of each batch.
    watched: AtomicUsize,
    /// Tasks that a shutdown gave up, for its report.
    given_up: AtomicUsize,
    changed: Event,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            phase: Mutex::new(Phase::Built),
            loss: OnceLock::new(),
            let_go: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            watched: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            changed: Event::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Goes on to a later phase.
    pub(crate) fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.notify();
    }

    /// Notes that the device is lost; false when it was before.
    pub(crate) fn lose(&self, loss: DeviceLoss) -> bool {
        self.loss.set(loss).is_ok()
    }

    pub(crate) fn loss(&self) -> Option<&DeviceLoss> {
        self.loss.get()
    }

    /// Notes that nothing is left of what the loss meets: others may take the pools over.
    pub(crate) fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_let_go(&self) -> bool {
        self.let_go.load(Ordering::SeqCst)
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Notes that the pools take no more tasks.
    pub(crate) fn close(&self) {
        if !self.closing.swap(true, Ordering::SeqCst) {
            self.watch(true);
        }
    }

    /// Notes that somebody waits for the ends of tasks, or waits no more.
    pub(crate) fn watch(&self, begins: bool) {
        if begins {
            self.watched.fetch_add(1, Ordering::SeqCst);
        } else {
            self.watched.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Returns true if somebody may wait for them.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Counts tasks that a shutdown gave up.
    pub(crate) fn gave_up(&self, tasks: usize) {
        self.given_up.fetch_add(tasks, Ordering::Relaxed);
    }

    pub(crate) fn given_up(&self) -> usize {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Returns true if the device thread is stuck in a call, and nobody need wait for it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.has_let_go() && matches!(self.loss(), Some(DeviceLoss::Stuck { .. }))
    }

    /// Wakes those who wait for a change.
    pub(crate) fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    pub(crate) fn health(&self) -> Health {
        match (self.loss(), self.phase()) {
            (Some(loss), _) => Health::Lost(loss.clone()),
            (None, Phase::Built) => Health::NotStarted,
            (None, Phase::Running) if self.is_abandoned() => Health::Stuck,
            (None, Phase::Running) if self.is_closing() => Health::Draining,
            (None, Phase::Running) => Health::Running,
            (None, Phase::Stopped) => Health::Stopped,
        }
    }

    /// Waits until the runtime has stopped; false when `limit` passes first, or waiting any longer is `in_vain`.
    pub(crate) fn wait_stopped(&self, limit: Duration, in_vain: impl Fn(&Self) -> bool) -> bool {
        let stopped = || self.phase() == Phase::Stopped;
        self.wait(limit, || stopped() || in_vain(self));
        stopped()
    }

    /// Waits until `enough`, which is asked again at each change; false when `limit` passes first.
    pub(crate) fn wait(&self, limit: Duration, enough: impl Fn() -> bool) -> bool {
        let until = Instant::now().checked_add(limit);
        loop {
            // Listen first, then look: a change in between is heard.
            let listener = self.changed.listen();
            if enough() {
                return true;
            }
            match until {
                Some(until) => {
                    if event_listener::Listener::wait_deadline(listener, until).is_none() {
                        return enough();
                    }
                }
                None => event_listener::Listener::wait(listener),
            }
        }
    }
}

impl Status {
    /// Awaits the end of the runtime.
    pub(crate) async fn stopped(&self) -> Result<(), ShutdownError> {
        loop {
            // Listen first, then look: a change in between is heard.
            let listener = self.changed.listen();
            if self.phase() == Phase::Stopped {
                return Ok(());
            }
            if let Some(DeviceLoss::Stuck { limit, .. }) = self.loss() {
                return Err(ShutdownError::DeviceStuck { limit: *limit });
            }
            listener.await;
        }
    }
}

/// Waits until a runtime takes batches: [`wait`](Self::wait) or `.await`.
pub struct Ready {
    status: Arc<Status>,
    listener: Option<EventListener>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("health", &self.status.health()).finish_non_exhaustive()
    }
}

impl Ready {
    pub(crate) fn new(status: Arc<Status>) -> Self {
        Self { status, listener: None }
    }

    fn poll_phase(&mut self) -> Option<Result<(), StartError>> {
        let status = &self.status;
        // Listen first, then look: a change in between is heard.
        if self.listener.is_none() {
            self.listener = Some(status.changed.listen());
        }
        match status.health() {
            Health::NotStarted => None,
            Health::Running => Some(Ok(())),
            Health::Lost(loss) => Some(Err(StartError::DeviceLost(loss))),
            Health::Draining | Health::Stuck | Health::Stopped => Some(Err(StartError::ShutDown)),
        }
    }

    /// Blocks until the runtime takes batches.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::ShutDown`] if it has stopped, or was never started, and [`StartError::DeviceLost`] if its
    /// device is lost.
    pub fn wait(mut self) -> Result<(), StartError> {
        loop {
            if let Some(result) = self.poll_phase() {
                return result;
            }
            if let Some(listener) = self.listener.take() {
                event_listener::Listener::wait(listener);
            }
        }
    }
}

impl Future for Ready {
    type Output = Result<(), StartError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(result) = self.poll_phase() {
                return Poll::Ready(result);
            }
            let Some(listener) = &mut self.listener else { continue };
            if Pin::new(listener).poll(context).is_pending() {
                return Poll::Pending;
            }
            self.listener = None;
        }
    }
}
