//! Handles: a runtime's control from other threads.

use super::shared::Shared;
use super::status::{Health, Phase, Ready, Status};
use super::work::{Found, Job};
use crate::contract::backend::{Backend, BlockInfo, BlockState, Fit, Unmatched};
use crate::contract::clock::Clock;
use crate::contract::device::Device;
use crate::contract::error::control::{ControlError, ShutdownError};
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::meter::Meter;
use crate::contract::pool::Shutdown;
use crate::contract::price::Cost;
use crate::contract::thread_mark::on_thread_of;
use crate::sync::{flume, guarded};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A handle to a runtime: cheap to clone, usable from any thread, keeps nothing running.
pub struct Handle<D: Device> {
    shared: Arc<Shared<D>>,
}

impl<D: Device> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl<D: Device> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Device> Handle<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Shared<D> {
        &self.shared
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<D> {
        &self.shared.outside.device
    }

    /// Returns the clock, for pools of one's own.
    pub fn clock_handle(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.outside.clock)
    }

    /// Returns the blocks' names and schemas, in the order of their places; those that [leave](Self::remove) are not
    /// among them.
    pub fn blocks(&self) -> Vec<BlockInfo> {
        self.shared.stage.lock().directory.infos()
    }

    /// Returns the names and counts of all pools, those included whose block [leaves](Self::remove), in the order of their
    /// places.
    pub fn pools(&self) -> Vec<Arc<dyn Meter>> {
        let stations = self.shared.stage.lock().directory.stations();
        stations.into_iter().map(|station| station as Arc<dyn Meter>).collect()
    }

    /// Returns the name and counts of a pool, or `None` if the runtime feeds from none of this name.
    pub fn pool(&self, name: &str) -> Option<Arc<dyn Meter>> {
        let stage = self.shared.stage.lock();
        stage.directory.pool_of(name).map(|station| Arc::clone(station) as Arc<dyn Meter>)
    }

    /// Returns what batches of a pool have cost lately, for each size of a row, the smallest first. Empty if the runtime
    /// feeds from no pool of this name, or nothing was learned yet: of batches shorter than
    /// [`hand_over`](crate::RuntimeBuilder::hand_over) nothing is.
    pub fn costs(&self, pool: &str) -> Vec<Cost> {
        let stations = self.shared.stage.lock().directory.stations();
        let Some(station) = stations.into_iter().find(|station| station.pool.name() == pool) else {
            return Vec::new();
        };
        let prices = self.shared.stage.lock().selector.prices(station.id);
        prices.into_iter().map(|(elements, price, batches)| Cost { elements, price, batches }).collect()
    }

    /// Waits, or awaits, until the runtime takes batches.
    pub fn ready(&self) -> Ready {
        Ready::new(Arc::clone(&self.shared.status))
    }

    /// Returns true if the runtime takes batches now.
    pub fn is_running(&self) -> bool {
        matches!(self.health(), Health::Running)
    }

    /// Returns the runtime's health. Does not wait; [`Observer::lost`](crate::Observer::lost) hears of a loss at once.
    pub fn health(&self) -> Health {
        self.shared.status.health()
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
    /// Returns [`ShutdownError::LimitPassed`] if `limit` passes first: then every open task is answered with
    /// [`TaskError::ShutDown`](crate::TaskError::ShutDown), and the device thread ends by itself when its
    /// block returns. Returns [`ShutdownError::DeviceStuck`], without waiting for `limit`, if the device is stuck: then
    /// every task has been answered already. On one of the runtime's own threads, begins the shutdown and returns
    /// [`ShutdownError::WouldDeadlock`].
    pub fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError> {
        let phase = self.shared.status.phase();
        if phase == Phase::Stopped {
            return Ok(());
        }
        self.shared.close(how);
        if phase == Phase::Built {
            return Ok(());
        }
        if on_thread_of(|| Some(self.shared.bells.runtime)) {
            return Err(ShutdownError::WouldDeadlock);
        }
        if self.shared.status.wait_stopped(limit, Status::is_stuck) {
            return Ok(());
        }
        if let Some(DeviceLoss::Stuck { limit, .. }) = self.shared.status.loss() {
            return Err(ShutdownError::DeviceStuck { limit: *limit });
        }
        self.shared.abandon();
        Err(ShutdownError::LimitPassed { limit, unfinished: self.shared.status.given_up() })
    }

    /// Runs every task that was accepted, for at most `limit`, and takes no new ones, from now on and for good. The runtime
    /// stays: this is the time to save the last [state](Self::state) of trained blocks. Then shut it down.
    ///
    /// ```
    /// # use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// # use skep_runtime_core::{RuntimeBuilder, Shutdown};
    /// # use std::time::Duration;
    /// # let mut builder = RuntimeBuilder::new(FakeDevice::new());
    /// # builder.block(FnBlock::rows("expert", 1, |x: &[FakeTensor]| Ok(x.to_vec())))?;
    /// # let runtime = builder.start()?;
    /// let limit = Duration::from_secs(10);
    /// runtime.handle().drain(limit)?;
    /// let last = runtime.handle().state("expert")?;
    /// runtime.shutdown(Shutdown::Drain, limit)?;
    /// # assert!(last.parameters.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ShutdownError::NotDrained`] if `limit` passes first: nothing is given up, and the pools stay closed.
    /// Returns [`ShutdownError::NotStarted`] before the start, [`ShutdownError::DeviceStuck`] if the device is stuck, and
    /// [`ShutdownError::WouldDeadlock`] on one of the runtime's own threads, where the drain begins all the same.
    pub fn drain(&self, limit: Duration) -> Result<(), ShutdownError> {
        match self.shared.status.phase() {
            Phase::Built => return Err(ShutdownError::NotStarted),
            Phase::Stopped => return Ok(()),
            Phase::Running => self.shared.drain(),
        }
        if on_thread_of(|| Some(self.shared.bells.runtime)) {
            return Err(ShutdownError::WouldDeadlock);
        }
        let status = &self.shared.status;
        let over = || status.loss().is_some() || status.phase() == Phase::Stopped || status.is_abandoned();
        let drained = status.wait(limit, || over() || self.shared.is_drained());
        match status.loss() {
            Some(DeviceLoss::Stuck { limit, .. }) => Err(ShutdownError::DeviceStuck { limit: *limit }),
            _ if drained => Ok(()),
            _ => Err(ShutdownError::NotDrained { limit }),
        }
    }

    /// Stops the runtime, as [`shutdown`](Self::shutdown) does, at once; the future is over when it has stopped.
    ///
    /// It knows no limit, because it needs no executor: give it the executor's own (`tokio::time::timeout`, say). When
    /// that passes, `shutdown(Shutdown::Abort, Duration::ZERO)` gives up what is still open. Dropping the future does
    /// not take the shutdown back.
    ///
    /// # Errors
    ///
    /// Resolves to [`ShutdownError::DeviceStuck`] if the device is stuck: then every task has been answered already.
    pub fn shutdown_async(
        &self,
        how: Shutdown,
    ) -> impl Future<Output = Result<(), ShutdownError>> + Send + use<D> {
        let phase = self.shared.status.phase();
        if phase != Phase::Stopped {
            self.shared.close(how);
        }
        let status = Arc::clone(&self.shared.status);
        async move { if phase == Phase::Built { Ok(()) } else { status.stopped().await } }
    }

    /// Works with a block on the device thread, between two batches, and waits for the result.
    ///
    /// # Errors
    ///
    /// Returns [`ControlError::UnknownBlock`] if there is no such block, [`ControlError::NotStarted`] before the start
    /// (a builder [restores](crate::RuntimeBuilder::restore) by itself), [`ControlError::Away`] if it cannot be brought back onto the device, [`ControlError::Panic`] if the work panics, and
    /// [`ControlError::ShutDown`] or [`ControlError::DeviceLost`] if the runtime stops or loses its device first. The
    /// work counts for [`RuntimeBuilder::batch_limit`](crate::RuntimeBuilder::batch_limit), and at most one piece of work
    /// is done between two batches.
    pub fn with_block<R: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&mut dyn Backend<D>) -> R + Send + 'static,
    ) -> Result<R, ControlError> {
        let unknown = || ControlError::UnknownBlock { name: name.to_owned() };
        let block = self.shared.stage.lock().directory.block_of(name).ok_or_else(unknown)?;
        if on_thread_of(|| Some(self.shared.bells.runtime)) {
            return Err(ControlError::WouldDeadlock);
        }
        if self.shared.status.phase() == Phase::Built {
            return Err(ControlError::NotStarted);
        }
        let (reply, result) = flume::bounded(1);
        let job = move |found: Found<'_, D>| {
            let done = match found {
                Found::Here(block) => Ok(Some(guarded(|| work(block.as_mut())))),
                Found::Gone => Ok(None),
                Found::Away(source) => Err(source),
            };
            reply.send(done).ok();
        };
        self.shared.work.push(Job::On(block, Box::new(job)));
        self.shared.bells.wake_device();
        match result.recv() {
            Ok(Ok(Some(Ok(value)))) => Ok(value),
            Ok(Err(source)) => Err(ControlError::Away { block: name.to_owned(), source }),
            Ok(Ok(Some(Err(message)))) => Err(ControlError::Panic { block: name.to_owned(), message }),
            // It has left since.
            Ok(Ok(None)) => Err(unknown()),
            Err(flume::RecvError::Disconnected) => Err(match self.shared.status.loss() {
                Some(loss) => ControlError::DeviceLost(loss.clone()),
                None => ControlError::ShutDown,
            }),
        }
    }

    /// Returns a copy of a block's state as it is between two batches.
    ///
    /// # Errors
    ///
    /// Returns those of [`with_block`](Self::with_block), and [`ControlError::Block`] with the block's own.
    pub fn state(&self, block: &str) -> Result<BlockState, ControlError> {
        let state = self.state_since(block, None)?;
        Ok(state.map(|(state, _)| state).unwrap_or_default())
    }

    /// Replaces a block's state between two batches.
    ///
    /// # Errors
    ///
    /// Returns those of [`with_block`](Self::with_block), and [`ControlError::Block`] with the block's own: a part does
    /// not fit, is missing, or is not the block's. Then nothing was replaced.
    pub fn restore(&self, block: &str, state: BlockState) -> Result<(), ControlError> {
        self.restore_as(block, state, Fit::Exact).map(drop)
    }

    /// Replaces the parts of a block's state that are in `state`, between two batches. Returns the parts that only one
    /// of them has; the block's keep their values.
    ///
    /// # Errors
    ///
    /// Returns those of [`restore`](Self::restore), but for parts that are missing or not the block's.
    pub fn restore_partial(&self, block: &str, state: BlockState) -> Result<Unmatched, ControlError> {
        self.restore_as(block, state, Fit::Partial)
    }

    fn restore_as(&self, block: &str, state: BlockState, fit: Fit) -> Result<Unmatched, ControlError> {
        self.with_block(block, move |block| block.restore(&state, fit))?
            .map_err(|source| ControlError::Block { block: block.to_owned(), source })
    }

    /// Keeps a value of the application's in a block's state, from now on: where it stands in its data, say. `None`
    /// takes it out. It is among the scalars of [`state`](Self::state), under the name `note.` and `name`.
    ///
    /// # Errors
    ///
    /// Returns those of [`with_block`](Self::with_block), and [`ControlError::Block`] if the block keeps none.
    pub fn note(&self, block: &str, name: &str, value: Option<String>) -> Result<(), ControlError> {
        let name = name.to_owned();
        self.with_block(block, move |block| block.note(&name, value))?
            .map_err(|source| ControlError::Block { block: block.to_owned(), source })
    }
}
