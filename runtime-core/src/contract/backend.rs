//! Backends: one model block each, which runs on a device.

use crate::contract::device::Device;
use crate::contract::error::cause::BoxError;
use crate::contract::error::submit::SchemaError;
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
#[non_exhaustive]
pub struct BlockInfo {
    /// The block's name, unique within a runtime.
    pub name: String,
    /// The inputs of the forward pass, and how tasks whose free dims differ are put together ([`Schema::ragged`]).
    pub inputs: Schema,
    /// The outputs of the forward pass; `None` to have them found by dummy runs of three rows, or of fewer if the block
    /// does not take three. A block of [ragged](Schema::ragged) inputs has to name them.
    pub outputs: Option<Schema>,
    /// True if the block can be called backward.
    pub backward: bool,
    /// True if a backward pass gives the outputs of its forward pass too, after the gradients of the inputs.
    pub backward_gives_outputs: bool,
}

impl BlockInfo {
    /// Creates the info of a block whose outputs are to be found by a dummy run, and that cannot be called backward.
    pub fn new(name: impl Into<String>, inputs: Schema) -> Self {
        Self { name: name.into(), inputs, outputs: None, backward: false, backward_gives_outputs: false }
    }

    /// Sets [`outputs`](Self#structfield.outputs).
    pub fn outputs(mut self, outputs: impl Into<Option<Schema>>) -> Self {
        self.outputs = outputs.into();
        self
    }

    /// Sets [`backward`](Self#structfield.backward).
    pub fn backward(mut self, backward: bool) -> Self {
        self.backward = backward;
        self
    }

    /// Sets [`backward_gives_outputs`](Self#structfield.backward_gives_outputs).
    pub fn backward_gives_outputs(mut self, gives: bool) -> Self {
        self.backward_gives_outputs = gives;
        self
    }

    /// Returns what tasks of a pass bring: the inputs, and for a backward pass the gradient `grad.y` of each output `y`.
    ///
    /// # Errors
    ///
    /// Returns a [`SchemaError`] if an input has the name of a gradient, or if the inputs are [ragged](Schema::ragged) and the
    /// outputs cannot follow them.
    pub fn takes(&self, pass: Pass) -> Result<Schema, SchemaError> {
        if pass == Pass::Forward {
            return Ok(self.inputs.clone());
        }
        let gradients = self.outputs.iter().flat_map(Schema::tensors);
        let gradients = gradients.map(|spec| spec.renamed(format!("grad.{}", spec.name())));
        self.inputs.with(self.inputs.tensors().iter().cloned().chain(gradients).collect())
    }

    /// Returns the first thing in which two blocks differ, other than their names: `offsets`, `inputs`, `outputs` or `passes`. One of
    /// them can take the place of the other if there is none.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let passes = |info: &Self| (info.backward, info.backward_gives_outputs);
        let differ = [
            ("offsets", self.inputs.offsets() != other.inputs.offsets()),
            ("inputs", self.inputs != other.inputs),
            ("outputs", self.outputs != other.outputs),
            ("passes", passes(self) != passes(other)),
        ];
        differ.into_iter().find(|(_, differ)| *differ).map(|(what, _)| what)
    }
}

/// The state of a block as it was between two batches: parameters, and what the optimizer remembers.
///
/// Plain bytes on the host, so that saving it to disk needs neither the device nor its thread, and another
/// backend can read it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BlockState {
    /// Parameters and buffers by name.
    pub parameters: BTreeMap<String, HostTensor>,
    /// The optimizer's tensors by name (`exp_avg.layer.weight`); empty where there is no optimizer.
    pub optimizer: BTreeMap<String, HostTensor>,
    /// Everything else: steps taken, position in the schedule.
    pub scalars: BTreeMap<String, String>,
}

/// How exactly a state must fit the block that it is restored into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// The block finds every part of its own in the state, and the state holds no part of another block.
    #[default]
    Exact,
    /// The parts that both have are replaced; the others keep their values.
    Partial,
}

/// The parts by which a state and a block differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmatched {
    /// Parts of the block that the state lacks.
    pub missing: Vec<String>,
    /// Parts of the state that the block lacks.
    pub unknown: Vec<String>,
}

