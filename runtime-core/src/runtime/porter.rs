//! The porter: a thread that carries blocks off the device and onto it, where not all of them have room.
//!
//! Reading weights takes long, and so may freeing them: the device thread does neither.

use super::batch::{CutBatch, DoneBatch, Joined};
use super::blocks::Body;
use super::directory::Station;
use super::goods::{Desk, Goods, Order, Version};
use super::sender::answer;
use super::shared::{Now, Shared};
use super::work::{Found, Job};
use crate::contract::backend::{BlockInfo, Fit};
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::{BoxError, Chain};
use crate::contract::event::Reloaded;
use crate::contract::id::BlockId;
use crate::contract::pool::Terms;
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use crate::sync::{discard, flume, guarded, log};
use std::sync::Arc;

/// Carries until the runtime ends.
pub(crate) fn porter_loop<D: Device>(shared: &Shared<D>) {
    let Some(desk) = &shared.desk else { return };
    loop {
        match desk.next() {
            Order::Store(block, body, version) => shared.store(desk, block, body, version),
            Order::Bring(block) => shared.bring(desk, block),
            Order::Refuse(block) => {
                shared.refuse(block, "no room is left beside blocks that cannot leave".into());
            }
            Order::Stop => break,
        }
    }
    for order in desk.left_over() {
        discard(order);
    }
}

/// A block that was made again.
struct Made<D: Device> {
    body: Body<D>,
    version: Version,
    warm_up: Vec<usize>,
}

impl<D: Device> Shared<D> {
    /// Keeps what a block has learned that has left, and frees the rest of it.
    fn store(&self, desk: &Desk<D>, block: BlockId, body: Body<D>, version: Version) {
        let slot = block.slot;
        let is_known = |revision| {
            let has_come_with = desk.with(slot, |goods| goods.revision);
            has_come_with.is_none_or(|was| was.is_some() && was == revision)
        };
        let learned = guarded(|| -> Result<_, BoxError> {
            let revision = body.revision();
            if is_known(revision) { Ok(None) } else { Ok(Some((body.state()?, revision))) }
        })
        .unwrap_or_else(|message| Err(message.into()));
        match learned {
            Ok(learned) => {
                if let Some((state, revision)) = learned {
                    // Another block may have taken its place meanwhile.
                    let keep = |goods: &mut Goods<D>| {
                        if goods.version == version {
                            goods.saved = Some(Arc::new(state));
                            (goods.known_as, goods.revision) = (revision, revision);
                        }
                    };
                    desk.with(slot, keep);
                }
                self.outside.free(body);
                let mut stage = self.stage.lock();
                stage.residents.left(slot);
                self.keep_house(&mut stage, &Now::new(|| self.now()));
                drop(stage);
                self.ring_for(block);
            }
            Err(error) => {
                let name = self.name_of(block);
                log(
                    || tracing::error!(block = name, error = %Chain(&*error), "block keeps its place on the device: its state cannot be read"),
                );
                discard(error);
                let is_back = self.put_in(block, body, version);
                let mut stage = self.stage.lock();
                if is_back {
                    stage.residents.stays(slot, self.now());
                } else {
                    stage.residents.left(slot);
                }
                self.is_back(&mut stage, block);
                drop(stage);
                self.work.unpark(block);
                self.ring_for(block);
            }
        }
    }

    /// Brings a block back onto the device.
    fn bring(&self, desk: &Desk<D>, block: BlockId) {
        let began = self.now();
        let made = loop {
            match self.make(desk, block) {
                Ok(Some(Made { body, version, warm_up })) => {
                    if self.put_in(block, body, version) {
                        break Ok(warm_up);
                    }
                    // It was replaced meanwhile, or has left, or the runtime ends.
                    if self.is_over() || self.stage.lock().ended {
                        return;
                    }
                }
                Ok(None) => return self.stage.lock().residents.failed(block.slot),
                Err(error) => break Err(error),
            }
        };
        let made = made.and_then(|warm_up| {
            for (at, rows) in warm_up.into_iter().enumerate() {
                self.warm(block, rows, at == 0).inspect_err(|_| self.take_away(block))?;
            }
            desk.with(block.slot, |goods| goods.warm_up.clear());
            Ok(())
        });
        let took = self.now().saturating_duration_since(began);
        let failed = made.is_err();
        if let Some(name) = self.name_of(block) {
            self.outside.observe(|observer| observer.reloaded(&Reloaded { block: &name, took, failed }));
        }
        if let Err(error) = made {
            return self.refuse(block, error);
        }
        let mut stage = self.stage.lock();
        stage.residents.arrived(block.slot, self.now(), took);
        self.is_back(&mut stage, block);
        drop(stage);
        self.work.unpark(block);
        self.ring_for(block);
    }

