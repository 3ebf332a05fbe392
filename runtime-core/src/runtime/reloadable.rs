//! Blocks that may leave the device for others, and come back when they are wanted.

use super::arrive::info_of;
use super::blocks::Body;
use super::builder::RuntimeBuilder;
use super::goods::{Desk, Goods};
use super::handle::Handle;
use super::loaded::LoadedBlock;
use super::shared::Shared;
use super::work::{Job, Swapped};
use crate::contract::backend::{Backend, BlockInfo, BlockState, Fit, Unmatched};
use crate::contract::device::Device;
use crate::contract::error::cause::BoxError;
use crate::contract::error::control::{ControlError, StartError};
use crate::contract::id::BlockId;
use crate::contract::reload::Reload;
use crate::policy::residents::{Residents, Usage};
use crate::sync::{discard, flume, guarded};
use std::sync::Arc;

/// The use of a runtime's [budget](RuntimeBuilder::budget) at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetUse {
    /// The budget, in bytes.
    pub budget: u64,
    /// Bytes of the blocks that are on the device, or on their way.
    pub used: u64,
    /// Blocks that are on the device.
    pub on_device: usize,
    /// Blocks that are off it, or on their way.
    pub off_device: usize,
}

impl<D: Device> RuntimeBuilder<D> {
    /// Sets how many bytes of the device's memory blocks may take that were served to be
    /// [reloadable](Self::reloadable_block). Default: no limit. To be set before blocks are served: set later, it makes
    /// [`build`](Self::build) fail. Other blocks do not count, and stay.
    ///
    /// When tasks come for a block that is off the device, those leave it that were used least lately, between two batches,
    /// until there is room. Of several blocks that are wanted the one comes first whose task is the most urgent, and none
    /// leaves that has a more urgent task itself. A block that has come runs one batch at least, and stays, while it has work for tasks of the same
    /// class, as long as it took to come. Meanwhile its tasks wait with their deadlines, and others run: a thread of its own, `skep-porter`, reads
    /// weights, and frees them. A block that has learned keeps its state in the host's memory.
    ///
    /// If a block cannot be brought back, the tasks that wait for it are answered with
    /// [`BatchError::Reload`](crate::BatchError::Reload), and the next task has it tried again.
    pub fn budget(mut self, bytes: u64) -> Self {
        self.is_budget_late |= !self.directory.infos().is_empty();
        self.residents = Residents::new(bytes);
        self.desk = Some(Desk::new());
        self
    }

    /// Makes a block, loads it as [`block_for`](Self::block_for) does, and lets it leave the device if the runtime has a
    /// [budget](Self::budget): at once if there is no room for it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Load`] if it cannot be made, [`StartError::OverBudget`] if it alone is larger than the budget,
    /// [`StartError::Setting`] if its size is not known, and those of [`block`](Self::block).
    pub fn reloadable_block(&mut self, reload: Reload<D>, most_rows: usize) -> Result<BlockId, StartError> {
        let (body, info) = made(&reload)?;
        self.directory.check_block(&info.name)?;
        let loaded = LoadedBlock::load(&**self.device(), body, info, most_rows)?;
        let Some(desk) = &self.desk else {
            let id = self.directory.add_block(loaded.info)?;
            self.blocks.insert(id.slot, loaded.body);
            return Ok(id);
        };
        let bytes = size(&reload, &loaded, self.residents.usage().budget)?;
        let id = self.directory.add_block(loaded.info)?;
        desk.insert(id.slot, goods(reload, &*loaded.body, 0));
        if self.residents.enter(id.slot, bytes, self.clock_handle().now()) {
            self.residents.worked(id.slot);
            self.blocks.insert(id.slot, loaded.body);
        }
        Ok(id)
    }

    /// Has a block run batches of zeros when it comes. Returns false if it is on the device.
    pub(super) fn warm_up_later(&self, block: BlockId, rows: &[usize]) -> bool {
        let is_on = self.blocks.contains(block.slot);
        let later = |goods: &mut Goods<D>| goods.warm_up.extend_from_slice(rows);
        !is_on && self.desk.as_ref().and_then(|desk| desk.with(block.slot, later)).is_some()
    }

    pub(super) fn forget_reloadable(&mut self, block: BlockId) {
        self.residents.forget(block.slot);
        if let Some(desk) = &self.desk {
            discard(desk.remove(block.slot));
        }
    }

