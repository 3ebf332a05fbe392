//! A block made of candle layers: the arithmetic of both passes, and where the parameters are.

mod changes;
mod draws;
mod init;
mod parameters;
mod pass;

use crate::device::CandleDevice;
use crate::optim;
use candle_core::{Error, Tensor, Var};
use candle_nn::VarBuilder;
use parameters::{Given, Parameters};
use skep_runtime_core::{BoxError, DType, HostTensor, TensorOps};
use skep_toolkit::{BlockError, Build, Gradients, Library, Pace, Source, Stepped, check_gradients};
use std::collections::BTreeMap;
use std::fmt;

pub(crate) use changes::Changes;
pub(crate) use draws::Draws;
pub use parameters::Buffer;
pub use pass::{Layers, by_mode};

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
/// .with_optimizer(Optimizer::sgd(Sgd::default().learning_rate(0.1)))?;
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
///
/// Parameters are never changed in place: a step gives the layers new ones. So what layers derive of parameters when they
/// are made is never out of date, and an answer that shares a parameter's memory stays as it is.
pub struct Candle {
    device: CandleDevice,
    parameters: Parameters,
    /// Those that can be trained.
    variables: BTreeMap<String, Var>,
    changes: Changes,
    draws: Draws,
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
        let (changes, draws) = (Changes::default(), Draws::default());
        let make = |given| draws.while_making(|| build(&parameters.builder(given)));
        let inference = changes.while_making(|| make(Given::Constants))?;
        let training = backward.then(|| make(Given::Variables)).transpose()?;
        parameters.seal();
        let variables = parameters.variables();
        Ok(Self { device: device.clone(), parameters, variables, changes, draws, inference, training })
    }

    fn trained(&mut self) -> Result<(), BoxError> {
        self.changes.trained();
        Ok(())
    }

    fn place(device: &CandleDevice, value: &HostTensor) -> Result<Tensor, BoxError> {
        Ok(device.from_host(value)?.to_device(device.place())?)
    }

    fn rebuild(&mut self, build: &Build<Self>) -> Result<(), BoxError> {
        let make = |given| self.draws.while_making(|| build(&self.parameters.builder(given)));
        self.inference = self.changes.while_making(|| make(Given::Constants))?;
        if self.training.is_some() {
            self.training = Some(make(Given::Variables)?);
        }
        Ok(())
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.variables.iter().map(|(name, variable)| (name, variable.as_tensor()))
    }

    fn buffers(&self) -> Result<Vec<(String, Tensor)>, BoxError> {
        Ok(self.parameters.buffers())
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<(), BoxError> {
        // Counted also if it fails: then part of it may be there.
        self.changes.replaced();
        if let Some(variable) = self.parameters.set(name, &value)? {
            self.variables.insert(name.to_owned(), variable);
        }
        Ok(())
    }

    fn draw_from(&mut self, seed: u64) {
        self.draws.begin(seed);
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        Ok(self.inference.forward(inputs)?.iter().map(Tensor::detach).collect())
    }

    fn backward(
        &mut self,
        inputs: &[Tensor],
        gradients: &[Tensor],
        parameters: bool,
    ) -> Result<Gradients<Tensor>, BoxError> {
        let layers = self.training.as_ref().ok_or(BlockError::InferenceOnly)?;
        let leaves = inputs.iter().map(leaf).collect::<candle_core::Result<Vec<_>>>()?;
        let outputs = layers.forward_training(&leaves)?;
        check_gradients(&self.device, &outputs, gradients)?;

        // The gradient of sum(y * gy) by x is the product of gy with the Jacobian of y by x. Summed up in the outputs' own
        // type: the sum itself is not used, so it does not matter what it comes to.
        let mut loss: Option<Tensor> = None;
        for (output, gradient) in outputs.iter().zip(gradients).filter(|(y, _)| y.dtype().is_float()) {
            let term = (output * gradient.detach())?.sum_all()?.to_dtype(candle_core::DType::F32)?;
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
        let mut of_parameters = BTreeMap::new();
        if let Some(found) = found.as_ref().filter(|_| parameters) {
            for (name, variable) in &self.variables {
                if let Some(gradient) = found.get(variable) {
                    of_parameters.insert(name.clone(), gradient.detach());
                }
            }
        }
        Ok(Gradients::new(outputs.iter().map(Tensor::detach).collect(), of_inputs, of_parameters))
    }

    fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor, BoxError> {
        optim::cast(tensor, dtype)
    }

    fn norm(tensors: &[&Tensor]) -> Result<f64, BoxError> {
        Ok(optim::norm(tensors)?)
    }

    fn all_finite(tensors: &[&Tensor]) -> Result<bool, BoxError> {
        Ok(optim::all_finite(tensors)?)
    }

    fn stepped(
        pace: &Pace,
        value: &Tensor,
        gradient: &Tensor,
        memory: &[Tensor],
    ) -> Result<Stepped<Tensor>, BoxError> {
        Ok(optim::stepped(pace, &value.detach(), gradient, memory)?)
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
