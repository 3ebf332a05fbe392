//! A block made of libtorch layers: the arithmetic of both passes, and where the parameters are.

mod parameters;
mod pass;
mod shared;

use crate::device::{OneThread, TchDevice};
use crate::optim;
use crate::shim::{self, GradMode};
use parameters::{Found, Parameters};
use shared::SharedMemory;
use skep_runtime_core::{BoxError, DType, HostTensor, TensorOps};
use skep_toolkit::{Build, Draws, Gradients, Library, Pace, Source, Stepped, check_gradients};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tch::{TchError, Tensor};

pub use parameters::VarBuilder;
pub use pass::{Layers, by_mode};

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
/// .with_optimizer(Optimizer::sgd(Sgd::default().learning_rate(0.1)))?;
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

/// libtorch at work on one block. Parameters are changed in place, because `TorchScript` modules hold them too; so no
/// answer may share memory with one.
pub struct Tch {
    device: TchDevice,
    source: Arc<Source>,
    draws: Arc<Draws>,
    tensors: Found,
    memory: SharedMemory,
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
        let _one = OneThread::here();
        let _grad = GradMode::set(true);
        let (source, draws) = (Arc::new(source), Arc::new(Draws::default()));
        let parameters = Parameters::new(device, Arc::clone(&source), Arc::clone(&draws));
        let layers = build(&parameters.builder())?;
        layers.prepare(true)?;
        let tensors = parameters.into_found();
        let memory = SharedMemory::of(&tensors)?;
        Ok(Self { device: device.clone(), source, draws, tensors, memory, layers, trained: false })
    }

    fn trained(&mut self) -> Result<(), BoxError> {
        self.trained = true;
        Ok(self.layers.prepare(false)?)
    }

    fn replaced(&mut self) -> Result<(), BoxError> {
        let _one = OneThread::here();
        Ok(self.layers.prepare(!self.trained)?)
    }

    fn place(device: &TchDevice, value: &HostTensor) -> Result<Tensor, BoxError> {
        Ok(device.from_host(value)?.f_to(device.place())?)
    }

    fn rebuild(&mut self, build: &Build<Self>) -> Result<(), BoxError> {
        let _one = OneThread::here();
        if !self.layers.read_through() {
            let _grad = GradMode::set(true);
            let (source, draws) = (Arc::clone(&self.source), Arc::clone(&self.draws));
            let parameters = Parameters::known(&self.device, source, draws, &self.tensors);
            self.layers = build(&parameters.builder())?;
            self.layers.prepare(!self.trained)?;
        }
        Ok(())
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.variables.iter()
    }

    fn same_as(&self, name: &str) -> Option<&str> {
        self.memory.first_name(name)
    }

    fn buffers(&self) -> Result<Vec<(String, Tensor)>, BoxError> {
        let _one = OneThread::here();
        let copy = |(name, tensor): (&String, &Tensor)| Ok((name.clone(), shim::copy(tensor)?));
        self.tensors.buffers.iter().map(copy).collect()
    }

    fn set(&mut self, name: &str, value: Tensor) -> Result<(), BoxError> {
        let _one = OneThread::here();
        let _no_grad = GradMode::set(false);
        let Found { variables, buffers } = &mut self.tensors;
        if let Some(tensor) = variables.get_mut(name).or_else(|| buffers.get_mut(name)) {
            tensor.f_copy_(&value)?;
        }
        Ok(())
    }

    fn output_names(&self) -> Vec<String> {
        self.layers.output_names()
    }

    fn draw_from(&mut self, seed: u64) {
        self.draws.begin(seed);
    }

    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, BoxError> {
        // Not libtorch's inference mode: its tensors go to callers, and may come back in a training pass,
        // which would refuse them.
        let _no_grad = GradMode::set(false);
        self.memory.apart(self.layers.forward(inputs)?)
    }

    fn backward(
        &mut self,
        inputs: &[Tensor],
        gradients: &[Tensor],
        parameters: bool,
    ) -> Result<Gradients<Tensor>, BoxError> {
        let _grad = GradMode::set(true);
        let leaves = inputs.iter().map(|input| leaf(&self.device, input)).collect::<Result<Vec<_>, _>>()?;
        let outputs = self.layers.forward_training(&leaves)?;
        check_gradients(&self.device, &outputs, gradients)?;

        let pairs = outputs.iter().zip(gradients).filter(|(output, _)| output.requires_grad());
        let (roots, gradients): (Vec<&Tensor>, Vec<&Tensor>) = pairs.unzip();
        // Without an optimizer, nobody asks for the parameters' gradients.
        let trained = self.memory.distinct(&self.tensors).filter(|_| parameters);
        let (names, variables): (Vec<&str>, Vec<&Tensor>) = trained.unzip();
        let wanted: Vec<&Tensor> =
            leaves.iter().filter(|leaf| leaf.requires_grad()).chain(variables).collect();
        let mut found = if roots.is_empty() {
            wanted.iter().map(|_| None).collect()
        } else {
            shim::gradients(&roots, &gradients, &wanted)?
        }
        .into_iter();

        let _no_grad = GradMode::set(false);
        let mut of_inputs = Vec::with_capacity(leaves.len());
        for leaf in &leaves {
            let gradient = if leaf.requires_grad() { found.next().flatten() } else { None };
            of_inputs.push(gradient.map_or_else(|| leaf.f_zeros_like(), Ok)?);
        }
        // A parameter that the block holds as several tensors has the sum of their gradients.
        let mut of_parameters: BTreeMap<String, Tensor> = BTreeMap::new();
        for (name, gradient) in names.into_iter().zip(found) {
            let Some(gradient) = gradient else { continue };
            let sum = match of_parameters.remove(name) {
                Some(other) => other.f_add(&gradient)?,
                None => gradient,
            };
            of_parameters.insert(name.to_owned(), sum);
        }
        let outputs = outputs.iter().map(Tensor::f_detach).collect::<Result<_, _>>()?;
        let (outputs, of_inputs) = (self.memory.apart(outputs)?, self.memory.apart(of_inputs)?);
        Ok(Gradients::new(outputs, of_inputs, of_parameters))
    }

    fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor, BoxError> {
        let _no_grad = GradMode::set(false);
        optim::cast(tensor, dtype)
    }

    fn norm(tensors: &[&Tensor]) -> Result<f64, BoxError> {
        let _no_grad = GradMode::set(false);
        Ok(optim::norm(tensors)?)
    }

    fn all_finite(tensors: &[&Tensor]) -> Result<bool, BoxError> {
        let _no_grad = GradMode::set(false);
        Ok(optim::all_finite(tensors)?)
    }

    fn stepped(
        pace: &Pace,
        value: &Tensor,
        gradient: &Tensor,
        memory: &[Tensor],
    ) -> Result<Stepped<Tensor>, BoxError> {
        let _no_grad = GradMode::set(false);
        Ok(optim::stepped(pace, value, gradient, memory)?)
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