    /// Restores a block that has no room on the device: it is made again for as long as that takes.
    pub(super) fn restore_away(
        &self,
        block: BlockId,
        state: &BlockState,
        fit: Fit,
    ) -> Result<Unmatched, BoxError> {
        let kept =
            |desk: &Desk<D>| desk.with(block.slot, |goods| (goods.reload.clone(), goods.saved.clone()));
        let Some((reload, saved)) = self.desk.as_ref().and_then(kept) else {
            return Err("block is missing".into());
        };
        let mut body = reload.make()?;
        body.load(self.device())?;
        if let Some(saved) = saved {
            body.restore(&saved, Fit::Exact)?;
        }
        let unmatched = body.restore(state, fit)?;
        let (state, revision) = (Arc::new(body.state()?), body.revision());
        if let Some(desk) = &self.desk {
            desk.with(block.slot, |goods| (goods.saved, goods.known_as) = (Some(state), revision));
        }
        Ok(unmatched)
    }
}

impl<D: Device> Handle<D> {
    /// Makes a block and loads it onto the device, on the calling thread, for [`add`](Self::add): one that may leave the
    /// device if the runtime has a [budget](RuntimeBuilder::budget). If there is no room for it when it is added, it comes when it is wanted.
    ///
    /// # Errors
    ///
    /// Returns those of [`RuntimeBuilder::reloadable_block`], and those of [`load`](Self::load).
    pub fn load_reloadable(&self, reload: Reload<D>) -> Result<LoadedBlock<D>, StartError> {
        let shared = self.shared();
        shared.takes_blocks()?;
        let (body, info) = made(&reload)?;
        shared.stage.lock().directory.check_block(&info.name)?;
        let loaded = LoadedBlock::load(&**self.device(), body, info, usize::MAX)?;
        if shared.desk.is_none() {
            return Ok(loaded);
        }
        let bytes = size(&reload, &loaded, shared.stage.lock().residents.usage().budget)?;
        Ok(LoadedBlock { reload: Some((reload, bytes)), ..loaded })
    }

    /// Replaces a block that may leave the device, wherever it is, as [`replace`](Self::replace) does with others: it
    /// comes back by `reload` from now on.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::OverBudget`] if the new one is larger than the old one and has no room where that was, those of
    /// [`load_reloadable`](Self::load_reloadable), and those of [`replace`](Self::replace). The old one goes on then.
    pub fn replace_reloadable(&self, block: &str, reload: Reload<D>) -> Result<(), StartError> {
        let shared = self.shared();
        let unknown = || StartError::UnknownBlock { name: block.to_owned() };
        shared.takes_blocks()?;
        let (id, old) = self.to_replace(block).ok_or_else(unknown)?;
        let (body, info) = made(&reload)?;
        let loaded = LoadedBlock::load(&**self.device(), body, info, usize::MAX)?;
        if let Some(what) = loaded.info.difference(&old) {
            return Err(StartError::OtherSchema { block: loaded.info.name, served: block.to_owned(), what });
        }
        let budget = shared.stage.lock().residents.usage().budget;
        let bytes = if shared.desk.is_some() { size(&reload, &loaded, budget)? } else { 0 };
        let (reply, swapped) = flume::bounded(1);
        let goods = goods(reload, &*loaded.body, 0);
        shared.work.push(Job::Swap { block: id, body: loaded.body, goods, bytes, reply });
        shared.bells.wake_device();
        let Ok(Swapped { fits, left }) = swapped.recv() else { return Err(shared.ended()) };
        if fits == Some(true) {
            shared.outlive(id);
        }
        shared.outside.free(left);
        match fits {
            Some(true) => Ok(()),
            Some(false) => Err(StartError::OverBudget { block: block.to_owned(), bytes, budget }),
            // It has left since.
            None => Err(unknown()),
        }
    }

