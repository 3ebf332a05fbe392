//! A block made of candle layers: what the runtime calls, around the arithmetic that an application writes.

mod init;
mod parameters;

use crate::device::CandleDevice;
use crate::optim;
use candle_core::{Tensor, Var};
use candle_nn::VarBuilder;
use parameters::{Given, Parameters};
use skep_runtime_core::{Backend, BlockInfo, BlockState, BoxError, HostTensor, Schema, TensorOps};
use skep_toolkit::{BlockError, Optimizer, Stepper, check_gradients, state};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The arithmetic of a block: input tensors to output tensors.
///
/// It is called with other weights for inference than for training: for inference they are plain tensors, so
/// that no graph is recorded; for training they are variables. Both share their memory.
///
/// **Take care with candle's fused operations.** `candle_nn::LayerNorm`, `rms_norm` and `softmax_last_dim` have
/// no backward pass, and gradients end there without an error. [`layers`](crate::layers) has a layer norm
/// that can be trained; `candle_nn::ops::softmax` can be trained too.
pub trait Layers: Send + 'static {
    /// Maps the inputs to the outputs. Every tensor has the batch's rows as dim 0.
    ///
    /// # Errors
    ///
    /// candle's errors; they fail the batch.
    fn forward(&self, inputs: &[Tensor]) -> candle_core::Result<Vec<Tensor>>;
}

impl<F> Layers for F
where
    F: Fn(&[Tensor]) -> candle_core::Result<Vec<Tensor>> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
        self(inputs)
    }
}

type Build = dyn Fn(&VarBuilder<'_>) -> candle_core::Result<Box<dyn Layers>> + Send;

/// One block on a [`CandleDevice`].
///
/// The layers ask for their parameters by name when the block is loaded onto the device. A parameter comes
/// from the weights file where one is given; otherwise it is drawn as the layer asks, from numbers that
/// depend on the seed and the parameter's name only.
///
/// ```
/// use candle_nn::Module;
/// use skep_backend_candle::prelude::*;
/// use skep_backend_candle::{candle_core, candle_nn};
///
/// let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[8])])?;
/// let mut block = CandleBlock::new("halve", inputs, |vb| {
///     let linear = candle_nn::linear(8, 4, vb.pp("linear"))?;
///     Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![linear.forward(&inputs[0])?])))
/// })
/// .with_optimizer(Optimizer::sgd(Sgd { learning_rate: 0.1, ..Sgd::default() }));
///
/// let device = CandleDevice::cpu();
/// block.load(&device)?;
/// let x = Tensor::ones((3, 8), candle_core::DType::F32, device.place())?;
/// let y = block.forward(&[x.clone()])?;
/// assert_eq!(y[0].dims(), [3, 4]);
/// let gradients = block.backward(&[x], &y)?;
/// assert_eq!(gradients[0].dims(), [3, 8]);
/// # Ok::<(), skep_backend_candle::runtime::BoxError>(())
/// ```
pub struct CandleBlock {
    info: BlockInfo,
    build: Box<Build>,
    seed: u64,
    weights: Option<PathBuf>,
    optimizer: Option<Optimizer>,
    loaded: Option<Loaded>,
}

struct Loaded {
    device: CandleDevice,
    variables: BTreeMap<String, Var>,
    inference: Box<dyn Layers>,
    /// None where the block is never called backward.
    training: Option<Box<dyn Layers>>,
    /// None where the block is not trained.
    stepper: Option<Stepper<Tensor>>,
}

impl Loaded {
    fn parameters(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.variables.iter().map(|(name, variable)| (name, variable.as_tensor()))
    }
}

impl CandleBlock {
    /// Makes a block of the layers that `build` makes. `build` is called when the block is loaded, once or
    /// more, and must ask for the same parameters each time.
    pub fn new<B>(name: impl Into<String>, inputs: Schema, build: B) -> Self
    where
        B: Fn(&VarBuilder<'_>) -> candle_core::Result<Box<dyn Layers>> + Send + 'static,
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

impl Backend<CandleDevice> for CandleBlock {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, device: &CandleDevice) -> Result<(), BoxError> {
        let parameters = match &self.weights {
            Some(file) => Parameters::of_file(device, file)?,
            None => Parameters::seeded(device, self.seed),
        };
        let build = |given| (self.build)(&parameters.builder(given)).map_err(|e| device.failure(e));
        let inference = build(Given::Constants)?;
        let training = self.info.backward.then(|| build(Given::Variables)).transpose()?;
        let variables = parameters.into_variables();
        let mut loaded = Loaded { device: device.clone(), variables, inference, training, stepper: None };
        let zeros = |parameter: &Tensor| parameter.detach().zeros_like();
        let begin = |optimizer| Stepper::new(optimizer, loaded.parameters(), zeros);
        loaded.stepper = self.optimizer.map(begin).transpose().map_err(|e| device.failure(e))?;
        self.loaded = Some(loaded);
        Ok(())
    }

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        let loaded = self.loaded()?;
        let outputs = loaded.inference.forward(inputs).map_err(|e| loaded.device.failure(e))?;
        Ok(outputs.iter().map(Tensor::detach).collect())
    }

    fn backward(&mut self, inputs: &[Tensor], gradients: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        step(loaded, inputs, gradients).map_err(|error| match error.downcast::<candle_core::Error>() {
            Ok(error) => loaded.device.failure(*error).into(),
            Err(other) => other,
        })
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        let loaded = self.loaded()?;
        state::save(&loaded.device, loaded.parameters(), loaded.stepper.as_ref())
    }

    fn restore(&mut self, state: &BlockState) -> Result<Vec<String>, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        let device = &loaded.device;
        let place = |saved: &HostTensor| {
            Ok(device.from_host(saved)?.to_device(device.place()).map_err(|e| device.failure(e))?)
        };
        let saved = state::read(device, loaded.parameters(), loaded.stepper.as_ref(), state, place)?;
        for (name, value) in &saved.parameters {
            if let Some(variable) = loaded.variables.get(name) {
                variable.set(value).map_err(|e| device.failure(e))?;
            }
        }
        Ok(saved.resume(loaded.stepper.as_mut()))
    }
}

