//! How tasks are laid end to end: which of their tensors, and how long each task is.

use crate::contract::error::device::DeviceError;
use crate::contract::schema::{Schema, TensorSpec};
use crate::contract::task::TaskHeader;
use crate::contract::tensor::HostTensor;
use std::ops::Range;

/// How the tensors of one pass of a block are laid, looked up once.
pub(crate) struct Ragged {
    /// For each tensor that tasks bring, whether it is laid end to end.
    pub(super) inputs: Vec<bool>,
    /// The place of the offsets: behind the inputs of the block, before gradients.
    pub(super) offsets: usize,
}

/// The size of the free dim of each task of a batch.
pub(crate) struct Lengths(pub(super) Vec<usize>);

impl Ragged {
    /// Of tasks that bring what `takes` says, for a block of these inputs.
    pub(crate) fn new(takes: &Schema, inputs: &Schema) -> Self {
        let laid = takes.tensors().iter().map(TensorSpec::is_laid);
        Self { inputs: laid.collect(), offsets: inputs.tensors().len() }
    }
}

impl Lengths {
    /// Those of some tasks.
    pub(crate) fn of(&self, tasks: Range<usize>) -> &[usize] {
        self.0.get(tasks).unwrap_or_default()
    }

    /// The elements of a row of these tasks, in the middle, rounded up.
    pub(crate) fn of_row(&self, headers: &[TaskHeader]) -> usize {
        let (mut rows, mut elements) = (0_usize, 0_usize);
        for (header, length) in headers.iter().zip(&self.0) {
            rows = rows.saturating_add(header.rows);
            elements = elements.saturating_add(header.rows.saturating_mul(*length));
        }
        elements.div_ceil(rows.max(1))
    }
}

/// The elements with which rows begin that have so many each, and at last the number of all.
pub(crate) fn offsets(rows: impl IntoIterator<Item = usize>) -> Result<HostTensor, DeviceError> {
    let (mut offsets, mut at) = (vec![0_i64], 0_i64);
    for elements in rows {
        let end = i64::try_from(elements).ok().and_then(|elements| at.checked_add(elements));
        at = end.ok_or_else(|| DeviceError::operation("batch has more elements than i64 counts"))?;
        offsets.push(at);
    }
    HostTensor::from_i64(&[offsets.len()], &offsets).map_err(DeviceError::operation)
}
