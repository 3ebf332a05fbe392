//! Blocks that leave a running runtime.
//!
//! A block that leaves takes no more tasks, and its names are free. Once the last task that it had accepted is answered, the device
//! thread takes it out between two batches: whoever answers that task has it done, so nobody need wait for the end.

use super::blocks::{Blocks, Body};
use super::directory::Station;
use super::handle::Handle;
use super::shared::{Now, Shared};
use super::stage::Stage;
use super::status::Phase;
use super::work::Job;
use crate::contract::answer::reply::Settled;
use crate::contract::device::Device;
use crate::contract::error::control::ControlError;
use crate::contract::error::task::TaskError;
use crate::contract::id::{BlockId, RuntimeId};
use crate::contract::pool::{Pool, Shutdown};
use crate::contract::thread_mark::on_thread_of;
use crate::sync::{discard, discard_all, flume, guarded, log};
use std::sync::Arc;
use std::time::Duration;

impl<D: Device> Handle<D> {
    /// Takes a block out of the running runtime, with its pools, and waits until the memory that they had is free.
    ///
    /// Its pools take no more tasks from now on ([`SubmitError::Removed`](crate::SubmitError::Removed)), and its names can be given
    /// again at once. [`Shutdown::Drain`] runs every task that was accepted; [`Shutdown::Abort`] answers those that have not
    /// begun with [`TaskError::Removed`](crate::TaskError::Removed), and lets the batch on the device finish. The device
    /// thread takes the block out between two batches, and the calling thread frees it: other blocks do not notice.
    ///
    /// ```
    /// # use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// # use skep_runtime_core::{RuntimeBuilder, Shutdown};
    /// # use std::time::Duration;
    /// # let mut builder = RuntimeBuilder::new(FakeDevice::new());
    /// # builder.block(FnBlock::rows("expert", 1, |x: &[FakeTensor]| Ok(x.to_vec())))?;
    /// # let runtime = builder.start()?;
    /// runtime.handle().remove("expert", Shutdown::Drain, Duration::from_secs(10))?;
    /// assert!(runtime.handle().blocks().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`ControlError::UnknownBlock`] if there is no such block, or it leaves already, [`ControlError::NotStarted`] before the start,
    /// [`ControlError::ShutDown`] or [`ControlError::DeviceLost`] if the runtime stops or loses its device first, and
    /// [`ControlError::WouldDeadlock`], without doing anything, on one of the runtime's own threads. Returns
    /// [`ControlError::LimitPassed`] if `limit` passes first: then every open task of the block is answered with
    /// [`TaskError::Removed`](crate::TaskError::Removed), and the block goes by itself when it returns from its batch.
    pub fn remove(&self, block: &str, how: Shutdown, limit: Duration) -> Result<(), ControlError> {
        let shared = self.shared();
        let unknown = || ControlError::UnknownBlock { name: block.to_owned() };
        if on_thread_of(|| Some(shared.bells.runtime)) {
            return Err(ControlError::WouldDeadlock);
        }
        if shared.status.phase() == Phase::Built {
            return Err(ControlError::NotStarted);
        }
        let (to, left) = flume::bounded(1);
        let id = shared.leave(block, how, to).ok_or_else(unknown)?;
        let is_gone = || shared.stage.lock().directory.info(id).is_none();
        shared.status.wait(limit, || shared.is_over() || is_gone());
        if is_gone() {
            if let Ok(body) = left.try_recv() {
                shared.outside.free(body);
            }
            return Ok(());
        }
        // The device thread frees it itself then.
        discard(left);
        if let Some(loss) = shared.status.loss() {
            return Err(ControlError::DeviceLost(loss.clone()));
        }
        if shared.is_over() {
            return Err(ControlError::ShutDown);
        }
        let unfinished = shared.give_up_leaving(id, true);
        Err(ControlError::LimitPassed { limit, unfinished })
    }
}

impl<D: Device> Shared<D> {
    /// Returns true if the device thread has no more turn for anybody who waits.
    pub(crate) fn is_over(&self) -> bool {
        let status = &self.status;
        status.loss().is_some() || status.is_abandoned() || status.phase() == Phase::Stopped
    }

    /// Has a block take no more tasks. `None` if there is none of this name.
    fn leave(&self, block: &str, how: Shutdown, to: flume::Sender<Body<D>>) -> Option<BlockId> {
        let id = self.stage.lock().directory.block_of(block)?;
        self.let_go(id, how, Some(to)).then_some(id)
    }

    /// Lets a block leave. Returns false if it leaves already. Whoever is to free it gets it then.
    pub(crate) fn let_go(&self, block: BlockId, how: Shutdown, to: Option<flume::Sender<Body<D>>>) -> bool {
        let stations = {
            let mut stage = self.stage.lock();
            if !stage.directory.leave(block) {
                return false;
            }
            self.status.watch(true);
            if let Some(to) = to {
                self.work.await_block(block, to);
            }
            stage.directory.stations_of(block)
        };
        for station in &stations {
            remove_pool(&*station.pool, self.bells.runtime, how);
            // What was waiting for company need not wait any more.
            self.bells.leave_ring(station.id);
        }
        self.stage.lock().directory.note_closed(block);
        if how == Shutdown::Abort {
            self.give_up_leaving(block, false);
        }
        self.bells.wake_chooser();
        self.stir();
        true
    }

