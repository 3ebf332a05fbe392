//! Ragged batches: tasks whose free dims differ, laid end to end. The device only joins; what is laid so is a view.

use super::batch::{CutBatch, Joined};
use super::lengths::{Lengths, Ragged, offsets};
use super::shared::Shared;
use super::sharing::Laid;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device::DeviceError;
use crate::contract::schema::TensorSpec;
use crate::sync::{discard, discard_all};
use smallvec::SmallVec;
use std::ops::Range;

/// What tasks have along dim 0.
pub(crate) type Spans = SmallVec<[usize; 1]>;

impl<T> CutBatch<T> {
    /// What some of the tasks have along dim 0 of the output at `at`: rows, or elements if the output is laid end to end.
    pub(crate) fn spans(&self, at: usize, tasks: Range<usize>) -> Spans {
        let headers = self.headers.get(tasks.clone()).unwrap_or_default();
        let mut spans = Spans::with_capacity(headers.len());
        match self.lengths().filter(|_| self.is_laid(at)) {
            Some(lengths) => {
                let lengths = lengths.of(tasks).iter();
                spans.extend(headers.iter().zip(lengths).map(|(header, length)| header.rows * length));
            }
            // Pushed, because that costs less: measured.
            None => headers.iter().for_each(|header| spans.push(header.rows)),
        }
        spans
    }

    /// Returns true if the output at `at` is laid end to end.
    pub(crate) fn is_laid(&self, at: usize) -> bool {
        self.lengths().is_some()
            && self.station.gives().and_then(|promised| promised.get(at)).is_some_and(TensorSpec::is_laid)
    }

    pub(crate) fn lengths(&self) -> Option<&Lengths> {
        match self.laid.as_deref() {
            Some(Laid::Ragged(lengths)) => Some(lengths),
            Some(Laid::Padded(_)) | None => None,
        }
    }
}

impl<D: Device> Shared<D> {
    /// Gathers the columns of some tasks of a batch, those of elements laid end to end, and makes the offsets.
    pub(crate) fn gather_ragged(
        &self,
        batch: &CutBatch<D::Tensor>,
        ragged: &Ragged,
        tasks: Range<usize>,
    ) -> Result<(Joined<D::Tensor>, Lengths), BatchError> {
        let headers = batch.headers.get(tasks.clone()).unwrap_or_default();
        let mut lengths: Option<Vec<usize>> = None;
        let mut inputs = Joined::with_capacity(ragged.inputs.len() + 1);
        for (at, is_laid) in ragged.inputs.iter().enumerate() {
            let column = batch.columns.get(at).and_then(|column| column.get(tasks.clone()));
            let column = column.filter(|column| column.len() == headers.len()).ok_or_else(|| {
                device_error(format!("batch has fewer tensors than tasks, of input {at} of its block"))
            })?;
            inputs.push(if *is_laid {
                let (laid, own) = self.lay(column)?;
                if lengths.as_ref().is_some_and(|lengths| *lengths != own) {
                    discard_all(laid);
                    return Err(device_error(format!(
                        "lengths {own:?} of input {at} are not those of the others"
                    )));
                }
                lengths = Some(own);
                let joined = self.outside.on_device("gather", |device| device.gather(&laid));
                discard_all(laid);
                joined?
            } else {
                self.outside.on_device("gather", |device| device.gather(column))?
            });
        }
        let lengths = Lengths(lengths.unwrap_or_default());
        let rows = headers.iter().zip(&lengths.0);
        let rows = rows.flat_map(|(header, length)| std::iter::repeat_n(*length, header.rows));
        let offsets = self.outside.on_device("gather", |device| {
            let offsets = offsets(rows)?;
            device.gather(&[device.from_host(&offsets)?])
        })?;
        inputs.insert(ragged.offsets.min(inputs.len()), offsets);
        Ok((inputs, lengths))
    }

    /// The tensors of a column as `[elements, …]`, and the size of the free dim of each.
    fn lay(&self, column: &[D::Tensor]) -> Result<(Vec<D::Tensor>, Vec<usize>), BatchError> {
        let (mut laid, mut lengths) = (Vec::with_capacity(column.len()), Vec::with_capacity(column.len()));
        for tensor in column {
            let view = self.outside.on_device("gather", |device| {
                let info = device.describe(tensor)?;
                let [rows, length, rest @ ..] = &*info.dims else {
                    return Err(DeviceError::operation(format!("tensor {info} cannot be laid end to end")));
                };
                let dims: Vec<_> = std::iter::once(rows * length).chain(rest.iter().copied()).collect();
                Ok((device.reshape(tensor, &dims)?, *length))
            });
            match view {
                Ok((view, length)) => {
                    laid.push(view);
                    lengths.push(length);
                }
                Err(error) => {
                    discard_all(laid);
                    return Err(error);
                }
            }
        }
        Ok((laid, lengths))
    }

    /// Gives the tasks' pieces of an output that is laid end to end the dims of the tasks: `[rows, size, …]`.
    pub(crate) fn take_up(
        &self,
        batch: &CutBatch<D::Tensor>,
        tasks: Range<usize>,
        mut pieces: Vec<D::Tensor>,
    ) -> Result<Vec<D::Tensor>, BatchError> {
        let Some(lengths) = batch.lengths() else { return Ok(pieces) };
        let headers = batch.headers.get(tasks.clone()).unwrap_or_default();
        let sizes = headers.iter().zip(lengths.of(tasks));
        for (piece, (header, &length)) in pieces.iter_mut().zip(sizes) {
            let own = self.outside.on_device("scatter", |device| {
                let info = device.describe(piece)?;
                let rest = info.dims.iter().skip(1).copied();
                let dims: Vec<_> = [header.rows, length].into_iter().chain(rest).collect();
                device.reshape(piece, &dims)
            })?;
            discard(std::mem::replace(piece, own));
        }
        Ok(pieces)
    }

    /// Cuts an output into what each of some tasks has of it.
    pub(crate) fn scatter_to(
        &self,
        batch: &CutBatch<D::Tensor>,
        at: usize,
        tasks: Range<usize>,
        output: D::Tensor,
        spans: &Spans,
    ) -> Result<Vec<D::Tensor>, BatchError> {
        let pieces = self.outside.on_device("scatter", |device| device.scatter(output, spans))?;
        if pieces.len() != spans.len() {
            let wrong = format!("device gave {} tensors, expected {}", pieces.len(), spans.len());
            return Err(BatchError::Device { operation: "scatter", source: DeviceError::operation(wrong) });
        }
        if batch.is_laid(at) { self.take_up(batch, tasks, pieces) } else { Ok(pieces) }
    }
}

fn device_error(wrong: String) -> BatchError {
    BatchError::Device { operation: "gather", source: DeviceError::operation(wrong) }
}
