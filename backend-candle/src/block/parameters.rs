//! The parameters of one block: made when layers first ask for them by name, shared by the layers for inference and those
//! for training, and given again when layers are made anew.

use super::init::known_init;
use crate::device::{CandleDevice, known_dtype};
use candle_core::{DType, Device as Place, Error, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use skep_runtime_core::TensorOps;
use skep_runtime_core::sync::Mutex;
use skep_toolkit::{self as toolkit, BlockError, Source, check_converted, check_dims};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// What stands after the name of a buffer when it is asked for: candle's builder knows parameters only.
const BUFFER: &str = "\0buffer";

thread_local! {
    /// The buffer that was last asked for: candle's builder hands tensors on, and nothing else.
    static GIVEN: RefCell<Option<Buffer>> = const { RefCell::new(None) };
}

/// A tensor that is saved with the parameters and never stepped, and that layers may replace during a training step:
/// running statistics, say.
#[derive(Clone, Debug)]
pub struct Buffer(Arc<Mutex<Tensor>>);

impl Buffer {
    /// Returns the buffer of this name. Asked for twice, it is the same one.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be had, or the builder is not that of a block.
    pub fn get(vb: &VarBuilder<'_>, dims: impl Into<Shape>, name: &str, init: Init) -> Result<Self> {
        GIVEN.take();
        vb.get_with_hints(dims.into(), &format!("{name}{BUFFER}"), init)?;
        GIVEN.take().ok_or_else(|| Error::Msg(format!("buffer `{name}` needs the builder of a block")))
    }

    /// Returns the values as they are now.
    pub fn value(&self) -> Tensor {
        self.0.lock().clone()
    }

    /// Replaces the values.
    ///
    /// # Errors
    ///
    /// Returns an error if the new ones have other dims or another element type.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        let mut own = self.0.lock();
        if own.shape() != value.shape() || own.dtype() != value.dtype() {
            let (got, expected) = ((value.dtype(), value.dims()), (own.dtype(), own.dims()));
            return Err(Error::Msg(format!("buffer's new value is {got:?}, expected {expected:?}")));
        }
        *own = value.detach();
        Ok(())
    }
}

/// Which tensors layers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Plain ones: no graph is recorded.
    Constants,
    /// Variables, with the same values.
    Variables,
}

pub(super) struct Parameters {
    shared: Arc<Shared>,
}

struct Shared {
    device: CandleDevice,
    source: Source,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    variables: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Buffer>,
    /// The block is loaded: layers may ask for nothing new.
    sealed: bool,
}

impl Parameters {
    pub(super) fn new(device: &CandleDevice, source: Source) -> Self {
        let shared = Shared { device: device.clone(), source, found: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The object that layers ask for their parameters.
    pub(super) fn builder(&self, given: Given) -> VarBuilder<'static> {
        let tensors = Tensors { given, shared: self.shared.clone() };
        let place = self.shared.device.place().clone();
        VarBuilder::from_backend(Box::new(tensors), DType::F32, place)
    }

    /// From now on, layers may ask for nothing new.
    pub(super) fn seal(&self) {
        self.shared.found.lock().sealed = true;
    }

    /// All that can be trained of what layers have asked for.
    pub(super) fn variables(&self) -> BTreeMap<String, Var> {
        let found = self.shared.found.lock();
        let trainable = found.variables.iter().filter(|(_, variable)| variable.dtype().is_float());
        trainable.map(|(name, variable)| (name.clone(), variable.clone())).collect()
    }

    /// The rest.
    pub(super) fn buffers(&self) -> Vec<(String, Tensor)> {
        let found = self.shared.found.lock();
        let fixed = found.variables.iter().filter(|(_, variable)| !variable.dtype().is_float());
        let fixed = fixed.map(|(name, variable)| (name.clone(), variable.as_detached_tensor()));
        fixed.chain(found.buffers.iter().map(|(name, buffer)| (name.clone(), buffer.value()))).collect()
    }

    /// Replaces a parameter or buffer. Returns the new variable, if it can be trained.
    pub(super) fn set(&self, name: &str, value: &Tensor) -> Result<Option<Var>> {
        let mut found = self.shared.found.lock();
        if let Some(buffer) = found.buffers.get(name) {
            buffer.set(value)?;
            return Ok(None);
        }
        let variable = Var::from_tensor(value)?;
        found.variables.insert(name.to_owned(), variable.clone());
        Ok(Some(variable).filter(|variable| variable.dtype().is_float()))
    }
}

impl Shared {
    fn variable(&self, name: &str, dims: Option<&Shape>, init: Init, dtype: DType) -> Result<Var> {
        let mut found = self.found.lock();
        if let Some(known) = found.variables.get(name) {
            check_dims(name, dims.map_or(known.dims(), Shape::dims), known.dims()).map_err(wrapped)?;
            return Ok(known.clone());
        }
        let variable = Var::from_tensor(&self.first(&found, name, dims, init, dtype)?)?;
        found.variables.insert(name.to_owned(), variable.clone());
        Ok(variable)
    }

    fn buffer(&self, name: &str, dims: &Shape, init: Init, dtype: DType) -> Result<Buffer> {
        let mut found = self.found.lock();
        if let Some(known) = found.buffers.get(name) {
            check_dims(name, dims.dims(), known.value().dims()).map_err(wrapped)?;
            return Ok(known.clone());
        }
        let value = self.first(&found, name, Some(dims), init, dtype)?;
        let buffer = Buffer(Arc::new(Mutex::new(value)));
        found.buffers.insert(name.to_owned(), buffer.clone());
        Ok(buffer)
    }

    /// The first value of a tensor that nobody has asked for before.
    fn first(
        &self,
        found: &Found,
        name: &str,
        dims: Option<&Shape>,
        init: Init,
        dtype: DType,
    ) -> Result<Tensor> {
        if found.sealed {
            return Err(wrapped(BlockError::OtherParameter { parameter: name.to_owned() }));
        }
        let init = dims.map_or(toolkit::Init::Const(0.0), |dims| known_init(init, dims));
        let admit = |bytes| self.device.admit(bytes);
        let known = known_dtype(dtype).map_err(wrapped)?;
        let value = self.source.value(name, dims.map(Shape::dims), known, init, admit).map_err(wrapped)?;
        let tensor = self.device.from_host(&value).map_err(wrapped)?.to_device(self.device.place())?;
        let tensor = tensor.to_dtype(dtype)?;
        check_converted(&self.device, name, &value, &tensor).map_err(wrapped)?;
        Ok(tensor)
    }
}

fn wrapped(error: impl Display + Send + Sync + 'static) -> Error {
    Error::Wrapped(Box::new(error))
}

struct Tensors {
    given: Given,
    shared: Arc<Shared>,
}

impl Tensors {
    fn give(&self, var: &Var) -> Tensor {
        match self.given {
            Given::Constants => var.as_detached_tensor(),
            Given::Variables => var.as_tensor().clone(),
        }
    }
}

impl SimpleBackend for Tensors {
    fn get(&self, dims: Shape, name: &str, init: Init, dtype: DType, _: &Place) -> Result<Tensor> {
        if let Some(name) = name.strip_suffix(BUFFER) {
            let buffer = self.shared.buffer(name, &dims, init, dtype)?;
            let value = buffer.value();
            GIVEN.set(Some(buffer));
            return Ok(value);
        }
        Ok(self.give(&self.shared.variable(name, Some(&dims), init, dtype)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Place) -> Result<Tensor> {
        Ok(self.give(&self.shared.variable(name, None, Init::default(), dtype)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.shared.source.contains(name) || self.shared.found.lock().variables.contains_key(name)
    }
}
