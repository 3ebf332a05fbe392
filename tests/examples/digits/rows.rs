//! Numbers in rows: what a caller works with, before they become tensors and after.

use crate::common::{DemoDevice, Result, skep};
use skep::runtime::{HostTensor, TensorOps};

/// Rows of equal width, one after the other.
pub(crate) struct Rows {
    pub(crate) width: usize,
    pub(crate) values: Vec<f32>,
}

/// A tensor of this demo's device.
pub(crate) type Tensor = <DemoDevice as TensorOps>::Tensor;

impl Rows {
    pub(crate) fn zeros(count: usize, width: usize) -> Self {
        Self { width, values: vec![0.0; count * width] }
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.width..][..self.width]
    }

    pub(crate) fn row_mut(&mut self, at: usize) -> &mut [f32] {
        &mut self.values[at * self.width..][..self.width]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// Copies of the rows at these places.
    pub(crate) fn pick(&self, places: &[usize]) -> Self {
        let values = places.iter().flat_map(|&at| self.row(at)).copied().collect();
        Self { width: self.width, values }
    }

    /// As a tensor `[rows, width]` on the host.
    pub(crate) fn to_tensor(&self, device: &DemoDevice) -> Result<Tensor> {
        Ok(device.from_host(&HostTensor::from_f32(&[self.count(), self.width], &self.values)?)?)
    }

    /// From a tensor `[rows, width]`.
    pub(crate) fn from_tensor(device: &DemoDevice, tensor: &Tensor) -> Result<Self> {
        let tensor = device.to_host(tensor)?;
        match (tensor.dims(), tensor.to_f32()) {
            (&[_, width], Some(values)) => Ok(Self { width, values }),
            (dims, _) => {
                Err(format!("tensor is {} of dims {dims:?}, expected rows of f32", tensor.dtype()).into())
            }
        }
    }
}