impl Unmatched {
    /// Creates the list of such parts.
    pub fn new(missing: Vec<String>, unknown: Vec<String>) -> Self {
        Self { missing, unknown }
    }

    /// Returns true if state and block have the same parts.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unknown.is_empty()
    }
}

/// The training of a block as it stands after a backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Steps that were taken.
    pub steps: u64,
    /// Steps whose gradients were scaled down to the largest norm that is allowed.
    pub clipped: u64,
    /// Steps that were refused, because they would have made the state infinite or not a number.
    pub refused: u64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// The Euclidean norm of all gradients of the last step together, before it was clipped.
    pub gradient_norm: f64,
}

impl Training {
    /// Creates the figures of a training that has not begun: set the fields. For blocks of one's own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the share of the steps that were clipped, `0.0..=1.0`.
    pub fn clipped_share(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.clipped as f64 / self.steps as f64 }
    }
}

/// One block on a device.
///
/// Called from the device thread only, so an implementation needs no lock of its own. (A block is dropped by
/// whoever lets it go, and one that may leave the device, by [`Reload`](crate::Reload), is made, restored and asked for
/// its state elsewhere, too: always by a thread that has it to itself.) A panic or an error
/// fails the batch that it happened in, and the block is called again with the next. After a failed forward
/// pass that is, unless the pool's [`FailureRules`](crate::FailureRules) say otherwise, half of the same
/// batch: a forward pass must leave the block, and its inputs, as they were.
pub trait Backend<D: Device>: Send + 'static {
    /// Returns the name and the schemas.
    fn info(&self) -> BlockInfo;

    /// Moves the block onto the device. Called once, before the first batch, on any thread.
    ///
    /// # Errors
    ///
    /// Returns an error if weights cannot be read or do not fit; the runtime then is not built.
    fn load(&mut self, device: &D) -> Result<(), BoxError>;

    /// Runs inference. Inputs are on the device, in the schema's order, with one and the same number of rows;
    /// each output has that many rows too. Where the inputs are [ragged](Schema::ragged), elements take the place of rows. No
    /// gradient is recorded.
    ///
    /// # Errors
    ///
    /// Returns any error, which reaches the callers as [`BatchError::Block`](crate::BatchError::Block).
    /// Report out-of-memory by returning, or wrapping, a
    /// [`DeviceError::OutOfMemory`](crate::DeviceError::OutOfMemory): smaller batches are made then.
    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError>;

    /// Takes one training step: runs the forward again, propagates `gradients` (of the outputs, in order; of those of
    /// integers too, through which nothing flows) back to the inputs, steps the optimizer where there is one, and returns the gradients of the inputs, in
    /// order, zeros where none flows. The outputs follow them if
    /// [`backward_gives_outputs`](BlockInfo::backward_gives_outputs) is set.
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

    /// Replaces the state. With [`Fit::Partial`], returns the parts by which the state and the block differ.
    ///
    /// # Errors
    ///
    /// Returns an error if a part has another dtype or shape, or, with [`Fit::Exact`], if one is missing or unknown; then
    /// nothing was replaced.
    fn restore(&mut self, state: &BlockState, fit: Fit) -> Result<Unmatched, BoxError>;

    /// Returns the names of the outputs, as far as the block has some. Asked after a dummy run, for outputs that
    /// [`info`](Self::info) does not name.
    fn output_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns how the training stands, or `None` if the block has no optimizer. Asked after each backward pass: cheap,
    /// and without waiting for the device.
    fn training(&self) -> Option<Training> {
        None
    }

    /// Returns a number that changes whenever the state does, or `None` if the block does not tell. Who saves states
    /// need not copy one that it has saved already. No other state has the same number, that of a block included that takes
    /// the place of this one.
    fn revision(&self) -> Option<u64> {
        None
    }

    /// Keeps a value of the application's in the state, under `name` among its scalars: where it stands in its data,
    /// say. `None` takes the value out.
    ///
    /// # Errors
    ///
    /// Returns an error if the block keeps none, which is the default.
    fn note(&mut self, name: &str, value: Option<String>) -> Result<(), BoxError> {
        let _ = (name, value);
        Err("block keeps no notes of its application".into())
    }
}
