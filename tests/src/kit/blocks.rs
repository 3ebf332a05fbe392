//! Tensors of one column, and blocks that work on them with plain Rust.

use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{BoxError, DType, Device, HostTensor, Schema, TensorSpec};
use std::sync::Arc;

/// Reads and makes tensors of f32 values.
pub struct Columns;

impl Columns {
    /// Makes a tensor of any dims.
    pub fn shaped<D: Device>(device: &D, dims: &[usize], values: &[f32]) -> D::Tensor {
        device.from_host(&HostTensor::from_f32(dims, values).unwrap()).unwrap()
    }

    /// Returns the values of a tensor, row major.
    pub fn read<D: Device>(device: &D, tensor: &D::Tensor) -> Vec<f32> {
        device.to_host(tensor).unwrap().to_f32().expect("tensor should hold f32")
    }

    /// Returns the dims of a tensor.
    pub fn dims<D: Device>(device: &D, tensor: &D::Tensor) -> Vec<usize> {
        device.describe(tensor).unwrap().dims.to_vec()
    }
}

/// Makes a task's input: `[values, 1]`, one row for each value.
pub fn columns<D: Device>(device: &D, values: &[f32]) -> Vec<D::Tensor> {
    vec![Columns::shaped(device, &[values.len(), 1], values)]
}

/// Makes a schema of one f32 tensor `[batch, 1]`.
pub fn schema(name: &str) -> Schema {
    named_schema(&[name])
}

/// Makes a schema of several f32 tensors `[batch, 1]`.
pub fn named_schema(names: &[&str]) -> Schema {
    let tensors = names.iter().map(|name| TensorSpec::rows(*name, DType::F32, &[1]));
    Schema::new(tensors.collect()).unwrap()
}

/// Makes a block from `x` `[batch, 1]` to `y` `[batch, 1]`. `work` takes the rows of each batch and returns those
/// of the output, as many as it likes.
pub fn rows_block<D: Device>(
    device: &Arc<D>,
    name: &str,
    mut work: impl FnMut(Vec<f32>) -> Result<Vec<f32>, BoxError> + Send + 'static,
) -> FnBlock<D> {
    let device = Arc::clone(device);
    FnBlock::new(name, schema("x"), Some(schema("y")), move |inputs: &[D::Tensor]| {
        let rows = work(device.to_host(&inputs[0])?.to_f32().ok_or("input should hold f32")?)?;
        let output = device.from_host(&HostTensor::from_f32(&[rows.len(), 1], &rows)?)?;
        // On a device with memory of its own, this is what brings a tensor there.
        Ok(vec![device.gather(&[output])?])
    })
}
