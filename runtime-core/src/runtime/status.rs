//! Whether a runtime is ready, and whether it has stopped: for everybody who waits for either.

use crate::error::StartError;
use crate::sync::Mutex;
use crate::sync::event_listener::{self, Event, EventListener};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Built,
    Running,
    Stopped,
}

pub(crate) struct Status {
    phase: Mutex<Phase>,
    changed: Event,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self { phase: Mutex::new(Phase::Built), changed: Event::new() }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Goes on to a later phase.
    pub(crate) fn set(&self, phase: Phase) {
        *self.phase.lock() = phase;
        self.changed.notify(usize::MAX);
    }

    /// Waits until the runtime has stopped; false when `limit` passes first.
    pub(crate) fn wait_stopped(&self, limit: Duration) -> bool {
        let until = Instant::now().checked_add(limit);
        loop {
            let listener = self.changed.listen();
            if self.phase() == Phase::Stopped {
                return true;
            }
            match until {
                Some(until) => {
                    if event_listener::Listener::wait_deadline(listener, until).is_none() {
                        return self.phase() == Phase::Stopped;
                    }
                }
                None => event_listener::Listener::wait(listener),
            }
        }
    }
}

/// Waits until a runtime takes batches: [`wait`](Self::wait) or `.await`.
pub struct Ready {
    status: Arc<Status>,
    listener: Option<EventListener>,
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
        match status.phase() {
            Phase::Built => None,
            Phase::Running => Some(Ok(())),
            Phase::Stopped => Some(Err(StartError::ShutDown)),
        }
    }

    /// Blocks until the runtime takes batches.
    ///
    /// # Errors
    ///
    /// [`StartError::ShutDown`] when it has stopped, or was never started.
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
