//! A block made of libtorch layers: the arithmetic of both passes, and where the parameters are.

mod parameters;

use crate::device::TchDevice;
use crate::optim::{self, Step};
use crate::shim::{self, GradMode};
use parameters::{Found, Parameters};
use skep_runtime_core::{BoxError, HostTensor, TensorOps};
use skep_toolkit::{Build, Library, Source, Stepper, check_gradients};
use std::fmt;
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
    /// Returns libtorch's errors; they fail the batch.
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError>;

    /// Called before [`forward`](Self::forward): whether it is part of a training step. Layers that behave the
    /// same in both ignore it.
    ///
    /// # Errors
    ///
    /// Returns libtorch's errors; they fail the batch.
    fn training(&self, on: bool) -> Result<(), TchError> {
        let _ = on;
        Ok(())
    }

    /// Called when the block has been loaded, and each time that its parameters were replaced: true if they stay as
    /// they are until the next call, so that layers may keep them in a layout of their own; false if they are
    /// trained. Layers that keep nothing ignore it.
    ///
    /// # Errors
    ///
    /// Returns libtorch's errors; the block is then not loaded, or not restored.
    fn prepare(&self, steady: bool) -> Result<(), TchError> {
        let _ = steady;
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

/// One block on a [`TchDevice`].
///
/// ```
/// use skep_backend_tch::layers;
/// use skep_backend_tch::prelude::*;
/// use skep_backend_tch::runtime::DType;
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
pub type TchBlock = skep_toolkit::Block<Tch>;

/// libtorch at work on one block.
pub struct Tch {
    device: TchDevice,
    tensors: Found,
    layers: Box<dyn Layers>,
    trained: bool,
}

impl fmt::Debug for Tch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tch").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Library for Tch {
    type Device = TchDevice;
    type Builder<'a> = VarBuilder<'a>;
    type Layers = dyn Layers;
    type Error = BoxError;

    fn load(device: &TchDevice, source: Source, _: bool, build: &Build<Self>) -> Result<Self, BoxError> {
        let parameters = Parameters::new(device, source);
        let layers = build(&parameters.builder())?;
        layers.prepare(true)?;
        Ok(Self { device: device.clone(), tensors: parameters.into_found(), layers, trained: false })
    }

    fn trained(&mut self) -> Result<(), BoxError> {
        self.trained = true;
        Ok(self.layers.prepare(false)?)
    }

    fn replaced(&mut self) -> Result<(), BoxError> {
        Ok(self.layers.prepare(!self.trained)?)
    }

    fn place(device: &TchDevice, value: &HostTensor) -> Result<Tensor, BoxError> {
        Ok(device.from_host(value)?.f_to(device.place())?)
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.variables.iter()
    }

    fn buffers(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.buffers.iter()
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<(), BoxError> {
        let _no_grad = GradMode::set(false);
        let Found { variables, buffers } = &mut self.tensors;
        if let Some(tensor) = variables.get_mut(name).or_else(|| buffers.get_mut(name)) {
            tensor.f_copy_(&value)?;
        }
        Ok(())
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        // Not libtorch's inference mode: its tensors go to callers, and may come back in a training pass,
        // which would refuse them.
        let _no_grad = GradMode::set(false);
        self.layers.training(false)?;
        Ok(self.layers.forward(inputs)?)
    }

    fn backward(
        &mut self,
        inputs: &[Tensor],
        gradients: &[Tensor],
        stepper: Option<&mut Stepper<Tensor>>,
    ) -> Result<Vec<Tensor>, BoxError> {
        let _grad = GradMode::set(true);
        let leaves = inputs.iter().map(|input| leaf(&self.device, input)).collect::<Result<Vec<_>, _>>()?;
        self.layers.training(true)?;
        let outputs = self.layers.forward(&leaves)?;
        check_gradients(&self.device, &outputs, gradients)?;

        let pairs = outputs.iter().zip(gradients).filter(|(output, _)| output.requires_grad());
        let (outputs, gradients): (Vec<&Tensor>, Vec<&Tensor>) = pairs.unzip();
        // Without an optimizer, nobody asks for the parameters' gradients.
        let variables = self.tensors.variables.values().filter(|v| stepper.is_some() && v.requires_grad());
        let wanted: Vec<&Tensor> =
            leaves.iter().filter(|leaf| leaf.requires_grad()).chain(variables).collect();
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
            let trained = self.tensors.variables.iter_mut().filter(|(_, v)| v.requires_grad());
            let steps = trained.zip(found).filter_map(|((name, variable), gradient)| {
                Some(Step { name, variable, gradient: gradient? })
            });
            if flows {
                optim::step(stepper, steps.collect())?;
            }
        }
        Ok(of_inputs)
    }

    fn sorted(device: &TchDevice, error: BoxError) -> BoxError {
        match error.downcast::<TchError>() {
            Ok(error) => device.failure(*error).into(),
            Err(other) => other,
        }
    }
}

/// An input that gradients flow to, where its element type lets them.
fn leaf(device: &TchDevice, input: &Tensor) -> Result<Tensor, BoxError> {
    let is_float = device.describe(input)?.dtype.is_float();
    Ok(input.f_detach()?.f_set_requires_grad(is_float)?)
}
