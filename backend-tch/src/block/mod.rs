//! A block made of libtorch layers: what the runtime calls, around the arithmetic that an application writes.

mod parameters;

use crate::device::TchDevice;
use crate::optim::{self, Step};
use crate::shim::{self, GradMode};
use parameters::{Found, Parameters};
use skep_runtime_core::{Backend, BlockInfo, BlockState, BoxError, HostTensor, Schema, TensorOps};
use skep_toolkit::{BlockError, Optimizer, Stepper, check_gradients, state};
use std::path::PathBuf;
use tch::{TchError, Tensor};

pub use parameters::VarBuilder;

/// The arithmetic of a block: input tensors to output tensors.
///
/// For inference it is called without a graph being recorded, for training with one. Use tch's methods whose
/// names begin with `f_`: they return errors, where the others (and the operators) panic. Those of them that take
/// a plain number panic as well; [`layers::number`](crate::layers::number) is a way around. A panic is caught by
/// the runtime and fails the batch, but its type is lost: out of memory, say.
pub trait Layers: Send + 'static {
    /// Maps the inputs to the outputs. Every tensor has the batch's rows as dim 0.
    ///
    /// # Errors
    ///
    /// libtorch's errors; they fail the batch.
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError>;

    /// Called before [`forward`](Self::forward): whether it is part of a training step. Layers that behave the
    /// same in both ignore it.
    ///
    /// # Errors
    ///
    /// libtorch's errors; they fail the batch.
    fn training(&self, on: bool) -> Result<(), TchError> {
        let _ = on;
        Ok(())
    }
}

impl<F> Layers for F
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>, TchError> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self(inputs)
    }
}

type Build = dyn Fn(&VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> + Send;

/// One block on a [`TchDevice`].
///
/// The layers ask for their parameters by name when the block is loaded onto the device. A parameter comes
/// from the weights file where one is given; otherwise it is drawn as the layer asks, from numbers that
/// depend on the seed and the parameter's name only.
///
/// ```
/// use skep_backend_tch::layers;
/// use skep_backend_tch::prelude::*;
/// use skep_backend_tch::tch::Kind;
///
/// let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[8])])?;
/// let mut block = TchBlock::new("halve", inputs, |vb| {
///     let linear = layers::linear(8, 4, &vb.pp("linear"))?;
///     Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![linear.forward(&inputs[0])?])))
/// })
/// .with_optimizer(Optimizer::sgd(Sgd { learning_rate: 0.1, ..Sgd::default() }));
///
/// let device = TchDevice::cpu();
/// block.load(&device)?;
/// let x = Tensor::f_ones([3, 8], (Kind::Float, device.place()))?;
/// let y = block.forward(&[x.shallow_clone()])?;
/// assert_eq!(y[0].size(), [3, 4]);
/// let gradients = block.backward(&[x], &y)?;
/// assert_eq!(gradients[0].size(), [3, 8]);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
pub struct TchBlock {
    info: BlockInfo,
    build: Box<Build>,
    seed: u64,
    weights: Option<PathBuf>,
    optimizer: Option<Optimizer>,
    loaded: Option<Loaded>,
}

struct Loaded {
    device: TchDevice,
    tensors: Found,
    layers: Box<dyn Layers>,
    /// None where the block is not trained.
    stepper: Option<Stepper<Tensor>>,
}

impl TchBlock {
    /// Makes a block of the layers that `build` makes when the block is loaded.
    pub fn new<B>(name: impl Into<String>, inputs: Schema, build: B) -> Self
    where
        B: Fn(&VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> + Send + 'static,
    {
        Self {
            info: BlockInfo { name: name.into(), inputs, outputs: None, backward: true },
            build: Box::new(build),
            seed: 0,
            weights: None,
            optimizer: None,
            loaded: None,
        }
    }

    /// Says what comes out, so that the runtime need not find out by a dummy run.
    pub fn with_outputs(mut self, outputs: Schema) -> Self {
        self.info.outputs = Some(outputs);
        self
    }

    /// Where the first parameters are drawn from. 0 unless set.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Takes all parameters from a safetensors file. A parameter that the file lacks, or has in another
    /// shape, is an error when the block is loaded.
    pub fn with_weights(mut self, file: impl Into<PathBuf>) -> Self {
        self.weights = Some(file.into());
        self
    }

    /// Has each backward pass end with a step of this optimizer. Without one, gradients reach the inputs
    /// and the parameters stay as they are.
    pub fn with_optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Makes the block refuse to be called backward.
    pub fn inference_only(mut self) -> Self {
        self.info.backward = false;
        self
    }

    fn loaded(&self) -> Result<&Loaded, BlockError> {
        self.loaded.as_ref().ok_or(BlockError::NotLoaded)
    }
}

impl Backend<TchDevice> for TchBlock {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, device: &TchDevice) -> Result<(), BoxError> {
        let parameters = Parameters::new(device, self.seed, self.weights.as_deref())?;
        let layers = (self.build)(&parameters.builder()).map_err(|e| sorted(device, e))?;
        let tensors = parameters.into_found();
        let zeros = |variable: &Tensor| variable.f_detach()?.f_zeros_like();
        let begin = |optimizer| Stepper::new(optimizer, &tensors.variables, zeros);
        let stepper = self.optimizer.map(begin).transpose().map_err(|e| device.failure(e))?;
        self.loaded = Some(Loaded { device: device.clone(), tensors, layers, stepper });
        Ok(())
    }

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        let Loaded { device, layers, .. } = self.loaded()?;
        // Not libtorch's inference mode: its tensors go to callers, and may come back in a training pass,
        // which would refuse them.
        let _no_grad = GradMode::set(false);
        let outputs = layers.training(false).and_then(|()| layers.forward(inputs));
        Ok(outputs.map_err(|e| device.failure(e))?)
    }

    fn backward(&mut self, inputs: &[Tensor], gradients: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        if !self.info.backward {
            return Err(BlockError::InferenceOnly.into());
        }
        step(loaded, inputs, gradients).map_err(|error| sorted(&loaded.device, error))
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        let loaded = self.loaded()?;
        state::save(&loaded.device, loaded.tensors.iter(), loaded.stepper.as_ref())
    }

    fn restore(&mut self, state: &BlockState) -> Result<Vec<String>, BoxError> {
        let Loaded { device, tensors, stepper, .. } = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        let place = |saved: &HostTensor| {
            Ok(device.from_host(saved)?.f_to(device.place()).map_err(|e| device.failure(e))?)
        };
        let mut saved = state::read(device, tensors.iter(), stepper.as_ref(), state, place)?;
        let _no_grad = GradMode::set(false);
        for (name, tensor) in tensors.iter_mut() {
            if let Some(saved) = saved.parameters.remove(name) {
                tensor.f_copy_(&saved).map_err(|e| device.failure(e))?;
            }
        }
        Ok(saved.resume(stepper.as_mut()))
    }
}

