//! One model block: what runs on a device.

use crate::device::Device;
use crate::error::BoxError;
use crate::schema::Schema;
use crate::tensor::HostTensor;
use std::collections::BTreeMap;

/// What a block is called, takes and gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The block's name, unique within a runtime.
    pub name: String,
    /// The inputs of the forward pass.
    pub inputs: Schema,
    /// The outputs of the forward pass; `None` to have them found by one dummy run of three rows.
    pub outputs: Option<Schema>,
    /// Whether the block can be called backward.
    pub backward: bool,
}

/// The state of a block as it was between two batches: parameters, and what the optimizer remembers.
///
/// Plain bytes on the host, so that saving it to disk needs neither the device nor its thread, and another
/// backend can read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockState {
    /// Parameters and buffers by name.
    pub parameters: BTreeMap<String, HostTensor>,
    /// The optimizer's tensors by name (`exp_avg.layer.weight`); empty where there is no optimizer.
    pub optimizer: BTreeMap<String, HostTensor>,
    /// Everything else: steps taken, position in the schedule.
    pub scalars: BTreeMap<String, String>,
}

/// One block on a device.
///
/// Called from the device thread only, so an implementation needs no lock of its own. A panic or an error
/// fails the batch that it happened in, and the block is called again with the next. After a failed forward
/// pass that is, unless the pool's [`FailureRules`](crate::FailureRules) say otherwise, half of the same
/// batch: a forward pass must leave the block, and its inputs, as they were.
pub trait Backend<D: Device>: Send + 'static {
    /// Name and schemas.
    fn info(&self) -> BlockInfo;

    /// Moves the block onto the device. Called once, before the first batch.
    ///
    /// # Errors
    ///
    /// When weights cannot be read or do not fit; the runtime then is not built.
    fn load(&mut self, device: &D) -> Result<(), BoxError>;

    /// Inference. Inputs are on the device, in the schema's order, with one and the same number of rows;
    /// each output has that many rows too. No gradient is recorded.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; it reaches the callers as [`BatchError::Block`](crate::BatchError::Block).
    /// Out of memory is told by returning, or wrapping, a
    /// [`DeviceError::OutOfMemory`](crate::DeviceError::OutOfMemory): smaller batches are made then.
    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError>;

    /// One training step: runs the forward again, propagates `gradients` (of the outputs, in order) back
    /// to the inputs, steps the optimizer where there is one, and returns the gradients of the inputs, in
    /// order, zeros where none flows.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; nothing is re-run, because a step changes the state.
    fn backward(&mut self, inputs: &[D::Tensor], gradients: &[D::Tensor])
    -> Result<Vec<D::Tensor>, BoxError>;

    /// A copy of the state.
    ///
    /// # Errors
    ///
    /// When it cannot be read from the device.
    fn state(&self) -> Result<BlockState, BoxError>;

    /// Replaces the state. Parts that are missing keep their value and are named in the answer.
    ///
    /// # Errors
    ///
    /// When a part has another dtype or shape; then nothing was replaced.
    fn restore(&mut self, state: &BlockState) -> Result<Vec<String>, BoxError>;
}
