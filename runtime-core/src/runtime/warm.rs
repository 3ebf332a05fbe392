//! Warm-up: batches of zeros that run before a block takes tasks, so that the first task pays for nothing that is done once.

use super::blocks::Blocks;
use super::probe::zeros;
use super::shared::Shared;
use crate::contract::backend::{BlockInfo, Pass};
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
    /// Runs one batch of zeros through a block, and learns what it took unless it is the `first`, which finds nothing warm.
    /// Called on the device thread; the outputs are thrown away.
    pub(crate) fn warm_up(
        &self,
        blocks: &mut Blocks<D>,
        block: BlockId,
        rows: usize,
        first: bool,
    ) -> Result<(), StartError> {
        let info = self.stage.lock().directory.info(block).cloned();
        let (Some(info), Some(body)) = (info, blocks.get_mut(block.slot)) else { return Ok(()) };
        let device = &*self.outside.device;
        let failed = |source| StartError::WarmUp { block: info.name.clone(), rows, source };
        let run = || {
            let (inputs, elements) = zeros(device, &info.inputs, rows)?;
            let began = self.now();
            drop(body.forward(&inputs)?);
            device.synchronize()?;
            Ok((elements, self.now().saturating_duration_since(began)))
        };
        let (elements, took) =
            guarded(run).unwrap_or_else(|message| Err(format!("panic: {message}").into())).map_err(failed)?;
        if !first {
            let mut stage = self.stage.lock();
            for station in stage.directory.stations_of(block) {
                if station.pass == Pass::Forward {
                    stage.selector.measured(station.id, elements, rows, took);
                }
            }
        }
        Ok(())
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