/// libtorch's errors as the device sorts them; others as they are.
fn sorted(device: &TchDevice, error: BoxError) -> BoxError {
    match error.downcast::<TchError>() {
        Ok(error) => device.failure(*error).into(),
        Err(other) => other,
    }
}

/// Runs the layers again, now with a graph, and goes back through it.
fn step(loaded: &mut Loaded, inputs: &[Tensor], gradients: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
    let Loaded { device, tensors, layers, stepper } = loaded;
    let _grad = GradMode::set(true);
    let leaves = inputs.iter().map(|input| leaf(device, input)).collect::<Result<Vec<_>, _>>()?;
    layers.training(true)?;
    let outputs = layers.forward(&leaves)?;
    check_gradients(device, &outputs, gradients)?;

    let pairs = outputs.iter().zip(gradients).filter(|(output, _)| output.requires_grad());
    let (outputs, gradients): (Vec<&Tensor>, Vec<&Tensor>) = pairs.unzip();
    // Without an optimizer, nobody asks for the parameters' gradients.
    let variables = tensors.variables.values().filter(|v| stepper.is_some() && v.requires_grad());
    let wanted: Vec<&Tensor> = leaves.iter().filter(|leaf| leaf.requires_grad()).chain(variables).collect();
    let flows = !outputs.is_empty();
    let mut found = if flows {
        shim::gradients(&outputs, &gradients, &wanted)?
    } else {
        wanted.iter().map(|_| None).collect()
    }
    .into_iter();

    let _no_grad = GradMode::set(false);
    let mut of_inputs = Vec::with_capacity(leaves.len());
    for leaf in &leaves {
        let gradient = if leaf.requires_grad() { found.next().flatten() } else { None };
        of_inputs.push(gradient.map_or_else(|| leaf.f_zeros_like(), Ok)?);
    }
    if let Some(stepper) = stepper {
        let trained = tensors.variables.iter_mut().filter(|(_, v)| v.requires_grad());
        let steps = trained
            .zip(found)
            .filter_map(|((name, variable), gradient)| Some(Step { name, variable, gradient: gradient? }));
        if flows {
            optim::step(stepper, steps.collect())?;
        }
    }
    Ok(of_inputs)
}

/// An input that gradients flow to, where its element type lets them.
fn leaf(device: &TchDevice, input: &Tensor) -> Result<Tensor, BoxError> {
    let is_float = device.describe(input)?.dtype.is_float();
    Ok(input.f_detach()?.f_set_requires_grad(is_float)?)
}
