//! A block made of layers: what the runtime calls, around the arithmetic of a tensor library.

mod blame;
mod differences;
pub(crate) mod error;
pub(crate) mod library;
pub(crate) mod names;
pub(crate) mod state;

use crate::blocks::spec::{Signature, Spec};
use crate::config::ConfigError;
use crate::optim::optimizer::Optimizer;
use crate::optim::stepper::{Stepper, wide};
use crate::parameters::source::{Read, Source};
use crate::parameters::weights::{SharedWeights, Weights};
use crate::random::seed_of_step;
use blame::Batch;
use differences::Differences;
use error::BlockError;
use library::{Build, Computes, Gradients, Library, Tensor};
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, DType, Device, DeviceError, Fit, HostTensor, Schema, TensorOps,
    Training, Unmatched,
};
use state::Parts;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Until the block is loaded.
    shared: Option<SharedWeights>,
    read: Option<Arc<Read>>,
    optimizer: Option<Optimizer>,
    allow_unused: bool,
    /// Until they have been compared with differences once.
    unchecked: bool,
    notes: BTreeMap<String, String>,
    /// Another number after each change of the state.
    revision: u64,
    loaded: Option<Loaded<L>>,
}

/// A number that no other state has: a block that takes the place of another one must not be taken for it.
fn next_revision() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
    /// What layers draw in a training step follows from it, and from the steps before.
    seed: u64,
    /// Backward passes that have succeeded.
    passes: u64,
    /// Parameters have changed since the layers were made.
    is_stale: bool,
}

