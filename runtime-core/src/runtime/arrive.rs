//! Blocks that come to a running runtime.
//!
//! Weights are read and placed on the caller's thread. The device thread takes a block in between two batches, which is
//! the work of a moment, and only then do its pools ring.

use super::close::close_pool;
use super::directory::Station;
use super::handle::Handle;
use super::loaded::LoadedBlock;
use super::shared::Shared;
use super::status::Phase;
use super::warm::check;
use super::work::Job;
use crate::contract::backend::{Backend, BlockInfo, Pass};
use crate::contract::device::Device;
use crate::contract::error::control::StartError;
use crate::contract::id::BlockId;
use crate::contract::meter::Meter;
use crate::contract::pool::{Pool, Shutdown};
use crate::contract::thread_mark::on_thread_of;
use crate::sync::{discard, flume, guarded};
use std::sync::Arc;
use std::time::Duration;

/// A pool that is to feed a pass of a block.
type Feeding<T> = (Pass, Arc<dyn Pool<T>>);

/// A block in the directory, with its pools.
type Entered<T> = (BlockId, Vec<Arc<Station<T>>>);

impl<D: Device> Handle<D> {
    /// Loads a block onto the device, on the calling thread, for [`add`](Self::add). With `skep-pool`, one call does both and
    /// makes the block's pools.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::NameTwice`] if the name is taken, [`StartError::Load`] if the block cannot be loaded or its dummy run
    /// fails, and those of [`add`](Self::add) if the runtime takes no blocks.
    pub fn load(&self, block: impl Backend<D>) -> Result<LoadedBlock<D>, StartError> {
        self.shared().takes_blocks()?;
        let info = info_of(&block)?;
        self.shared().stage.lock().directory.check_block(&info.name)?;
        LoadedBlock::load(&**self.device(), Box::new(block), info, usize::MAX)
    }

    /// Takes a loaded block into the running runtime, with the pools that feed it, and waits until the device thread has
    /// taken it in, between two batches.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::NameTwice`], [`StartError::NoSuchPass`] or [`StartError::PoolInUse`] as
    /// [`RuntimeBuilder::pool`](crate::RuntimeBuilder::pool) does, [`StartError::OtherPolicy`] if other runtimes that feed
    /// from a pool have another policy, [`StartError::NotStarted`] before the start, [`StartError::ShutDown`] or
    /// [`StartError::DeviceLost`] if the runtime stops, is being drained, or has lost its device, and [`StartError::WouldDeadlock`] on
    /// one of the runtime's own threads, and [`StartError::WarmUp`] if a batch of its warm-up fails. Nothing is left behind then, and the pools are closed.
    pub fn add(&self, block: LoadedBlock<D>, pools: Vec<Feeding<D::Tensor>>) -> Result<BlockId, StartError> {
        let shared = self.shared();
        shared.takes_blocks()?;
        let LoadedBlock { info, body, mut warm_up, reload } = block;
        check(&info, &warm_up)?;
        let (id, stations) = shared.enter(info, pools)?;
        let mut body = Some(body);
        if let Some(reload) = reload {
            shared.settle_in(id, reload, &mut body, &mut warm_up);
        }
        let stays = body.is_some();
        for station in &stations {
            let meter = || Arc::clone(station) as Arc<dyn Meter>;
            shared.outside.observe(|observer| observer.pool_added(station.id, meter()));
        }
        let (reply, taken_in) = flume::bounded(1);
        shared.work.push(Job::With(Box::new(move |blocks| {
            if let Some(body) = body {
                blocks.insert(id.slot, body);
            }
            reply.send(()).ok();
        })));
        shared.bells.wake_device();
        if taken_in.recv().is_err() {
            // The runtime's end has closed the pools.
            return Err(shared.ended());
        }
        for (at, rows) in warm_up.into_iter().enumerate() {
            if let Err(error) = self.warm(id, rows, at == 0) {
                shared.let_go(id, Shutdown::Abort, None);
                return Err(error);
            }
        }
        if stays {
            shared.stage.lock().residents.worked(id.slot);
        }
        for station in stations {
            let doorbell = shared.bells.doorbell(station.id, &shared.outside.clock);
            if let Err(message) = guarded(|| station.pool.attach(doorbell)) {
                shared.broke(&station, "attach", message);
            }
            shared.bells.leave_ring(station.id);
        }
        shared.bells.wake_chooser();
        Ok(id)
    }

    /// The block of a name, and what is known of it.
    pub(super) fn to_replace(&self, block: &str) -> Option<(BlockId, Arc<BlockInfo>)> {
        let stage = self.shared().stage.lock();
        let id = stage.directory.block_of(block)?;
        Some((id, Arc::clone(stage.directory.info(id)?)))
    }

    /// Runs a batch of zeros between two of others.
    fn warm(&self, block: BlockId, rows: usize, first: bool) -> Result<(), StartError> {
        let (reply, warmed) = flume::bounded(1);
        self.shared().work.push(Job::WarmUp { block, rows, first, reply });
        self.shared().bells.wake_device();
        warmed.recv().unwrap_or_else(|_| Err(self.shared().ended()))
    }

