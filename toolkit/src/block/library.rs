//! The seam between a block and the tensor library that computes it.

use super::error::BlockError;
use crate::blocks::spec::Spec;
use crate::optim::optimizer::Pace;
use crate::parameters::source::Source;
use skep_runtime_core::{BoxError, DType, Device, HostTensor, TensorOps};
use std::collections::BTreeMap;

/// A library's tensors.
pub type Tensor<L> = <<L as Library>::Device as TensorOps>::Tensor;

/// Makes the layers of a block, which ask the builder for their parameters.
pub type Build<L> =
    dyn Fn(&<L as Library>::Builder<'_>) -> Result<Box<<L as Library>::Layers>, <L as Library>::Error> + Send;

/// The results of a backward pass.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gradients<T> {
    /// The outputs of the forward pass, without their graph.
    pub outputs: Vec<T>,
    /// The gradient of each input: zeros if none flows.
    pub of_inputs: Vec<T>,
    /// The gradients of the parameters to which one flows, by name.
    pub of_parameters: BTreeMap<String, T>,
}

impl<T> Gradients<T> {
    /// Creates the results.
    pub fn new(outputs: Vec<T>, of_inputs: Vec<T>, of_parameters: BTreeMap<String, T>) -> Self {
        Self { outputs, of_inputs, of_parameters }
    }
}

/// A parameter after a step, and what is remembered of it then, in the order of
/// [`Rule::memory_names`](crate::Rule::memory_names).
pub type Stepped<T> = (T, Vec<T>);

/// A tensor library at work on one block: the layers and parameters on a device, and the arithmetic of both passes.
///
/// All that names no tensors is done by [`Block`](crate::Block), once for all libraries. Errors of the library are
/// passed on as they are: the block has them [sorted](Self::sorted).
pub trait Library: Sized + Send + 'static {
    /// Where blocks run.
    type Device: Device + Clone;
    /// The object that layers ask for their parameters, by name.
    type Builder<'a>;
    /// The arithmetic of a block, once it is made.
    type Layers: ?Sized;
    /// The error of layers that cannot be made.
    type Error;

    /// False if no block of the library can be called backward.
    const BACKWARD: bool = true;

    /// Makes the layers with their parameters on the device. A block that is not called `backward` needs none for
    /// training.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers or their parameters cannot be made.
    fn load(
        device: &Self::Device,
        source: Source,
        backward: bool,
        build: &Build<Self>,
    ) -> Result<Self, BoxError>;

    /// Called after [`load`](Self::load) if an optimizer will step the parameters, so that nothing is prepared of them
    /// that a step makes worthless.
    ///
    /// # Errors
    ///
    /// Returns an error if the library fails.
    fn trained(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called when [`set`](Self::set) has been called for all parameters that are replaced together.
    ///
    /// # Errors
    ///
    /// Returns an error if what was prepared of the parameters cannot be made again.
    fn replaced(&mut self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Places a tensor on the device, to be compared with parameters or to become one.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has no room or no such element type.
    fn place(device: &Self::Device, value: &HostTensor) -> Result<Tensor<Self>, BoxError>;

    /// Makes the layers anew of the parameters and buffers as they are now, which have changed since: what layers
    /// derived of them when they were made is out of date. Libraries whose layers read through need not.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers cannot be made, or ask for another parameter than they did at first.
    fn rebuild(&mut self, build: &Build<Self>) -> Result<(), BoxError>;

    /// Returns the parameters, which an optimizer may step, by name. One parameter may have several names
    /// ([`same_as`](Self::same_as)).
    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor<Self>)>;

    /// Returns the first name of a parameter that has several, if `name` is another one of them.
    fn same_as(&self, name: &str) -> Option<&str> {
        let _ = name;
        None
    }

    /// Returns copies of what is saved with the parameters and never stepped, by name: running statistics, say.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot be copied.
    fn buffers(&self) -> Result<Vec<(String, Tensor<Self>)>, BoxError> {
        Ok(Vec::new())
    }

    /// Replaces the values of a parameter or buffer. The new ones have its dims and element type. Tensors that the
    /// block has given out stay as they are.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy fails.
    fn set(&mut self, name: &str, value: Tensor<Self>) -> Result<(), BoxError>;

    /// Returns the names of the outputs, as far as the layers have some. Known after a forward pass.
    fn output_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Called before each training step, with the seed of all that its layers draw: dropout, say. A step that is taken
    /// again, after a restart too, has the same one.
    fn draw_from(&mut self, seed: u64) {
        let _ = seed;
    }

    /// Maps inputs to outputs, and records no graph.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers cannot compute.
    fn forward(&self, inputs: &[Tensor<Self>]) -> Result<Vec<Tensor<Self>>, BoxError>;

    /// Runs the layers again, now with a graph and as part of a training step, checks the gradients of the outputs
    /// ([`check_gradients`](crate::check_gradients)), and goes back to those of the inputs and, if `parameters` is set, of
    /// the parameters. None of the results shares memory with a parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers cannot compute or the gradients do not fit.
    fn backward(
        &mut self,
        inputs: &[Tensor<Self>],
        gradients: &[Tensor<Self>],
        parameters: bool,
    ) -> Result<Gradients<Tensor<Self>>, BoxError>;

    /// Returns the tensor in another element type of floating-point numbers, rounded to the nearest. This and the following
    /// are the arithmetic of a step, which a library without a backward pass need not have.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room.
    fn cast(tensor: &Tensor<Self>, dtype: DType) -> Result<Tensor<Self>, BoxError> {
        let _ = (tensor, dtype);
        Err(BlockError::InferenceOnly.into())
    }

    /// Returns the Euclidean norm over all tensors together, computed in f64.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be computed.
    fn norm(tensors: &[&Tensor<Self>]) -> Result<f64, BoxError> {
        let _ = tensors;
        Err(BlockError::InferenceOnly.into())
    }

    /// Returns true if all elements of all tensors are finite.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot be read.
    fn all_finite(tensors: &[&Tensor<Self>]) -> Result<bool, BoxError> {
        let _ = tensors;
        Err(BlockError::InferenceOnly.into())
    }

    /// Returns a parameter after a step, and what is remembered of it then. All tensors are f32, or all f64. Nothing is
    /// changed in place: the step may not be taken.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room.
    fn stepped(
        pace: &Pace,
        value: &Tensor<Self>,
        gradient: &Tensor<Self>,
        memory: &[Tensor<Self>],
    ) -> Result<Stepped<Tensor<Self>>, BoxError> {
        let _ = (pace, value, gradient, memory);
        Err(BlockError::InferenceOnly.into())
    }

    /// Makes a [`DeviceError`](skep_runtime_core::DeviceError) of the library's errors, and leaves others as they are.
    fn sorted(device: &Self::Device, error: BoxError) -> BoxError;
}

/// A library that has the arithmetic of a block by name.
pub trait Computes<S: Spec>: Library {
    /// Makes the layers.
    ///
    /// # Errors
    ///
    /// Returns an error if a parameter cannot be had.
    fn layers(spec: &S, builder: &Self::Builder<'_>) -> Result<Box<Self::Layers>, Self::Error>;
}