impl<L: Library> Block<L> {
    /// Makes a block of the layers that `build` makes. `build` is called when the block is loaded, and again whenever
    /// parameters have changed, by a step or a restored state: layers may keep what they derive of their parameters (a
    /// product, a contiguous copy), and it never is out of date. It must ask for the same parameters each time.
    pub fn new<B>(name: impl Into<String>, inputs: Schema, build: B) -> Self
    where
        B: Fn(&L::Builder<'_>) -> Result<Box<L::Layers>, L::Error> + Send + 'static,
    {
        Self {
            info: BlockInfo::new(name, inputs).backward(L::BACKWARD),
            build: Box::new(build),
            seed: 0,
            weights: None,
            shared: None,
            read: None,
            optimizer: None,
            allow_unused: false,
            unchecked: false,
            notes: BTreeMap::new(),
            revision: next_revision(),
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

    /// Does the same with a file that other blocks take theirs from, too: each tensor is read once.
    pub fn with_shared_weights(mut self, weights: &SharedWeights) -> Self {
        self.weights = Some(weights.path().to_owned());
        self.shared = Some(weights.clone());
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

    /// Has each backward pass end with a step of this optimizer: tasks that meet in a batch make one step. Without an
    /// optimizer, gradients reach the inputs and the parameters stay as they are.
    ///
    /// Parameters of half precision are stepped by a master copy in f32, which is part of the state.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] that names the first setting that is out of range.
    pub fn with_optimizer(mut self, optimizer: Optimizer) -> Result<Self, ConfigError> {
        optimizer.check()?;
        self.optimizer = Some(optimizer);
        Ok(self)
    }

    /// Trains the parameters that get a gradient, although others never had one: they are named in a warning. By
    /// default, a step before which a parameter never had a gradient is an error that names it, because mostly an
    /// operation without a backward pass is in the way.
    pub fn allow_unused_parameters(mut self) -> Self {
        self.allow_unused = true;
        self
    }

    /// Has the first backward pass compare all gradients with differences: each parameter that is trained, and each input,
    /// is moved a little, and the outputs must change by what its gradient says. Else nothing is stepped, and the error
    /// ([`BlockError::OtherGradients`]) names what has another gradient. That finds operations without a backward pass also
    /// if a part of the gradient arrives by another way, as it does beside a residual connection, and a backward pass of
    /// one's own that is wrong.
    ///
    /// It takes at least eight passes for each of these tensors, once, and parameters and inputs of f32 or f64. Tensors
    /// with which outputs do not change smoothly are named in a warning. Layers that hold gradients back on purpose fail.
    pub fn with_checked_gradients(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// Has each backward pass give the outputs of its forward pass too, after the gradients of the inputs. A block that
    /// computes its own loss then needs one call for a step, not two.
    pub fn with_backward_outputs(mut self) -> Self {
        self.info.backward_gives_outputs = true;
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
}

impl<L: Library> Loaded<L> {
    /// Begins the training of the parameters.
    fn stepper(
        device: &L::Device,
        library: &L,
        optimizer: Optimizer,
        allow_unused: bool,
    ) -> Result<Stepper<Tensor<L>>, BoxError> {
        let mut stepper = Stepper::new(optimizer, allow_unused);
        if library.variables().next().is_none() {
            return Err(BlockError::NothingToTrain.into());
        }
        for (name, parameter) in library.variables().filter(|(name, _)| library.same_as(name).is_none()) {
            let info = device.describe(parameter)?;
            let dtype = wide(info.dtype)
                .ok_or_else(|| BlockError::NotTrainable { parameter: name.clone(), dtype: info.dtype })?;
            let no_room = || DeviceError::OutOfMemory {
                device: device.name(),
                message: format!("zeros of dims {:?} do not fit into the host's memory", info.dims),
            };
            let zeros = || L::place(device, &HostTensor::zeros(dtype, &info.dims).ok_or_else(no_room)?);
            let master = if dtype == info.dtype { None } else { Some(L::cast(parameter, dtype)?) };
            stepper.add::<BoxError>(name, info.dtype, zeros, master)?;
        }
        Ok(stepper)
    }

    /// Has layers see the parameters as they are now.
    fn refresh(&mut self, build: &Build<L>) -> Result<(), BoxError> {
        if self.is_stale {
            self.library.rebuild(build)?;
            self.is_stale = false;
        }
        Ok(())
    }

    /// Compares gradients with differences.
    fn check_gradients(
        &mut self,
        build: &Build<L>,
        schema: &Schema,
        inputs: &[Tensor<L>],
        gradients: &[Tensor<L>],
    ) -> Result<(), BoxError> {
        let Self { device, library, stepper, seed, .. } = self;
        let seed = seed_of_step(*seed, 0);
        Differences { device, build, schema, inputs, gradients, seed, parameters: stepper.is_some() }
            .check(library)
    }

    /// Both passes and the step. After an error, parameters and buffers are as they were. The rows whose fault it was are
    /// looked for only if tensors go `by_rows` along dim 0.
    fn backward(
        &mut self,
        inputs: &[Tensor<L>],
        gradients: &[Tensor<L>],
        by_rows: bool,
    ) -> Result<Gradients<Tensor<L>>, BoxError> {
        let Self { device, library, stepper, seed, passes, .. } = self;
        let buffers = library.buffers()?;
        let before = stepper.as_ref().map_or(*passes, |stepper| stepper.training().steps);
        library.draw_from(seed_of_step(*seed, before));
        let mut step = || {
            let mut back = library.backward(inputs, gradients, stepper.is_some())?;
            if let Some(stepper) = stepper {
                let of_parameters = std::mem::take(&mut back.of_parameters);
                stepper.step(library, of_parameters).map_err(|error| {
                    let batch = Batch { device, inputs, gradients };
                    if by_rows { batch.blame(library, stepper, error) } else { error }
                })?;
            }
            Ok(back)
        };
        let back = step();
        match &back {
            // Counted if it was taken only, so that a step that is tried again draws what it has drawn.
            Ok(_) => *passes += 1,
            Err(_) => {
                for (name, value) in buffers {
                    library.set(&name, value)?;
                }
            }
        }
        back
    }

    /// Replaces the state, and returns an application's notes.
    fn restore(
        &mut self,
        state: &BlockState,
        fit: Fit,
    ) -> Result<(BTreeMap<String, String>, Unmatched), BoxError> {
        let place = |value: &HostTensor| L::place(&self.device, value);
        let mut saved = self.with_parts(|parts| state::read(parts, state, fit, place))?;
        // Also after a failure: then some have been replaced.
        self.is_stale = true;
        let set = saved.tensors.into_iter().try_for_each(|(name, value)| self.library.set(&name, value));
        set.and(self.library.replaced())?;
        if let Some(stepper) = &mut self.stepper {
            let parameters: BTreeMap<&String, &Tensor<L>> = self.library.variables().collect();
            let master =
                |name: &str| parameters.get(&name.to_owned()).map(|own| L::cast(own, DType::F32)).transpose();
            stepper.resume::<BoxError>(&mut saved.progress, master)?;
        }
        self.seed = saved.seed.unwrap_or(self.seed);
        Ok((saved.notes, saved.unmatched))
    }

    /// Calls `work` with all that makes the state.
    fn with_parts<R>(
        &self,
        work: impl FnOnce(&Parts<'_, L::Device>) -> Result<R, BoxError>,
    ) -> Result<R, BoxError> {
        let buffers = self.library.buffers()?;
        let names = self.library.variables().map(|(name, _)| name.as_str());
        let variables = self.library.variables().map(|(name, tensor)| (name.as_str(), tensor));
        let tensors = variables.chain(buffers.iter().map(|(name, tensor)| (name.as_str(), tensor))).collect();
        work(&Parts {
            device: &self.device,
            tensors,
            same: names.filter_map(|name| Some((name, self.library.same_as(name)?))).collect(),
            stepper: self.stepper.as_ref(),
            seed: self.seed,
        })
    }
}

impl<L: Library> Backend<L::Device> for Block<L> {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, device: &L::Device) -> Result<(), BoxError> {
        // Kept in memory as long as this is here.
        let shared = self.shared.take();
        let source = match (&self.read, &shared, &self.weights) {
            (Some(read), ..) => Source::Read(Arc::clone(read)),
            (None, Some(shared), _) => Source::File(shared.weights()),
            (None, None, Some(file)) => Source::File(Weights::read(file)?),
            (None, None, None) => Source::Seed(self.seed),
        };
        let unused = || self.weights.clone().map(|file| BlockError::UnusedWeights { file });
        let asked = match &source {
            Source::File(weights) => Some(weights.asked()),
            _ => unused().map_or(Ok(None), Err)?,
        };
        let sorted = |error| L::sorted(device, error);
        let mut library = L::load(device, source, self.info.backward, &*self.build).map_err(sorted)?;
        if let Some(unused) = asked.filter(|asked| !asked.load(Ordering::Relaxed)).and_then(|_| unused()) {
            return Err(unused.into());
        }
        let begin = |optimizer| Loaded::stepper(device, &library, optimizer, self.allow_unused);
        let stepper = self.optimizer.clone().map(begin).transpose().map_err(sorted)?;
        // One that is never called backward is not trained, whatever it has.
        if stepper.is_some() && self.info.backward {
            library.trained().map_err(sorted)?;
        }
        let seed = self.seed;
        self.loaded =
            Some(Loaded { device: device.clone(), library, stepper, seed, passes: 0, is_stale: false });
        self.revision = next_revision();
        Ok(())
    }

    fn forward(&mut self, inputs: &[Tensor<L>]) -> Result<Vec<Tensor<L>>, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        let outputs = loaded.refresh(&*self.build).and_then(|()| loaded.library.forward(inputs));
        outputs.map_err(|error| L::sorted(&loaded.device, error))
    }

    fn backward(
        &mut self,
        inputs: &[Tensor<L>],
        gradients: &[Tensor<L>],
    ) -> Result<Vec<Tensor<L>>, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        if !self.info.backward {
            return Err(BlockError::InferenceOnly.into());
        }
        let check = Some((&*self.build, &self.info.inputs)).filter(|_| self.unchecked);
        let back = loaded.refresh(&*self.build).and_then(|()| match check {
            Some((build, schema)) => loaded.check_gradients(build, schema, inputs, gradients),
            None => Ok(()),
        });
        self.unchecked &= back.is_err();
        let is_ragged = self.info.inputs.offsets().is_some();
        let back = back.and_then(|()| loaded.backward(inputs, gradients, !is_ragged));
        // A step that was not taken may have used up the graph of what layers derived of their parameters.
        loaded.is_stale = loaded.stepper.is_some();
        self.revision = next_revision();
        let Gradients { outputs, mut of_inputs, .. } =
            back.map_err(|error| L::sorted(&loaded.device, error))?;
        if is_ragged {
            // What the library gives for the offsets is no gradient of anybody's.
            of_inputs.truncate(self.info.inputs.tensors().len());
        }
        if self.info.backward_gives_outputs {
            of_inputs.extend(outputs);
        }
        Ok(of_inputs)
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        self.loaded()?.with_parts(|parts| state::save(parts, &self.notes))
    }

    fn restore(&mut self, state: &BlockState, fit: Fit) -> Result<Unmatched, BoxError> {
        let loaded = self.loaded.as_mut().ok_or(BlockError::NotLoaded)?;
        let restored = loaded.restore(state, fit).map_err(|error| L::sorted(&loaded.device, error))?;
        let (notes, unmatched) = restored;
        self.notes = notes;
        self.revision = next_revision();
        Ok(unmatched)
    }

    fn output_names(&self) -> Vec<String> {
        self.loaded.as_ref().map_or_else(Vec::new, |loaded| loaded.library.output_names())
    }

    fn training(&self) -> Option<Training> {
        Some(self.loaded.as_ref()?.stepper.as_ref()?.training())
    }

    fn revision(&self) -> Option<u64> {
        Some(self.revision)
    }

    fn note(&mut self, name: &str, value: Option<String>) -> Result<(), BoxError> {
        match value {
            Some(value) => self.notes.insert(name.to_owned(), value),
            None => self.notes.remove(name),
        };
        self.revision = next_revision();
        Ok(())
    }
}