    /// Answers the tasks of a block that leaves, and `all` of them or those that have not begun. Returns their number.
    fn give_up_leaving(&self, block: BlockId, all: bool) -> usize {
        let (stations, unstarted, flights) = {
            let mut stage = self.stage.lock();
            stage.directory.keep(block);
            let stations = stage.directory.stations_of(block);
            let is_of = |pool| stations.iter().any(|station| station.id == pool);
            let unstarted = stage.take_unstarted_if(is_of);
            let flights: Vec<_> = stage.flights.iter().filter(|flight| is_of(flight.pool)).cloned().collect();
            (stations, unstarted, flights)
        };
        let given_up = || -> u64 {
            let counts =
                |station: &Arc<Station<_>>| guarded(|| station.pool.counts().shut_down).unwrap_or_default();
            stations.iter().map(counts).sum()
        };
        let before = given_up();
        for station in &stations {
            remove_pool(&*station.pool, self.bells.runtime, Shutdown::Abort);
        }
        let mut unfinished = usize::try_from(given_up().saturating_sub(before)).unwrap_or(usize::MAX);
        let begun =
            |flight: &Arc<_>| !unstarted.iter().any(|gathered| Arc::ptr_eq(&gathered.batch.flight, flight));
        for flight in flights.iter().filter(|flight| all || !begun(flight)) {
            let mut settled = self.settle_unrun(flight, &TaskError::Removed);
            unfinished += settled.len();
            // An observer that hangs has the answers of this batch behind it.
            settled.extend(flight.take_held_back());
            Settled::deliver_all(&mut settled);
        }
        for mut gathered in unstarted {
            self.leave_out_all(&mut gathered.batch);
            self.land(&gathered.batch.flight);
            discard_all(gathered.inputs);
            gathered.batch.free();
        }
        self.stage.lock().directory.note_closed(block);
        self.stir();
        unfinished
    }

    /// Has the device thread take out the blocks that leave and have no task any more.
    pub(crate) fn see_off(&self) {
        let idle: Vec<_> = {
            let stage = self.stage.lock();
            stage.directory.leaving().filter(|block| is_idle(&stage, *block)).collect()
        };
        for block in idle {
            // Twice does no harm.
            self.work.push(Job::TakeOut(block));
            self.bells.wake_device();
        }
    }

    /// Takes a block out. Called by the device thread between two batches.
    pub(crate) fn take_out(&self, blocks: &mut Blocks<D>, block: BlockId) {
        let stations = self.stage.lock().directory.stations_of(block);
        if let Some(body) = blocks.remove(block.slot) {
            discard(self.work.hand_over(block, body));
        }
        for station in &stations {
            // Nothing waits: it lets go of what it has.
            remove_pool(&*station.pool, self.bells.runtime, Shutdown::Abort);
        }
        let removed = {
            let mut stage = self.stage.lock();
            if stage.directory.info(block).is_none() {
                return;
            }
            for station in &stations {
                stage.forget_pool(station.id);
            }
            stage.residents.forget(block.slot);
            let removed = stage.directory.remove_block(block);
            // There may be room now for one that waits.
            self.keep_house(&mut stage, &Now::new(|| self.now()));
            removed
        };
        if let Some(desk) = &self.desk {
            discard(desk.remove(block.slot));
            self.work.unpark(block);
        }
        self.status.watch(false);
        let (status, observer) = (Arc::clone(&self.status), self.outside.observer.clone());
        self.teller.tell(move || {
            status.notify();
            for station in removed {
                if let Some(observer) = &observer {
                    guarded(|| observer.pool_removed(station.id)).ok();
                }
            }
        });
    }
}

/// Returns true if no task of a block is open.
fn is_idle<T>(stage: &Stage<T>, block: BlockId) -> bool {
    // A batch is cut and filed under this lock, so a task is found in its queue or among the flights. Rows, because
    // what is left of a split task is no task that waits.
    let waits =
        |station: &Arc<Station<T>>| guarded(|| station.pool.counts().waiting_rows).is_ok_and(|rows| rows > 0);
    let stations = stage.directory.stations_of(block);
    let flies = stage.flights.iter().any(|flight| stations.iter().any(|station| station.id == flight.pool));
    // The timer may have taken tasks and not have counted them yet.
    !flies && !stage.expiring && !stations.iter().any(waits)
}

/// Has a pool take no more tasks, because its block leaves.
fn remove_pool<T>(pool: &dyn Pool<T>, by: RuntimeId, how: Shutdown) {
    if let Err(message) = guarded(|| pool.remove(by, how)) {
        // Its tasks must not wait for what will not come.
        guarded(|| pool.close(by, Shutdown::Abort)).ok();
        log(|| tracing::error!(pool = pool.name(), message, "pool panicked while it was removed"));
    }
}
