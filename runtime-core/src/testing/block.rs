//! A block made of closures.

use super::device::FakeDevice;
use crate::contract::backend::{Backend, BlockInfo, BlockState, Fit, Unmatched};
use crate::contract::device::Device;
use crate::contract::error::cause::BoxError;
use crate::contract::schema::{Schema, TensorSpec};
use crate::contract::tensor::DType;
use std::fmt;

type Forward<T> = Box<dyn FnMut(&[T]) -> Result<Vec<T>, BoxError> + Send>;
type Backward<T> = Box<dyn FnMut(&[T], &[T]) -> Result<Vec<T>, BoxError> + Send>;

/// A block made of closures, on any device. Its state is what [`restore`](Backend::restore) last gave it.
pub struct FnBlock<D: Device> {
    info: BlockInfo,
    forward: Forward<D::Tensor>,
    backward: Option<Backward<D::Tensor>>,
    state: BlockState,
}

impl<D: Device> fmt::Debug for FnBlock<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnBlock").field("info", &self.info).finish_non_exhaustive()
    }
}

impl<D: Device> FnBlock<D> {
    /// Creates a block of any schema. Its outputs are found by a dummy run unless `outputs` names them.
    pub fn new(
        name: &str,
        inputs: Schema,
        outputs: Option<Schema>,
        forward: impl FnMut(&[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> + Send + 'static,
    ) -> Self {
        let info = BlockInfo::new(name, inputs).outputs(outputs);
        Self { info, forward: Box::new(forward), backward: None, state: BlockState::default() }
    }

    /// Lets the block be called backward, with its inputs and the gradients of its outputs.
    pub fn with_backward(
        mut self,
        backward: impl FnMut(&[D::Tensor], &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> + Send + 'static,
    ) -> Self {
        self.info.backward = true;
        self.backward = Some(Box::new(backward));
        self
    }
}

impl FnBlock<FakeDevice> {
    /// Creates a block from one `f32` input `x` of `width` columns to one output `y` of as many.
    ///
    /// # Panics
    ///
    /// Never: the schema is a valid one.
    pub fn rows(
        name: &str,
        width: usize,
        forward: impl FnMut(&[super::device::FakeTensor]) -> Result<Vec<super::device::FakeTensor>, BoxError>
        + Send
        + 'static,
    ) -> Self {
        let schema = |name| Schema::new(vec![TensorSpec::rows(name, DType::F32, &[width])]);
        let (Ok(inputs), Ok(outputs)) = (schema("x"), schema("y")) else {
            unreachable!("one tensor whose only batch dim is dim 0")
        };
        Self::new(name, inputs, Some(outputs), forward)
    }
}

impl<D: Device> Backend<D> for FnBlock<D> {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, _device: &D) -> Result<(), BoxError> {
        Ok(())
    }

    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        (self.forward)(inputs)
    }

    fn backward(
        &mut self,
        inputs: &[D::Tensor],
        gradients: &[D::Tensor],
    ) -> Result<Vec<D::Tensor>, BoxError> {
        match &mut self.backward {
            Some(backward) => backward(inputs, gradients),
            None => Err(format!("block `{}` has no backward pass", self.info.name).into()),
        }
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        Ok(self.state.clone())
    }

    fn restore(&mut self, state: &BlockState, _fit: Fit) -> Result<Unmatched, BoxError> {
        self.state = state.clone();
        Ok(Unmatched::default())
    }
}