    /// Makes a block again, with what it had learned. `None` if it has left the runtime.
    fn make(&self, desk: &Desk<D>, block: BlockId) -> Result<Option<Made<D>>, BoxError> {
        let goods = |goods: &mut Goods<D>| {
            (goods.reload.clone(), goods.saved.clone(), goods.version, goods.warm_up.clone())
        };
        let Some((reload, saved, version, warm_up)) = desk.with(block.slot, goods) else { return Ok(None) };
        let Some(info) = self.stage.lock().directory.info(block).cloned() else { return Ok(None) };
        let made = guarded(|| -> Result<_, BoxError> {
            let mut body = reload.make()?;
            if let Some(what) = other(&body.info(), &info) {
                return Err(format!("it was made again with other {what}").into());
            }
            body.load(&self.outside.device)?;
            if let Some(state) = &saved {
                body.restore(state, Fit::Exact)?;
            }
            let revision = body.revision();
            Ok((body, revision))
        });
        discard(reload);
        let (body, revision) = made.unwrap_or_else(|message| Err(format!("panic: {message}").into()))?;
        desk.with(block.slot, |goods| {
            if goods.version == version {
                goods.revision = revision;
            }
        });
        Ok(Some(Made { body, version, warm_up }))
    }

    /// Has the device thread take a block. Returns false if it does not.
    fn put_in(&self, block: BlockId, body: Body<D>, version: Version) -> bool {
        let (reply, taken) = flume::bounded(1);
        self.work.push(Job::PutIn { block, body, version, reply });
        self.bells.wake_device();
        match taken.recv() {
            Ok(None) => true,
            Ok(Some(refused)) => {
                self.outside.free(refused);
                false
            }
            Err(flume::RecvError::Disconnected) => false,
        }
    }

    fn warm(&self, block: BlockId, rows: usize, first: bool) -> Result<(), BoxError> {
        let (reply, warmed) = flume::bounded(1);
        self.work.push(Job::WarmUp { block, rows, first, reply });
        self.bells.wake_device();
        // The end of the runtime is no fault of the block.
        warmed.recv().unwrap_or(Ok(())).map_err(Into::into)
    }

    /// Has a block that cannot run dropped.
    fn take_away(&self, block: BlockId) {
        let (reply, gone) = flume::bounded(1);
        self.work.push(Job::With(Box::new(move |blocks| {
            if let Err(flume::SendError(body)) = reply.send(blocks.remove(block.slot)) {
                discard(body);
            }
        })));
        self.bells.wake_device();
        if let Ok(Some(body)) = gone.recv() {
            self.outside.free(body);
        }
    }

    /// Answers all who wait for a block that it cannot be brought back. Who comes later has it tried again.
    fn refuse(&self, block: BlockId, source: BoxError) {
        let name = self.name_of(block).unwrap_or_default();
        let error = Arc::new(BatchError::Reload { block: name, source });
        log(|| tracing::warn!(error = %Chain(&*error), "told all who wait for the block, going on"));
        let stations = self.stage.lock().directory.stations_of(block);
        for station in &stations {
            let mut left = guarded(|| station.pool.counts().waiting_rows).unwrap_or_default();
            while left > 0
                && let Some(mut batch) = self.cut_in_vain(station)
            {
                left = left.saturating_sub(batch.rows().max(1) as u64);
                if let Err(message) = guarded(|| station.pool.after_cut()) {
                    self.broke(station, "after_cut", message);
                }
                self.leave_out_all(&mut batch);
                let outputs = Err(Arc::clone(&error));
                answer(self, DoneBatch { batch, inputs: Joined::new(), outputs }, self.now());
            }
        }
        let parked = self.work.take_parked(block);
        let mut stage = self.stage.lock();
        for _ in &parked {
            stage.residents.worked(block.slot);
        }
        stage.residents.failed(block.slot);
        self.keep_house(&mut stage, &Now::new(|| self.now()));
        drop(stage);
        for work in parked {
            guarded(|| work(Found::Away(Arc::clone(&error)))).ok();
        }
        self.ring_for(block);
        self.stir();
        discard(error);
    }

    /// Cuts a batch that will not run.
    fn cut_in_vain(&self, station: &Arc<Station<D::Tensor>>) -> Option<Box<CutBatch<D::Tensor>>> {
        let now = self.now();
        let mut stage = self.stage.lock();
        let cut = guarded(|| station.pool.cut(&Terms::new(now, usize::MAX)));
        let batch = match cut {
            Ok(batch) => batch.filter(|batch| !batch.tasks.is_empty())?,
            Err(message) => {
                self.broke(station, "cut", message);
                return None;
            }
        };
        let batch = CutBatch::new(Arc::clone(station), Rank::new(Priority::NORMAL, 0), batch, now);
        stage.flights.push(Arc::clone(&batch.flight));
        Some(batch)
    }

    fn name_of(&self, block: BlockId) -> Option<String> {
        self.stage.lock().directory.info(block).map(|info| info.name.clone())
    }
}

/// The first thing in which a block that was made again is not the one that is served.
fn other(made: &BlockInfo, served: &BlockInfo) -> Option<&'static str> {
    let mut made = made.clone();
    if made.outputs.is_none() {
        made.outputs.clone_from(&served.outputs);
    }
    made.difference(served)
}
