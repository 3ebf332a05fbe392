//! A block that does not return until it is let go.

use skep_runtime_core::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// The place that every run passes. Armed, it holds the next one.
pub(super) struct Stuck {
    armed: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

/// Lets the run go when it is dropped.
pub(super) struct Hold {
    entered: Receiver<()>,
    _release: Sender<()>,
}

impl Stuck {
    pub(super) fn new() -> Self {
        Self { armed: Mutex::new(None) }
    }

    /// Holds the next run.
    pub(super) fn arm(&self) -> Hold {
        let (enter, entered) = channel();
        let (release, released) = channel();
        *self.armed.lock() = Some((enter, released));
        Hold { entered, _release: release }
    }

    /// Returns at once, or if armed when the [`Hold`] is dropped; true then.
    pub(super) fn pass(&self) -> bool {
        let Some((enter, released)) = self.armed.lock().take() else { return false };
        enter.send(()).ok();
        released.recv().ok();
        true
    }
}

impl Hold {
    /// Waits until a run is held. Returns false if `limit` passes first.
    pub(super) fn holds(&self, limit: Duration) -> bool {
        self.entered.recv_timeout(limit).is_ok()
    }
}
