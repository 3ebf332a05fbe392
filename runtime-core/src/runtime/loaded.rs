//! Blocks that have been loaded, and are not served yet.

use super::blocks::Body;
use super::probe::probe_outputs;
use crate::contract::backend::BlockInfo;
use crate::contract::device::Device;
use crate::contract::error::control::StartError;
use crate::contract::reload::Reload;
use crate::sync::guarded;
use std::fmt;

/// A block on a device, with all of its schemas: for [`Handle::add`](crate::Handle::add).
pub struct LoadedBlock<D: Device> {
    pub(crate) info: BlockInfo,
    pub(crate) body: Body<D>,
    /// Rows of the batches that it is to run first.
    pub(crate) warm_up: Vec<usize>,
    /// How it is made again if it may leave the device, and its size.
    pub(crate) reload: Option<(Reload<D>, u64)>,
}

impl<D: Device> fmt::Debug for LoadedBlock<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedBlock").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<D: Device> LoadedBlock<D> {
    /// Loads a block onto a device, on the calling thread. An output schema that it does not name is found by a dummy
    /// run of three rows of zeros, and of no more than `most_rows`.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Load`] if the block cannot be loaded or the dummy run fails, and [`StartError::Setting`] if its
    /// inputs are ragged and its outputs do not follow them.
    pub(crate) fn load(
        device: &D,
        mut body: Body<D>,
        mut info: BlockInfo,
        most_rows: usize,
    ) -> Result<Self, StartError> {
        if let Some((got, expected)) = info.inputs.ragged_fault(info.outputs.as_ref()) {
            let of = format!("block `{}`", info.name);
            return Err(StartError::Setting { of, setting: "ragged", got, expected });
        }
        guarded(|| {
            body.load(device)?;
            if info.outputs.is_none() {
                info.outputs = Some(probe_outputs(device, &mut *body, &info.inputs, most_rows)?);
            }
            Ok(())
        })
        .unwrap_or_else(|message| Err(message.into()))
        .map_err(|source| StartError::Load { block: info.name.clone(), source })?;
        Ok(Self { info, body, warm_up: Vec::new(), reload: None })
    }

    /// Has batches of zeros, of these numbers of rows, run between batches of others before the block takes tasks. Their
    /// outputs are thrown away.
    pub fn warm_up(mut self, rows: Vec<usize>) -> Self {
        self.warm_up = rows;
        self
    }

    /// Returns the block's name and schemas. Its outputs are known.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }
}
