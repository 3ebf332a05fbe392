//! Warm-up: batches of zeros that run before a block takes tasks, so that the first task pays for nothing that is done once.

use super::blocks::Blocks;
use super::probe::run_zeros;
use super::shared::Shared;
use crate::contract::backend::BlockInfo;
use crate::contract::device::Device;
use crate::contract::error::control::StartError;
use crate::contract::id::BlockId;
use crate::sync::guarded;

/// The batches that a block is to run first.
#[derive(Clone, Debug)]
pub(crate) struct WarmUp {
    pub(crate) block: BlockId,
    /// Rows of each batch.
    pub(crate) rows: Vec<usize>,
}

impl<D: Device> Shared<D> {
    /// Runs one batch of zeros through a block. Called on the device thread; the outputs are thrown away.
    pub(crate) fn warm_up(
        &self,
        blocks: &mut Blocks<D>,
        block: BlockId,
        rows: usize,
    ) -> Result<(), StartError> {
        let info = self.stage.lock().directory.info(block).cloned();
        let (Some(info), Some(body)) = (info, blocks.get_mut(block.slot)) else { return Ok(()) };
        let device = &*self.outside.device;
        let failed = |source| StartError::WarmUp { block: info.name.clone(), rows, source };
        let run = || run_zeros(device, body.as_mut(), &info.inputs, rows).map(drop);
        guarded(run).unwrap_or_else(|message| Err(format!("panic: {message}").into())).map_err(failed)
    }
}

/// Refuses a batch that no block can run.
pub(crate) fn check(info: &BlockInfo, rows: &[usize]) -> Result<(), StartError> {
    if rows.contains(&0) {
        return Err(StartError::Setting {
            of: format!("block `{}`", info.name),
            setting: "warm_up",
            got: "a batch of 0 rows".to_owned(),
            expected: "batches of at least 1 row",
        });
    }
    Ok(())
}
