//! Holding the device in the middle of a batch.

use super::blocks::rows_block;
use super::waits::receive;
use skep_runtime_core::Device;
use skep_runtime_core::testing::FnBlock;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

/// The gate at which a block waits with each batch. Dropping it opens it for good, so a case that fails does not
/// hang.
pub struct Gate {
    entered: Receiver<Vec<f32>>,
    open: Sender<()>,
}

impl Gate {
    /// Waits until a batch is at the gate, and returns its rows.
    pub fn entered(&self) -> Vec<f32> {
        receive(&self.entered)
    }

    /// Returns true if no further batch has come to the gate.
    pub fn is_quiet(&self) -> bool {
        matches!(self.entered.try_recv(), Err(TryRecvError::Empty))
    }

    /// Returns true if the block has been dropped.
    pub fn is_gone(&self) -> bool {
        matches!(self.entered.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Lets one batch pass: the one at the gate, or the next to come.
    pub fn open(&self) {
        self.open.send(()).ok();
    }

    /// Lets every batch pass from now on, and returns the channel of those that have come and will come.
    pub fn open_for_good(self) -> Receiver<Vec<f32>> {
        self.entered
    }
}

/// Makes a block that waits at a gate with each batch and then doubles its rows.
pub fn gated<D: Device>(device: &Arc<D>, name: &str) -> (FnBlock<D>, Gate) {
    let (enter, entered) = channel();
    let (open, opened) = channel();
    let block = rows_block(device, name, move |rows| {
        enter.send(rows.clone()).ok();
        opened.recv().ok();
        Ok(rows.iter().map(|v| 2.0 * v).collect())
    });
    (block, Gate { entered, open })
}
