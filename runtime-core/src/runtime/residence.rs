//! The residence: has blocks leave the device and come back, where not all of them have room.
//!
//! The stage's lock holds while it is decided who comes and who leaves. The device thread hands a block out, and takes one in,
//! between two batches, which is the work of a moment; all else is the porter's.

use super::blocks::{Blocks, Body};
use super::directory::Station;
use super::goods::{Goods, Order, Version};
use super::shared::{Now, Shared};
use super::stage::Stage;
use super::work::{Job, OnBlock, Swapped};
use crate::contract::device::Device;
use crate::contract::id::{BlockId, Slot};
use crate::contract::pool::{Look, Shutdown};
use crate::policy::residents::Decision;
use crate::sync::discard;
use std::sync::Arc;
use std::time::Instant;

impl<D: Device> Shared<D> {
    /// Has blocks come that are wanted, and others leave for them, as far as that can be done now.
    #[inline]
    pub(crate) fn keep_house(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) {
        if stage.residents.is_busy() {
            self.move_blocks(stage, now);
        }
    }

    fn move_blocks(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) {
        let Some(desk) = &self.desk else { return };
        if stage.stop == Some(Shutdown::Abort) {
            return;
        }
        let block = |slot| BlockId { of: self.bells.runtime, slot };
        while let Some((slot, pools)) = stage.residents.first_wanted() {
            // What made it urgent may have been cancelled, or have expired.
            for pool in pools {
                self.look_at(stage, pool, now);
            }
            if stage.residents.first_wanted().is_none_or(|(first, _)| first != slot) {
                continue;
            }
            match stage.residents.decide(slot, **now) {
                Decision::Bring(leave) => {
                    for pool in leave.into_iter().flat_map(|slot| stage.residents.ready(slot)) {
                        stage.selector.note(pool, Look::Idle);
                    }
                }
                Decision::NoRoom => desk.order(Order::Refuse(block(slot))),
                Decision::Wait => {}
            }
            break;
        }
        for slot in stage.residents.leaving() {
            if !flies(stage, slot) {
                stage.residents.put_out(slot);
                self.work.push(Job::PutOut(block(slot)));
                self.bells.wake_device();
            }
        }
        if let Some(slot) = stage.residents.due() {
            desk.order(Order::Bring(block(slot)));
        }
    }

    /// Has the selector know of the pools of a block that is on the device again: under the lock under which it has come, or a
    /// drain would take their tasks for nobody's.
    pub(crate) fn is_back(&self, stage: &mut Stage<D::Tensor>, block: BlockId) {
        let now = Now::new(|| self.now());
        for pool in stage.residents.ready(block.slot) {
            self.look_at(stage, pool, &now);
        }
        self.keep_house(stage, &now);
    }

    /// Returns true if tasks wait for blocks that are to come.
    pub(crate) fn owes(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) -> bool {
        for pool in stage.residents.waiting() {
            self.look_at(stage, pool, now);
        }
        self.keep_house(stage, now);
        !stage.residents.waiting().is_empty()
    }

    /// Works with a block, now or when it is back.
    pub(crate) fn work_on(&self, blocks: &mut Blocks<D>, block: BlockId, work: OnBlock<D>) {
        if self.desk.is_none() {
            return blocks.on(block.slot, work);
        }
        let mut stage = self.stage.lock();
        if stage.residents.ask(block.slot) {
            // Under the lock: who brings the block looks for those who wait for it afterwards.
            self.work.park(block, work);
            return self.keep_house(&mut stage, &Now::new(|| self.now()));
        }
        drop(stage);
        blocks.on(block.slot, work);
        let mut stage = self.stage.lock();
        stage.residents.worked(block.slot);
        self.keep_house(&mut stage, &Now::new(|| self.now()));
    }

    /// Hands a block to the porter. Called by the device thread between two batches.
    pub(crate) fn put_out(&self, blocks: &mut Blocks<D>, block: BlockId) {
        let Some(desk) = &self.desk else { return };
        let version = desk.with(block.slot, |goods| goods.version);
        match (blocks.remove(block.slot), version) {
            (Some(body), Some(version)) => desk.order(Order::Store(block, body, version)),
            (body, _) => {
                // It has left the runtime since.
                discard(body);
                self.stage.lock().residents.left(block.slot);
            }
        }
    }

    /// Takes a block from the porter, and returns it if it is not to be taken any more. Called by the device thread
    /// between two batches.
    pub(crate) fn take_in(
        &self,
        blocks: &mut Blocks<D>,
        block: BlockId,
        body: Body<D>,
        version: Version,
    ) -> Option<Body<D>> {
        let desk = self.desk.as_ref();
        let is_it = desk.and_then(|desk| desk.with(block.slot, |goods| goods.version)) == Some(version);
        if !is_it {
            return Some(body);
        }
        blocks.insert(block.slot, body);
        None
    }

    /// Has a block be another one from now on, wherever it is. Called by the device thread between two batches.
    pub(crate) fn swap(
        &self,
        blocks: &mut Blocks<D>,
        block: BlockId,
        body: Body<D>,
        (mut goods, bytes): (Goods<D>, u64),
    ) -> Swapped<D> {
        let fits = {
            let mut stage = self.stage.lock();
            let is_there = stage.directory.info(block).is_some();
            is_there.then(|| stage.residents.resize(block.slot, bytes))
        };
        if fits != Some(true) {
            discard(goods);
            return Swapped { fits, left: body };
        }
        if let Some(desk) = &self.desk {
            let change = |known: &mut Goods<D>| {
                goods.version = known.version + 1;
                goods.warm_up = std::mem::take(&mut known.warm_up);
                std::mem::swap(known, &mut goods);
            };
            desk.with(block.slot, change);
        }
        discard(goods);
        let (Ok(left) | Err(left)) = blocks.replace(block.slot, body);
        Swapped { fits, left }
    }

    /// Has the pools of a block looked at again, because it has come or gone.
    pub(crate) fn ring_for(&self, block: BlockId) {
        let stations = self.stage.lock().directory.stations_of(block);
        for station in stations {
            self.bells.leave_ring(station.id);
        }
        self.bells.wake_all();
    }
}

/// Returns true if a batch of a block is on its way.
fn flies<T>(stage: &Stage<T>, slot: Slot) -> bool {
    let is_of = |station: &Arc<Station<T>>| station.block.slot == slot;
    stage.flights.iter().any(|flight| stage.directory.station(flight.pool).is_some_and(is_of))
}
