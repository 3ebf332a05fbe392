//! A block made of candle layers: the arithmetic of both passes, and where the parameters are.

mod changes;
mod init;
mod parameters;

use crate::device::CandleDevice;
use crate::optim;
use candle_core::{Error, Tensor, Var};
use candle_nn::VarBuilder;
use parameters::{Given, Parameters};
use skep_runtime_core::{BoxError, HostTensor, TensorOps};
use skep_toolkit::{BlockError, Build, Library, Source, Stepper, check_gradients};
use std::collections::BTreeMap;
use std::fmt;

pub(crate) use changes::Changes;

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
    /// Returns candle's errors; they fail the batch.
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

/// One block on a [`CandleDevice`].
///
/// ```
/// use candle_nn::Module;
/// use skep_backend_candle::prelude::*;
/// use skep_backend_candle::runtime::DType;
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
pub type CandleBlock = skep_toolkit::Block<Candle>;

/// candle at work on one block.
pub struct Candle {
    device: CandleDevice,
    variables: BTreeMap<String, Var>,
    changes: Changes,
    inference: Box<dyn Layers>,
    /// None where the block is never called backward.
    training: Option<Box<dyn Layers>>,
}

impl fmt::Debug for Candle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candle").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Library for Candle {
    type Device = CandleDevice;
    type Builder<'a> = VarBuilder<'a>;
    type Layers = dyn Layers;
    type Error = Error;

    fn load(
        device: &CandleDevice,
        source: Source,
        backward: bool,
        build: &Build<Self>,
    ) -> Result<Self, BoxError> {
        let parameters = Parameters::new(device, source);
        let changes = Changes::default();
        let inference = changes.while_making(|| build(&parameters.builder(Given::Constants)))?;
        let training = backward.then(|| build(&parameters.builder(Given::Variables))).transpose()?;
        let variables = parameters.into_variables();
        Ok(Self { device: device.clone(), variables, changes, inference, training })
    }

    fn trained(&mut self) -> Result<(), BoxError> {
        self.changes.trained();
        Ok(())
    }

    fn place(device: &CandleDevice, value: &HostTensor) -> Result<Tensor, BoxError> {
        Ok(device.from_host(value)?.to_device(device.place())?)
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.variables.iter().map(|(name, variable)| (name, variable.as_tensor()))
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<(), BoxError> {
        if let Some(variable) = self.variables.get(name) {
            // Counted also if it fails: then part of it may be there.
            self.changes.replaced();
            variable.set(&value)?;
        }
        Ok(())
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        Ok(self.inference.forward(inputs)?.iter().map(Tensor::detach).collect())
    }

    fn backward(
        &mut self,
        inputs: &[Tensor],
        gradients: &[Tensor],
        stepper: Option<&mut Stepper<Tensor>>,
    ) -> Result<Vec<Tensor>, BoxError> {
        let layers = self.training.as_ref().ok_or(BlockError::InferenceOnly)?;
        let leaves = inputs.iter().map(leaf).collect::<candle_core::Result<Vec<_>>>()?;
        let outputs = layers.forward(&leaves)?;
        check_gradients(&self.device, &outputs, gradients)?;

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
            optim::step(stepper, &self.variables, found)?;
        }
        Ok(of_inputs)
    }

    fn sorted(device: &CandleDevice, error: BoxError) -> BoxError {
        match error.downcast::<Error>() {
            Ok(error) => device.failure(*error).into(),
            Err(other) => other,
        }
    }
}

/// An input that gradients flow to, where its element type lets them.
fn leaf(input: &Tensor) -> candle_core::Result<Tensor> {
    if input.dtype().is_float() { Ok(Var::from_tensor(input)?.into_inner()) } else { Ok(input.clone()) }
}
