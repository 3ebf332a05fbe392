//! The dummy run, which finds a block's outputs by running it on zeros.

use crate::contract::backend::Backend;
use crate::contract::device::Device;
use crate::contract::dims::Dim;
use crate::contract::error::cause::BoxError;
use crate::contract::schema::{Schema, TensorSpec};
use crate::contract::tensor::{HostTensor, TensorInfo};

/// The rows of a dummy run. Not 1, so that a dim that is 1 is not taken for the rows.
const ROWS: usize = 3;

/// Runs `block` on three rows of zeros and describes its outputs as `output_0`, `output_1`, …
///
/// Where inputs have free dims it runs twice, with sizes 1 and 2: an output dim that differs between the
/// two runs is free as well.
pub(crate) fn probe_outputs<D: Device>(
    device: &D,
    block: &mut dyn Backend<D>,
    inputs: &Schema,
) -> Result<Schema, BoxError> {
    let largest = inputs.tensors().iter().flat_map(TensorSpec::dims).filter_map(|dim| match dim {
        Dim::Free { max } => Some(*max),
        Dim::Batch | Dim::Fixed(_) => None,
    });
    let largest = largest.max();
    let first = run(device, block, inputs, 1)?;
    let second = if largest.is_some() { run(device, block, inputs, 2)? } else { first.clone() };
    let tensors = first.iter().zip(&second).enumerate().map(|(i, (a, b))| {
        if a.rows() != Some(ROWS) {
            return Err(format!("output {i} has dims {:?}, expected {ROWS} rows in a dummy run", a.dims));
        }
        let rest = a.dims.iter().zip(&b.dims).skip(1).map(|(a, b)| match largest {
            Some(max) if a != b => Dim::Free { max },
            _ => Dim::Fixed(*a),
        });
        let dims: Vec<_> = std::iter::once(Dim::Batch).chain(rest).collect();
        Ok(TensorSpec::new(format!("output_{i}"), a.dtype, dims))
    });
    Ok(Schema::new(tensors.collect::<Result<_, _>>()?)?)
}

fn run<D: Device>(
    device: &D,
    block: &mut dyn Backend<D>,
    inputs: &Schema,
    free: usize,
) -> Result<Vec<TensorInfo>, BoxError> {
    let zeros = inputs.tensors().iter().map(|spec| {
        let dims: Vec<usize> = spec
            .dims()
            .iter()
            .map(|dim| match *dim {
                Dim::Batch => ROWS,
                Dim::Fixed(size) => size,
                Dim::Free { max } => free.min(max),
            })
            .collect();
        let zeros = HostTensor::zeros(spec.dtype(), &dims).ok_or("input is too large for a dummy run")?;
        Ok(device.gather(&[device.from_host(&zeros)?])?)
    });
    let inputs = zeros.collect::<Result<Vec<_>, BoxError>>()?;
    let outputs = block.forward(&inputs)?;
    device.synchronize()?;
    Ok(outputs.iter().map(|output| device.describe(output)).collect::<Result<_, _>>()?)
}
