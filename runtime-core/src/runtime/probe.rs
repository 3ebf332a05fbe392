//! The dummy run, which finds a block's outputs by running it on zeros.

use super::lengths::offsets;
use crate::contract::backend::Backend;
use crate::contract::device::Device;
use crate::contract::dims::Dim;
use crate::contract::error::cause::BoxError;
use crate::contract::schema::{Schema, TensorSpec};
use crate::contract::tensor::{HostTensor, TensorInfo};
use crate::sync::guarded;
use std::sync::Arc;

/// The rows of a dummy run, from the first on until a block takes them: a module that was traced for one row takes no
/// more. Not 1 first, so that a dim that is 1 is not taken for the rows.
const ROWS: [usize; 3] = [3, 2, 1];
/// A block that takes none of these may take exactly as many as its batches have at most, if that is not much.
const MOST_ROWS: usize = 64;
/// The largest size of a free dim: long enough for blocks that need a certain length, and quick.
const LONGEST: usize = 64;

/// A dummy run that failed.
#[derive(Debug, thiserror::Error)]
#[error(
    "dummy run of {rows} rows{} failed; a block that says what comes out (`with_outputs`) needs none",
    free.map_or_else(String::new, |size| format!(", with free dims of {size},"))
)]
struct ProbeError {
    rows: usize,
    free: Option<usize>,
    source: BoxError,
}

/// One dummy run: the size of free dims, and what came out.
struct Probe {
    free: Option<usize>,
    outputs: Vec<TensorInfo>,
}

/// Runs `block` on zeros and describes its outputs, by the names that the block has for them, or as `output_0`,
/// `output_1`, …
///
/// Where inputs have free dims it runs with several sizes of them. An output dim that is the same in all runs that
/// succeed is fixed, any other is free. If it has the size of the inputs' free dims, and these have one name, it has that
/// name; else one of its own. No run has more than `most_rows` rows.
pub(crate) fn probe_outputs<D: Device>(
    device: &D,
    block: &mut dyn Backend<D>,
    inputs: &Schema,
    most_rows: usize,
) -> Result<Schema, BoxError> {
    let largest = largest_free(inputs);
    let name = if let [only] = inputs.free() { Some(&only.name) } else { None };
    let mut first_error = None;
    for rows in row_counts(most_rows) {
        let mut probes = Vec::new();
        for free in sizes(largest) {
            let outputs = guarded(|| run(device, block, inputs, rows, free))
                .unwrap_or_else(|message| Err(format!("panic: {message}").into()));
            match outputs.and_then(|outputs| checked(outputs, rows)) {
                Ok(outputs) => probes.push(Probe { free, outputs }),
                Err(source) => drop(first_error.get_or_insert(ProbeError { rows, free, source })),
            }
        }
        if let Some(schema) = agreed(&probes, &block.output_names(), largest, name) {
            return schema;
        }
    }
    Err(first_error.map_or_else(|| "block gives another number of outputs each time".into(), Into::into))
}

/// Zeros for a batch, with free dims as long as those of a dummy run, laid as the block takes them, and the elements of a
/// row, as far as rows differ in them.
pub(crate) fn zeros<D: Device>(
    device: &D,
    inputs: &Schema,
    rows: usize,
) -> Result<(Vec<D::Tensor>, usize), BoxError> {
    let size = sizes(largest_free(inputs)).first().copied().flatten();
    let sizes = inputs.free().iter().map(|free| size.map_or(free.max, |size| size.min(free.max)));
    let elements = sizes.fold(1, usize::saturating_mul);
    let mut zeros = zeros_of(device, inputs, rows, size)?;
    if inputs.offsets().is_some() {
        let offsets = offsets(std::iter::repeat_n(elements, rows))?;
        zeros.push(device.gather(&[device.from_host(&offsets)?])?);
    }
    Ok((zeros, elements))
}

/// The largest size that a free dim may have; `None` without free dims.
fn largest_free(inputs: &Schema) -> Option<usize> {
    let dims = inputs.tensors().iter().flat_map(TensorSpec::dims);
    let sizes = dims.filter_map(|dim| match dim {
        Dim::Free { max, .. } => Some(*max),
        Dim::Batch | Dim::Fixed(_) => None,
    });
    sizes.max()
}

/// The rows to run with, if batches have at most so many.
fn row_counts(most: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = ROWS.into_iter().filter(|rows| *rows <= most).collect();
    if most <= MOST_ROWS && !counts.contains(&most) {
        counts.push(most);
    }
    counts
}

