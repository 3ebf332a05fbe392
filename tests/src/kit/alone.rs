//! A block by itself, called without a runtime, with plain numbers in and out.

use crate::subject::Learner;
use skep_runtime_core::{Backend, BlockState, BoxError, Device, HostTensor, TensorInfo, TensorOps};
use skep_toolkit::Block;

/// A block by itself on its device.
pub struct Alone<L: Learner> {
    device: L::Device,
    /// The block.
    pub block: Block<L::Library>,
}

impl<L: Learner> Alone<L> {
    /// Loads a block that can be loaded.
    pub fn new(block: Block<L::Library>) -> Self {
        Self::load(block).unwrap()
    }

    /// Loads a block onto its device.
    ///
    /// # Errors
    ///
    /// The block's.
    pub fn load(mut block: Block<L::Library>) -> Result<Self, BoxError> {
        let device = L::device();
        block.load(&device)?;
        Ok(Self { device, block })
    }

    /// Inputs to outputs.
    ///
    /// # Errors
    ///
    /// The block's.
    pub fn forward(&mut self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, BoxError> {
        let outputs = self.block.forward(&self.placed(inputs))?;
        Ok(self.read(&outputs))
    }

    /// Inputs and gradients of the outputs to gradients of the inputs.
    ///
    /// # Errors
    ///
    /// The block's.
    pub fn backward(
        &mut self,
        inputs: &[HostTensor],
        gradients: &[HostTensor],
    ) -> Result<Vec<HostTensor>, BoxError> {
        let of_inputs = self.block.backward(&self.placed(inputs), &self.placed(gradients))?;
        Ok(self.read(&of_inputs))
    }

    /// Inputs to outputs, as the block gives them.
    pub fn outputs(&mut self, inputs: &[HostTensor]) -> Vec<<L::Device as TensorOps>::Tensor> {
        self.block.forward(&self.placed(inputs)).unwrap()
    }

    /// What the device says of a tensor.
    pub fn describe(&self, tensor: &HostTensor) -> TensorInfo {
        self.device.describe(&self.device.from_host(tensor).unwrap()).unwrap()
    }

    /// The block's state.
    pub fn state(&self) -> BlockState {
        self.block.state().unwrap()
    }

    /// On the device, where a block wants its tensors.
    fn placed(&self, tensors: &[HostTensor]) -> Vec<<L::Device as TensorOps>::Tensor> {
        let place = |tensor| self.device.gather(&[self.device.from_host(tensor).unwrap()]).unwrap();
        tensors.iter().map(place).collect()
    }

    /// The values of tensors.
    pub fn read(&self, tensors: &[<L::Device as TensorOps>::Tensor]) -> Vec<HostTensor> {
        tensors.iter().map(|tensor| self.device.to_host(tensor).unwrap()).collect()
    }
}
