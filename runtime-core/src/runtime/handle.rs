//! What other threads can ask of a runtime.

use super::bell::on_thread_of;
use super::core::Core;
use super::status::{Health, Phase, Ready, Status};
use crate::backend::{Backend, BlockInfo, BlockState};
use crate::device::Device;
use crate::error::{ControlError, DeviceLoss, ShutdownError};
use crate::pool::{Meter, Shutdown};
use crate::sync::atomic::Ordering;
use crate::sync::{flume, guarded};
use std::sync::Arc;
use std::time::Duration;

/// A handle to a runtime: cheap to clone, usable from any thread, keeps nothing running.
pub struct Handle<D: Device> {
    core: Arc<Core<D>>,
}

impl<D: Device> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<D: Device> Handle<D> {
    pub(crate) fn new(core: Arc<Core<D>>) -> Self {
        Self { core }
    }

    pub(crate) fn core(&self) -> &Core<D> {
        &self.core
    }

    /// The device.
    pub fn device(&self) -> &Arc<D> {
        &self.core.device
    }

    /// The blocks' names and schemas, in the order of registration.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.core.infos
    }

    /// Names and counts of all pools, in the order of registration.
    pub fn pools(&self) -> Vec<Arc<dyn Meter>> {
        self.core.meters()
    }

    /// Waits, or awaits, until the runtime takes batches.
    pub fn ready(&self) -> Ready {
        Ready::new(Arc::clone(&self.core.status))
    }

    /// Whether the runtime takes batches now.
    pub fn is_running(&self) -> bool {
        matches!(self.health(), Health::Running)
    }

    /// How the runtime is. Does not wait; [`Observer::lost`](crate::Observer::lost) tells of a loss at once.
    pub fn health(&self) -> Health {
        self.core.status.health()
    }

    /// Stops the runtime and waits until it has stopped, for at most `limit`.
    ///
    /// New tasks are refused from now on. [`Shutdown::Drain`] runs every task that was accepted;
    /// [`Shutdown::Abort`] answers waiting tasks with [`TaskError::ShutDown`](crate::TaskError::ShutDown)
    /// and lets the batch on the device finish. Calling it again is harmless, and an abort cuts a drain
    /// short. Before the start it only keeps the runtime from starting.
    ///
    /// # Errors
    ///
    /// When `limit` passes first: then every open task is answered with
    /// [`TaskError::ShutDown`](crate::TaskError::ShutDown), and the device thread ends by itself when its
    /// block returns. When the device is stuck, without waiting for `limit`: then every task has been answered
    /// already. On one of the runtime's own threads the shutdown is begun, and the wait refused.
    pub fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError> {
        let phase = self.core.status.phase();
        if phase == Phase::Stopped {
            return Ok(());
        }
        self.core.close(how);
        if phase == Phase::Built {
            return Ok(());
        }
        if on_thread_of(|| Some(self.core.bells.runtime)) {
            return Err(ShutdownError::WouldDeadlock);
        }
        if self.core.status.wait_stopped(limit, Status::is_stuck) {
            return Ok(());
        }
        if let Some(DeviceLoss::Stuck { limit, .. }) = self.core.status.loss() {
            return Err(ShutdownError::DeviceStuck { limit: *limit });
        }
        self.core.abandon();
        Err(ShutdownError::LimitPassed { limit, unfinished: self.core.given_up.load(Ordering::Relaxed) })
    }

    /// Works with a block on the device thread, between two batches, and waits for the result.
    ///
    /// # Errors
    ///
    /// When there is no such block, the work panics, or the runtime stops or loses its device first. The work
    /// itself has no limit.
    pub fn with_block<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut dyn Backend<D>) -> R + Send + 'static,
    ) -> Result<R, ControlError> {
        let unknown = || ControlError::UnknownBlock { name: name.to_owned() };
        let index = self.core.infos.iter().position(|info| info.name == name).ok_or_else(unknown)?;
        if on_thread_of(|| Some(self.core.bells.runtime)) {
            return Err(ControlError::WouldDeadlock);
        }
        let (reply, result) = flume::bounded(1);
        self.core.jobs.push(Box::new(move |blocks| {
            if let Some(block) = blocks.get_mut(index) {
                reply.send(guarded(|| work(block.as_mut()))).ok();
            }
        }));
        self.core.bells.wake_device();
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(ControlError::Panic { block: name.to_owned(), message }),
            Err(flume::RecvError::Disconnected) => Err(match self.core.status.loss() {
                Some(loss) => ControlError::DeviceLost(loss.clone()),
                None => ControlError::ShutDown,
            }),
        }
    }

    /// A copy of a block's state as it is between two batches.
    ///
    /// # Errors
    ///
    /// Those of [`with_block`](Self::with_block), and the block's own.
    pub fn state(&self, block: &str) -> Result<BlockState, ControlError> {
        self.with_block(block, |block| block.state())?
            .map_err(|source| ControlError::Block { block: block.to_owned(), source })
    }

    /// Replaces a block's state between two batches. Returns the names of what the state did not hold,
    /// which keeps its value.
    ///
    /// # Errors
    ///
    /// Those of [`with_block`](Self::with_block), and the block's own; then nothing was replaced.
    pub fn restore(&self, block: &str, state: BlockState) -> Result<Vec<String>, ControlError> {
        self.with_block(block, move |block| block.restore(&state))?
            .map_err(|source| ControlError::Block { block: block.to_owned(), source })
    }
}