    /// Returns a copy of a block's state as it is between two batches, beside its [revision](Backend::revision), or `None` if
    /// that is the one that is `known`. A block that has left the device does not come back for that if its state is in the host's memory, and its revision
    /// is not another one when it has come back.
    ///
    /// # Errors
    ///
    /// Returns those of [`state`](Self::state).
    pub fn state_since(
        &self,
        block: &str,
        known: Option<u64>,
    ) -> Result<Option<(BlockState, Option<u64>)>, ControlError> {
        let shared = self.shared();
        // The revision that the block has if nothing is new.
        let mut same = known;
        let off = {
            let stage = shared.stage.lock();
            let id = stage.directory.block_of(block);
            id.map(|id| (id, stage.residents.is_off(id.slot)))
        };
        if let (Some(desk), Some((id, is_off))) = (&shared.desk, off) {
            let kept = desk.with(id.slot, |goods| (goods.known_as, goods.revision, goods.saved.clone()));
            if let Some((known_as, revision, saved)) = kept {
                let is_known = known.is_some() && known == known_as;
                match saved {
                    _ if is_off && is_known => return Ok(None),
                    Some(saved) if is_off => return Ok(Some((BlockState::clone(&saved), known_as))),
                    _ if is_known => same = revision,
                    _ => {}
                }
            }
        }
        let read = move |block: &mut dyn Backend<D>| {
            let revision = block.revision();
            if revision.is_some() && revision == same {
                return Ok(None);
            }
            Ok(Some((block.state()?, revision)))
        };
        let read = self.with_block(block, read)?;
        let read = read.map_err(|source| ControlError::Block { block: block.to_owned(), source })?;
        let Some((state, revision)) = read else { return Ok(None) };
        let known_as = |(desk, (id, _)): (&Desk<D>, (BlockId, bool))| {
            desk.with(id.slot, |goods| (goods.revision == revision).then_some(goods.known_as)).flatten()
        };
        let known_as = shared.desk.as_ref().zip(off).and_then(known_as);
        Ok(Some((state, known_as.unwrap_or(revision))))
    }

    /// Returns how the runtime's [budget](RuntimeBuilder::budget) is used at the moment, or `None` if it has none.
    pub fn budget(&self) -> Option<BudgetUse> {
        let shared = self.shared();
        shared.desk.as_ref()?;
        let Usage { budget, used, on, off } = shared.stage.lock().residents.usage();
        Some(BudgetUse { budget, used, on_device: on, off_device: off })
    }
}

impl<D: Device> Shared<D> {
    /// Notes a block that may leave. If there is no room for it now, takes it away, and its warm-up, which comes when it does.
    pub(crate) fn settle_in(
        &self,
        block: BlockId,
        (reload, bytes): (Reload<D>, u64),
        body: &mut Option<Body<D>>,
        warm_up: &mut Vec<usize>,
    ) {
        let (Some(desk), Some(loaded)) = (&self.desk, body.as_ref()) else { return };
        desk.insert(block.slot, goods(reload, &**loaded, 0));
        let now = self.now();
        let has_room = {
            let mut stage = self.stage.lock();
            // It may be leaving already.
            stage.directory.info(block).is_none() || stage.residents.enter(block.slot, bytes, now)
        };
        if !has_room {
            let warm_up = std::mem::take(warm_up);
            desk.with(block.slot, |goods| goods.warm_up = warm_up);
            discard(body.take());
        }
    }
}

/// A block as `reload` makes it, with its name and schemas.
fn made<D: Device>(reload: &Reload<D>) -> Result<(Body<D>, BlockInfo), StartError> {
    let made = guarded(|| reload.make()).unwrap_or_else(|message| Err(message.into()));
    let body = made.map_err(|source| StartError::Load { block: "without a name".to_owned(), source })?;
    let info = info_of(&*body)?;
    Ok((body, info))
}

/// What the porter is to know of a block.
fn goods<D: Device>(reload: Reload<D>, body: &dyn Backend<D>, version: u64) -> Goods<D> {
    let revision = guarded(|| body.revision()).unwrap_or(None);
    Goods { reload, version, saved: None, revision, known_as: revision, warm_up: Vec::new() }
}

/// The bytes that a block takes on the device.
fn size<D: Device>(reload: &Reload<D>, loaded: &LoadedBlock<D>, budget: u64) -> Result<u64, StartError> {
    let name = || loaded.info.name.clone();
    let bytes = match reload.told_bytes() {
        Some(bytes) => bytes,
        None => guarded(|| loaded.body.state())
            .unwrap_or_else(|message| Err(message.into()))
            .map(|state| bytes_of(&state))
            .map_err(|source| StartError::Load { block: name(), source })?,
    };
    if bytes == 0 {
        return Err(StartError::Setting {
            of: format!("block `{}`", name()),
            setting: "bytes",
            got: "0: its state is empty, or 0 was told".to_owned(),
            expected: "the memory that it takes on the device, by `Reload::bytes`",
        });
    }
    if bytes > budget {
        return Err(StartError::OverBudget { block: name(), bytes, budget });
    }
    Ok(bytes)
}

fn bytes_of(state: &BlockState) -> u64 {
    let tensors = state.parameters.values().chain(state.optimizer.values());
    tensors.map(|tensor| tensor.bytes().len() as u64).sum()
}
