//! A channel of many senders and receivers.

pub use shuttle::sync::mpsc::{RecvTimeoutError, TrySendError};

use shuttle::sync::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// The message cannot be sent: every receiver is gone.
#[derive(Debug)]
pub struct SendError<T>(pub T);

/// Nothing can come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvError {
    /// The channel is empty and every sender is gone.
    Disconnected,
}

/// No message is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Now; whether one can come is not said.
    Empty,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    messages: VecDeque<T>,
    capacity: Option<usize>,
    senders: usize,
    receivers: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let state = State { messages: VecDeque::new(), capacity, senders: 1, receivers: 1 };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// A channel without a bound.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

/// A channel of at most `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// Where messages go in.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

/// Where messages come out.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl<T> Sender<T> {
    /// Sends.
    ///
    /// # Errors
    ///
    /// Gives the message back where the channel is full or nobody can receive it.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if state.capacity.is_some_and(|capacity| state.messages.len() >= capacity) {
            return Err(TrySendError::Full(message));
        }
        state.messages.push_back(message);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Sends, waiting for room.
    ///
    /// # Errors
    ///
    /// Gives the message back where nobody can receive it.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = message;
        loop {
            match self.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(message)) => return Err(SendError(message)),
                Err(TrySendError::Full(again)) => message = again,
            }
            let state = self.0.lock();
            let full = |state: &mut State<T>| {
                state.receivers > 0 && state.capacity.is_some_and(|most| state.messages.len() >= most)
            };
            drop(self.0.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for a message.
    ///
    /// # Errors
    ///
    /// When none can come any more.
    pub fn recv(&self) -> Result<T, RecvError> {
        let empty = |state: &mut State<T>| state.messages.is_empty() && state.senders > 0;
        let state = self.0.changed.wait_while(self.0.lock(), empty);
        let message = state.unwrap_or_else(PoisonError::into_inner).messages.pop_front();
        self.0.changed.notify_all();
        message.ok_or(RecvError::Disconnected)
    }

    /// As [`recv`](Self::recv): there is no time here.
    ///
    /// # Errors
    ///
    /// When no message can come any more.
    pub fn recv_timeout(&self, _limit: Duration) -> Result<T, RecvTimeoutError> {
        self.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    /// A message, if one is there.
    ///
    /// # Errors
    ///
    /// When none is.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let message = self.0.lock().messages.pop_front().ok_or(TryRecvError::Empty)?;
        self.0.changed.notify_all();
        Ok(message)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.lock().receivers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

/// As in the real one, messages that nobody can receive any more live on while a sender does.
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.lock().receivers -= 1;
        self.0.changed.notify_all();
    }
}