/// Runs the layers again, now with a graph, and goes back through it.
fn step(loaded: &mut Loaded, inputs: &[Tensor], gradients: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
    let Loaded { device, variables, training, stepper, .. } = loaded;
    let layers = training.as_ref().ok_or(BlockError::InferenceOnly)?;
    let leaves = inputs.iter().map(leaf).collect::<candle_core::Result<Vec<_>>>()?;
    let outputs = layers.forward(&leaves)?;
    check_gradients(device, &outputs, gradients)?;

    // The gradient of sum(y * gy) by x is the product of gy with the Jacobian of y by x.
    let mut loss: Option<Tensor> = None;
    for (output, gradient) in outputs.iter().zip(gradients).filter(|(y, _)| y.dtype().is_float()) {
        let term = (output * gradient.detach())?.sum_all()?;
        loss = Some(match loss {
            Some(loss) => (loss + term)?,
            None => term,
        });
    }
    let found = loss.map(|loss| loss.backward()).transpose()?;

    let of_inputs = leaves
        .iter()
        .map(|leaf| match found.as_ref().and_then(|found| found.get(leaf)) {
            // candle computes gradients from variables, which leaves a graph behind them.
            Some(gradient) => Ok(gradient.detach()),
            None => leaf.detach().zeros_like(),
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    if let (Some(stepper), Some(found)) = (stepper, &found) {
        optim::step(stepper, variables, found)?;
    }
    Ok(of_inputs)
}

/// An input that gradients flow to, where its element type lets them.
fn leaf(input: &Tensor) -> candle_core::Result<Tensor> {
    if input.dtype().is_float() { Ok(Var::from_tensor(input)?.into_inner()) } else { Ok(input.clone()) }
}
