//! A block made of layers: what the runtime calls, around the arithmetic of a tensor library.

pub(crate) mod error;
pub(crate) mod library;
pub(crate) mod state;

use crate::blocks::spec::{Signature, Spec};
use crate::config::ConfigError;
use crate::optim::optimizer::Optimizer;
use crate::optim::stepper::Stepper;
use crate::parameters::source::{Read, Source};
use crate::parameters::weights::Weights;
use error::BlockError;
use library::{Build, Computes, Library, Tensor};
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, Device, DeviceError, HostTensor, Schema, TensorOps,
};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// One block on a device of a tensor library.
///
/// The layers ask for their parameters by name when the block is loaded onto the device. A parameter comes
/// from the weights file where one is given; otherwise it is drawn as the layer asks, from numbers that
/// depend on the seed and the parameter's name only.
pub struct Block<L: Library> {
    info: BlockInfo,
    build: Box<Build<L>>,
    seed: u64,
    weights: Option<PathBuf>,
    read: Option<Arc<Read>>,
    optimizer: Option<Optimizer>,
    loaded: Option<Loaded<L>>,
}

impl<L: Library> fmt::Debug for Block<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("info", &self.info)
            .field("is_loaded", &self.loaded.is_some())
            .finish_non_exhaustive()
    }
}

struct Loaded<L: Library> {
    device: L::Device,
    library: L,
    /// None where the block is not trained.
    stepper: Option<Stepper<Tensor<L>>>,
}

impl<L: Library> Block<L> {
    /// Makes a block of the layers that `build` makes. `build` is called when the block is loaded, once or
    /// more, and must ask for the same parameters each time.
    pub fn new<B>(name: impl Into<String>, inputs: Schema, build: B) -> Self
    where
        B: Fn(&L::Builder<'_>) -> Result<Box<L::Layers>, L::Error> + Send + 'static,
    {
        Self {
            info: BlockInfo { name: name.into(), inputs, outputs: None, backward: L::BACKWARD },
            build: Box::new(build),
            seed: 0,
            weights: None,
            read: None,
            optimizer: None,
            loaded: None,
        }
    }

    /// Makes a block of a kind that has a name ([`blocks`](crate::blocks)).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] that names the first setting that cannot be used.
    pub fn of<S: Spec>(name: impl Into<String>, spec: S) -> Result<Self, ConfigError>
    where
        L: Computes<S>,
    {
        let Signature { inputs, outputs, weights, backward } = spec.signature()?;
        let mut block = Self::new(name, inputs, move |builder| L::layers(&spec, builder));
        block.info.outputs = outputs;
        block.info.backward = backward && L::BACKWARD;
        block.weights = weights;
        Ok(block)
    }

    /// Says what comes out, so that the runtime need not find out by a dummy run.
    pub fn with_outputs(mut self, outputs: Schema) -> Self {
        self.info.outputs = Some(outputs);
        self
    }

    /// Sets the seed that the first parameters are drawn from. 0 unless set.
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

    /// Takes all parameters from what `read` gives for their names, one after the other as the layers ask for
    /// them: for weights that are in another form than one safetensors file.
    pub fn with_parameters<F>(mut self, read: F) -> Self
    where
        F: Fn(&str) -> Result<HostTensor, BoxError> + Send + Sync + 'static,
    {
        self.read = Some(Arc::new(read));
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

    fn loaded(&self) -> Result<&Loaded<L>, BlockError> {
        self.loaded.as_ref().ok_or(BlockError::NotLoaded)
    }

    fn loaded_mut(&mut self) -> Result<&mut Loaded<L>, BlockError> {
        self.loaded.as_mut().ok_or(BlockError::NotLoaded)
    }
}

impl<L: Library> Loaded<L> {
    fn parameters(&self) -> impl Iterator<Item = (&String, &Tensor<L>)> {
        self.library.variables().chain(self.library.buffers())
    }
}

impl<L: Library> Backend<L::Device> for Block<L> {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, device: &L::Device) -> Result<(), BoxError> {
        let source = match (&self.read, &self.weights) {
            (Some(read), _) => Source::Read(Arc::clone(read)),
            (None, Some(file)) => Source::File(Weights::read(file)?),
            (None, None) => Source::Seed(self.seed),
        };
        let sorted = |error| L::sorted(device, error);
        let mut library = L::load(device, source, self.info.backward, &*self.build).map_err(sorted)?;
        let zeros = |like: &Tensor<L>| {
            let info = device.describe(like)?;
            let no_room = || DeviceError::OutOfMemory {
                device: device.name(),
                message: format!("zeros of dims {:?} do not fit into the host's memory", info.dims),
            };
            L::place(device, &HostTensor::zeros(info.dtype, &info.dims).ok_or_else(no_room)?)
        };
        let begin = |optimizer| Stepper::new(optimizer, library.variables(), zeros);
        let stepper = self.optimizer.map(begin).transpose().map_err(sorted)?;
        if stepper.is_some() {
            library.trained().map_err(sorted)?;
        }
        self.loaded = Some(Loaded { device: device.clone(), library, stepper });
        Ok(())
    }

    fn forward(&mut self, inputs: &[Tensor<L>]) -> Result<Vec<Tensor<L>>, BoxError> {
        let Loaded { device, library, .. } = self.loaded()?;
        library.forward(inputs).map_err(|error| L::sorted(device, error))
    }

    fn backward(
        &mut self,
        inputs: &[Tensor<L>],
        gradients: &[Tensor<L>],
    ) -> Result<Vec<Tensor<L>>, BoxError> {
        let allowed = self.info.backward;
        let Loaded { device, library, stepper } = self.loaded_mut()?;
        if !allowed {
            return Err(BlockError::InferenceOnly.into());
        }
        let back = library.backward(inputs, gradients, stepper.as_mut());
        back.map_err(|error| L::sorted(device, error))
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        let loaded = self.loaded()?;
        state::save(&loaded.device, loaded.parameters(), loaded.stepper.as_ref())
    }

    fn restore(&mut self, state: &BlockState) -> Result<Vec<String>, BoxError> {
        let loaded = self.loaded_mut()?;
        let place = |value: &HostTensor| L::place(&loaded.device, value);
        let read = state::read(&loaded.device, loaded.parameters(), loaded.stepper.as_ref(), state, place);
        let Loaded { device, library, stepper } = loaded;
        let mut saved = read.map_err(|error| L::sorted(device, error))?;
        let parameters = std::mem::take(&mut saved.parameters);
        let set = parameters.into_iter().try_for_each(|(name, value)| library.set(&name, value));
        // Also after a failure: then some have been replaced.
        let replaced = library.replaced();
        set.and(replaced).map_err(|error| L::sorted(device, error))?;
        Ok(saved.resume(stepper.as_mut()))
    }
}
