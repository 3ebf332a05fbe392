//! A block made of an ONNX graph: ONNX Runtime at work on it.

use crate::device::{OrtDevice, OrtTensor};
use crate::session::Running;
use skep_runtime_core::{BoxError, DType, HostTensor, TensorOps};
use skep_toolkit::{BlockError, Build, Gradients, Init, Library, Source};
use std::{fmt, iter};

/// The arithmetic of a block: input tensors to output tensors.
pub trait Layers: Send + 'static {
    /// Maps the inputs to the outputs. Every tensor has the batch's rows as dim 0.
    ///
    /// # Errors
    ///
    /// Returns ONNX Runtime's errors; they fail the batch.
    fn forward(&self, inputs: &[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError>;
}

impl<F> Layers for F
where
    F: Fn(&[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError> + Send + 'static,
{
    fn forward(&self, inputs: &[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError> {
        self(inputs)
    }
}

impl Layers for Running {
    fn forward(&self, inputs: &[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError> {
        self.run(inputs)
    }
}

/// One block on an [`OrtDevice`], for inference.
///
/// Its parameters stand in its graph, so there is no state to be saved, and none to be restored.
pub type OrtBlock = skep_toolkit::Block<Ort>;

/// ONNX Runtime at work on one block.
pub struct Ort {
    layers: Box<dyn Layers>,
}

impl fmt::Debug for Ort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ort").finish_non_exhaustive()
    }
}

/// The object that layers are made with: the device, and where parameters come from.
#[derive(Debug)]
pub struct Parameters {
    device: OrtDevice,
    source: Source,
}

impl Parameters {
    /// Returns the f32 parameter of this name.
    ///
    /// # Errors
    ///
    /// Returns an error if the weights file lacks it, it has other dims, or it does not fit onto the device.
    pub fn get(&self, name: &str, dims: &[usize], init: Init) -> Result<HostTensor, BoxError> {
        let admit = |bytes| self.device.admit(bytes);
        self.source.value(name, Some(dims), DType::F32, init, admit)
    }

    /// Returns the device that the block is loaded onto.
    pub fn device(&self) -> &OrtDevice {
        &self.device
    }
}

impl Library for Ort {
    type Device = OrtDevice;
    type Builder<'a> = Parameters;
    type Layers = dyn Layers;
    type Error = BoxError;

    const BACKWARD: bool = false;

    fn load(device: &OrtDevice, source: Source, _: bool, build: &Build<Self>) -> Result<Self, BoxError> {
        Ok(Self { layers: build(&Parameters { device: device.clone(), source })? })
    }

    fn place(device: &OrtDevice, value: &HostTensor) -> Result<OrtTensor, BoxError> {
        Ok(device.from_host(value)?)
    }

    /// Never needed: there are no parameters that could change.
    fn rebuild(&mut self, _: &Build<Self>) -> Result<(), BoxError> {
        Ok(())
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &OrtTensor)> {
        iter::empty()
    }

    /// Never called: there are no parameters that could be replaced.
    fn set(&mut self, _: &str, _: OrtTensor) -> Result<(), BoxError> {
        Err(BlockError::InferenceOnly.into())
    }

    fn forward(&self, inputs: &[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError> {
        self.layers.forward(inputs)
    }

    fn backward(
        &mut self,
        _: &[OrtTensor],
        _: &[OrtTensor],
        _: bool,
    ) -> Result<Gradients<OrtTensor>, BoxError> {
        Err(BlockError::InferenceOnly.into())
    }

    fn sorted(device: &OrtDevice, error: BoxError) -> BoxError {
        match error.downcast::<ort::Error>() {
            Ok(error) => device.failure(*error).into(),
            Err(other) => other,
        }
    }
}
