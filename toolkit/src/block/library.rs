//! The seam between a block and the tensor library that computes it.

use crate::blocks::spec::Spec;
use crate::optim::stepper::Stepper;
use crate::parameters::source::Source;
use skep_runtime_core::{BoxError, Device, HostTensor, TensorOps};
use std::iter;

/// A library's tensors.
pub type Tensor<L> = <<L as Library>::Device as TensorOps>::Tensor;

/// Makes the layers of a block, which ask the builder for their parameters.
pub type Build<L> =
    dyn Fn(&<L as Library>::Builder<'_>) -> Result<Box<<L as Library>::Layers>, <L as Library>::Error> + Send;

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

    /// Returns the parameters, which an optimizer may step, by name.
    fn variables(&self) -> impl Iterator<Item = (&String, &Tensor<Self>)>;

    /// Returns what is saved with the parameters and never stepped, by name.
    fn buffers(&self) -> impl Iterator<Item = (&String, &Tensor<Self>)> {
        iter::empty()
    }

    /// Replaces the values of a parameter or buffer. The new ones have its dims and element type.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy fails.
    fn set(&mut self, name: &str, value: Tensor<Self>) -> Result<(), BoxError>;

    /// Maps inputs to outputs, and records no graph.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers cannot compute.
    fn forward(&self, inputs: &[Tensor<Self>]) -> Result<Vec<Tensor<Self>>, BoxError>;

    /// Runs the layers again, now with a graph, checks the gradients of the outputs
    /// ([`check_gradients`](crate::check_gradients)), and goes back to those of the inputs: zeros if none flows. Ends
    /// with a step of the optimizer, if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if the layers cannot compute or the gradients do not fit.
    fn backward(
        &mut self,
        inputs: &[Tensor<Self>],
        gradients: &[Tensor<Self>],
        stepper: Option<&mut Stepper<Tensor<Self>>>,
    ) -> Result<Vec<Tensor<Self>>, BoxError>;

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
