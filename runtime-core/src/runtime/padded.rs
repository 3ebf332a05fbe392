//! Batches of tasks whose free dims differ: columns are filled up to one size, and outputs cut back to each task's own.

use super::batch::{CutBatch, Joined};
use super::plan::{Fill, Input, Plan, Size, Sizes};
use super::shared::Shared;
use super::sharing::{Laid, Sharing};
use crate::contract::device::Device;
use crate::contract::dims::Dim;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device::DeviceError;
use crate::contract::task::TaskHeader;
use crate::contract::tensor::{DType, HostTensor};
use crate::sync::discard;
use std::ops::Range;

impl<D: Device> Shared<D> {
    /// Gathers the columns of some tasks of a batch and makes the mask. They are padded by the rule, or only as far as they
    /// differ.
    pub(crate) fn gather_padded(
        &self,
        batch: &CutBatch<D::Tensor>,
        plan: &Plan,
        tasks: Range<usize>,
        by_rule: bool,
    ) -> Result<(Joined<D::Tensor>, Sizes), BatchError> {
        let columns: Vec<_> =
            batch.columns.iter().map(|column| column.get(tasks.clone()).unwrap_or_default()).collect();
        let headers = batch.headers.get(tasks).unwrap_or_default();
        let sizes = self.sizes(&columns, plan, by_rule)?;
        let mut columns = columns.into_iter();
        let mut inputs = Joined::with_capacity(plan.inputs.len());
        for input in &plan.inputs {
            inputs.push(match &input.fill {
                Fill::Mask(dtype, one) => {
                    let mask = mask(headers, input, *dtype, one, &sizes)?;
                    self.outside.on_device("gather", |device| device.gather(&[device.from_host(&mask)?]))?
                }
                Fill::With(element) => {
                    let column = columns.next().ok_or_else(too_few)?;
                    if sizes.are_alike(&input.dims) {
                        self.outside.on_device("gather", |device| device.gather(column))?
                    } else {
                        let dims: Vec<_> = input.dims.iter().map(|size| sizes.of(*size)).collect();
                        self.outside
                            .on_device("gather", |device| device.gather_padded(column, &dims, element))?
                    }
                }
            });
        }
        Ok((inputs, sizes))
    }

    fn sizes(&self, columns: &[&[D::Tensor]], plan: &Plan, by_rule: bool) -> Result<Sizes, BatchError> {
        let mut own = vec![Vec::new(); plan.free.len()];
        let mut columns = columns.iter();
        for input in plan.inputs.iter().filter(|input| matches!(input.fill, Fill::With(_))) {
            let column = columns.next().ok_or_else(too_few)?;
            for (dim, size) in (1..).zip(&input.dims) {
                let Size::Free(at) = *size else { continue };
                if !own[at].is_empty() {
                    continue;
                }
                for tensor in *column {
                    let info = self.outside.on_device("describe", |device| device.describe(tensor))?;
                    own[at].push(info.dims.get(dim).copied().unwrap_or(0));
                }
            }
        }
        Ok(Sizes::new(own, plan, by_rule))
    }

    /// Cuts the tasks' pieces of an output back to their own sizes, where it has free dims of the names of those that were
    /// padded.
    pub(crate) fn cut_back(
        &self,
        batch: &CutBatch<D::Tensor>,
        at: usize,
        mut pieces: Vec<D::Tensor>,
    ) -> Result<Vec<D::Tensor>, BatchError> {
        let (Some(Laid::Padded(sizes)), Some(Sharing::Padded(plan))) =
            (batch.laid.as_deref(), batch.station.sharing.as_deref())
        else {
            return Ok(pieces);
        };
        let Some(spec) = batch.station.gives().and_then(|promised| promised.get(at)) else {
            return Ok(pieces);
        };
        for (dim, of) in spec.dims().iter().enumerate() {
            let Dim::Free { name, .. } = of else { continue };
            let Some(free) = plan.free.iter().position(|free| free.name == *name) else { continue };
            let padded = sizes.padded[free];
            for (piece, &own) in pieces.iter_mut().zip(&sizes.own[free]) {
                let info = self.outside.on_device("describe", |device| device.describe(piece))?;
                if info.dims.get(dim) != Some(&padded) {
                    let (output, expected) = (spec.name().to_owned(), format!("{padded} along `{name}`"));
                    return Err(BatchError::WrongOutput { output, expected, got: info.to_string() });
                }
                if own < padded {
                    let cut = self.outside.on_device("scatter", |device| device.narrow(piece, dim, own))?;
                    discard(std::mem::replace(piece, cut));
                }
            }
        }
        Ok(pieces)
    }
}

fn too_few() -> BatchError {
    let source = DeviceError::operation("batch has fewer columns than its block has inputs");
    BatchError::Device { operation: "gather", source }
}

/// 1 in each place of a task, 0 where there is padding.
fn mask(
    headers: &[TaskHeader],
    input: &Input,
    dtype: DType,
    one: &[u8],
    sizes: &Sizes,
) -> Result<HostTensor, BatchError> {
    let Some(Size::Free(at)) = input.dims.first().copied() else { return Err(too_few()) };
    let rows = headers.iter().map(|header| header.rows).sum();
    let padded = sizes.padded[at];
    let mut bytes = Vec::with_capacity(rows * padded * one.len());
    for (header, size) in headers.iter().zip(&sizes.own[at]) {
        for _ in 0..header.rows {
            bytes.extend(one.iter().copied().cycle().take(size * one.len()));
            bytes.resize(bytes.len() + (padded - size) * one.len(), 0);
        }
    }
    HostTensor::new(dtype, &[rows, padded], bytes)
        .map_err(|error| BatchError::Device { operation: "gather", source: DeviceError::operation(error) })
}