/// The sizes of free dims to run with: `None` if there are none.
fn sizes(largest: Option<usize>) -> Vec<Option<usize>> {
    let Some(largest) = largest else { return vec![None] };
    let base = largest.clamp(1, LONGEST);
    let mut sizes = vec![Some(base), Some(base - base / 4), Some(base.div_ceil(2)), Some(1)];
    sizes.dedup();
    sizes
}

fn checked(outputs: Vec<TensorInfo>, rows: usize) -> Result<Vec<TensorInfo>, BoxError> {
    for (i, output) in outputs.iter().enumerate() {
        if output.rows() != Some(rows) {
            return Err(format!("output {i} has dims {:?}, expected {rows} rows", output.dims).into());
        }
    }
    Ok(outputs)
}

/// What all runs agree on. `None` without a run, or if they do not even agree on the number of outputs and dims.
fn agreed(
    probes: &[Probe],
    names: &[String],
    largest: Option<usize>,
    free: Option<&Arc<str>>,
) -> Option<Result<Schema, BoxError>> {
    let first = probes.first()?;
    let alike = |probe: &Probe| {
        let shape = |outputs: &[TensorInfo]| {
            outputs.iter().map(|output| (output.dtype, output.dims.len())).collect::<Vec<_>>()
        };
        shape(&probe.outputs) == shape(&first.outputs)
    };
    if !probes.iter().all(alike) {
        return None;
    }
    // With one size only, nothing is known of how the output's dims depend on it.
    let is_known = largest.is_none_or(|largest| largest == 1) || probes.len() > 1;
    let tensors = first.outputs.iter().enumerate().map(|(i, output)| {
        let name = names.get(i).cloned().unwrap_or_else(|| format!("output_{i}"));
        let rest = (1..output.dims.len()).map(|at| {
            let size = |probe: &Probe| probe.outputs[i].dims[at];
            if is_known && probes.iter().all(|probe| size(probe) == output.dims[at]) {
                Dim::Fixed(output.dims[at])
            } else if probes.iter().all(|probe| Some(size(probe)) == probe.free) {
                let own = || format!("{name}.{at}").into();
                Dim::Free { name: free.cloned().unwrap_or_else(own), max: largest.unwrap_or(usize::MAX) }
            } else {
                Dim::free(format!("{name}.{at}"), usize::MAX)
            }
        });
        let dims: Vec<_> = std::iter::once(Dim::Batch).chain(rest).collect();
        TensorSpec::new(name, output.dtype, dims)
    });
    Some(Schema::new(tensors.collect()).map_err(Into::into))
}

fn run<D: Device>(
    device: &D,
    block: &mut dyn Backend<D>,
    inputs: &Schema,
    rows: usize,
    free: Option<usize>,
) -> Result<Vec<TensorInfo>, BoxError> {
    let inputs = zeros_of(device, inputs, rows, free)?;
    let outputs = block.forward(&inputs)?;
    device.synchronize()?;
    Ok(outputs.iter().map(|output| device.describe(output)).collect::<Result<_, _>>()?)
}

fn zeros_of<D: Device>(
    device: &D,
    inputs: &Schema,
    rows: usize,
    free: Option<usize>,
) -> Result<Vec<D::Tensor>, BoxError> {
    let zeros = inputs.tensors().iter().map(|spec| {
        let dims: Vec<usize> = spec
            .dims()
            .iter()
            .map(|dim| match *dim {
                Dim::Batch => rows,
                Dim::Fixed(size) => size,
                Dim::Free { max, .. } => free.map_or(max, |free| free.min(max)),
            })
            .collect();
        let dims = match &*dims {
            [rows, length, rest @ ..] if inputs.offsets().is_some() && spec.is_laid() => {
                [&[rows.saturating_mul(*length)], rest].concat()
            }
            _ => dims,
        };
        let zeros = HostTensor::zeros(spec.dtype(), &dims).ok_or("input is too large for a dummy run")?;
        Ok(device.gather(&[device.from_host(&zeros)?])?)
    });
    zeros.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_that_batches_can_have() {
        assert_eq!(row_counts(1), [1]);
        assert_eq!(row_counts(2), [2, 1]);
        assert_eq!(row_counts(3), [3, 2, 1]);
        assert_eq!(row_counts(8), [3, 2, 1, 8]);
        assert_eq!(row_counts(MOST_ROWS + 1), [3, 2, 1]);
    }
}