    /// Replaces a block under load: the new one is loaded beside the old one and takes its place between two batches, so
    /// that no caller sees a gap. Once this returns, no answer of the old one comes any more, and it has been dropped. Pools, counts and
    /// the name stay; the new block's own name does not count. What the old one has learned is gone with it, unless
    /// its [state](Self::state) is restored.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::UnknownBlock`] if there is no block of this name, [`StartError::OtherSchema`] if the new one
    /// takes or gives other tensors, [`StartError::Reloadable`] if it may leave the device, [`StartError::Load`] if it cannot be loaded, and those of [`add`](Self::add) if the
    /// runtime takes no blocks. The old one goes on then.
    pub fn replace(&self, block: &str, by: impl Backend<D>) -> Result<(), StartError> {
        let shared = self.shared();
        let unknown = || StartError::UnknownBlock { name: block.to_owned() };
        shared.takes_blocks()?;
        let (id, old) = self.to_replace(block).ok_or_else(unknown)?;
        if shared.desk.as_ref().is_some_and(|desk| desk.with(id.slot, |_| ()).is_some()) {
            return Err(StartError::Reloadable { block: block.to_owned() });
        }
        let info = info_of(&by)?;
        let LoadedBlock { info, body, .. } =
            LoadedBlock::load(&**self.device(), Box::new(by), info, usize::MAX)?;
        if let Some(what) = info.difference(&old) {
            return Err(StartError::OtherSchema { block: info.name, served: block.to_owned(), what });
        }
        let (reply, swapped) = flume::bounded(1);
        shared.work.push(Job::With(Box::new(move |blocks| {
            if let Err(flume::SendError(unclaimed)) = reply.send(blocks.replace(id.slot, body)) {
                discard(unclaimed);
            }
        })));
        shared.bells.wake_device();
        let old = match swapped.recv() {
            Ok(Ok(old)) => old,
            // It has left since.
            Ok(Err(new)) => {
                shared.outside.free(new);
                return Err(unknown());
            }
            Err(flume::RecvError::Disconnected) => return Err(shared.ended()),
        };
        shared.outlive(id);
        shared.outside.free(old);
        Ok(())
    }
}

impl<D: Device> Shared<D> {
    /// Refuses where no block can come.
    pub(crate) fn takes_blocks(&self) -> Result<(), StartError> {
        if on_thread_of(|| Some(self.bells.runtime)) {
            return Err(StartError::WouldDeadlock);
        }
        match self.status.phase() {
            Phase::Built => Err(StartError::NotStarted),
            Phase::Running if self.status.loss().is_none() && !self.status.is_closing() => Ok(()),
            Phase::Running | Phase::Stopped => Err(self.ended()),
        }
    }

    /// The reason why the device thread does nothing more for a block.
    pub(crate) fn ended(&self) -> StartError {
        match self.status.loss() {
            Some(loss) => StartError::DeviceLost(loss.clone()),
            None => StartError::ShutDown,
        }
    }

    /// Enters a block and its pools into the directory. None of them is looked at before it rings.
    fn enter(
        &self,
        info: BlockInfo,
        pools: Vec<Feeding<D::Tensor>>,
    ) -> Result<Entered<D::Tensor>, StartError> {
        let feeds: Vec<_> = pools
            .into_iter()
            .map(|(pass, pool)| {
                let rules = guarded(|| pool.failure_rules()).unwrap_or_default();
                (pass, pool, rules)
            })
            .collect();
        let mut stage = self.stage.lock();
        // Under the lock: a shutdown closes the pools that it finds in the directory.
        if stage.stop.is_some() || stage.closed || self.status.is_closing() {
            drop(stage);
            return Err(self.ended());
        }
        let id = stage.directory.add_block(info)?;
        let policy = Arc::clone(stage.selector.policy());
        let directory = &mut stage.directory;
        let added = feeds.into_iter().try_for_each(|feed| directory.add_pool(id, feed).map(drop));
        let stations = directory.stations_of(id);
        match added.and_then(|()| directory.rank_by(stations.iter(), &policy)) {
            Ok(()) => Ok((id, stations)),
            Err(error) => {
                let stations = stage.directory.remove_block(id);
                drop(stage);
                for station in stations {
                    close_pool(&*station.pool, self.bells.runtime, Shutdown::Abort);
                }
                Err(error)
            }
        }
    }

    /// Waits until every batch is answered that a block's predecessor may have run.
    pub(crate) fn outlive(&self, block: BlockId) {
        let flights: Vec<_> = {
            let mut stage = self.stage.lock();
            let stations = stage.directory.stations_of(block);
            for station in &stations {
                stage.forget_lessons(station.id);
            }
            let is_of = |pool| stations.iter().any(|station| station.id == pool);
            let begun =
                stage.flights.iter().filter(|flight| is_of(flight.pool) && !stage.is_unstarted(flight));
            begun.cloned().collect()
        };
        let flies = || {
            let stage = self.stage.lock();
            flights.iter().any(|flight| stage.flights.iter().any(|other| Arc::ptr_eq(flight, other)))
        };
        self.status.watch(true);
        self.status.wait(Duration::MAX, || self.is_over() || !flies());
        self.status.watch(false);
    }
}

pub(crate) fn info_of<D: Device>(block: &(impl Backend<D> + ?Sized)) -> Result<BlockInfo, StartError> {
    guarded(|| block.info())
        .map_err(|message| StartError::Load { block: "without a name".to_owned(), source: message.into() })
}
