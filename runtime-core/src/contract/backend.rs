//! Backends: one model block each, which runs on a device.

use crate::contract::device::Device;
use crate::contract::error::cause::BoxError;
use crate::contract::schema::Schema;
use crate::contract::tensor::HostTensor;
use std::collections::BTreeMap;
use std::fmt;

/// The direction in which a block is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Inference: inputs to outputs.
    Forward,
    /// A training step: inputs and gradients of the outputs to gradients of the inputs.
    Backward,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        })
    }
}

/// The name and the schemas of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The block's name, unique within a runtime.
    pub name: String,
    /// The inputs of the forward pass.
    pub inputs: Schema,
    /// The outputs of the forward pass; `None` to have them found by one dummy run of three rows.
    pub outputs: Option<Schema>,
    /// True if the block can be called backward.
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
    /// Returns the name and the schemas.
    fn info(&self) -> BlockInfo;

    /// Moves the block onto the device. Called once, before the first batch.
    ///
    /// # Errors
    ///
    /// Returns an error if weights cannot be read or do not fit; the runtime then is not built.
    fn load(&mut self, device: &D) -> Result<(), BoxError>;

    /// Runs inference. Inputs are on the device, in the schema's order, with one and the same number of rows;
    /// each output has that many rows too. No gradient is recorded.
    ///
    /// # Errors
    ///
    /// Returns any error, which reaches the callers as [`BatchError::Block`](crate::BatchError::Block).
    /// Report out-of-memory by returning, or wrapping, a
    /// [`DeviceError::OutOfMemory`](crate::DeviceError::OutOfMemory): smaller batches are made then.
    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError>;

    /// Takes one training step: runs the forward again, propagates `gradients` (of the outputs, in order) back
    /// to the inputs, steps the optimizer where there is one, and returns the gradients of the inputs, in
    /// order, zeros where none flows.
    ///
    /// # Errors
    ///
    /// Returns any error; nothing is re-run, because a step changes the state.
    fn backward(&mut self, inputs: &[D::Tensor], gradients: &[D::Tensor])
    -> Result<Vec<D::Tensor>, BoxError>;

    /// Returns a copy of the state.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be read from the device.
    fn state(&self) -> Result<BlockState, BoxError>;

    /// Replaces the state. Tensors that are missing keep their value, and their names are returned.
    ///
    /// # Errors
    ///
    /// Returns an error if a tensor has another dtype or shape; then nothing was replaced.
    fn restore(&mut self, state: &BlockState) -> Result<Vec<String>, BoxError>;
}
