//! The parameters of one block while it is loaded: made when layers first ask for them by name, and shared by
//! the layers for inference and those for training.

use super::init::known_init;
use crate::device::CandleDevice;
use candle_core::{DType, Device as Place, Error, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use skep_runtime_core::TensorOps;
use skep_runtime_core::sync::Mutex;
use skep_toolkit::{self as toolkit, Source, check_dims};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::mem;
use std::sync::Arc;

/// Which tensors layers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Plain ones: no graph is recorded.
    Constants,
    /// Variables, on the same memory.
    Variables,
}

pub(super) struct Parameters {
    shared: Arc<Shared>,
}

struct Shared {
    device: CandleDevice,
    source: Source,
    variables: Mutex<BTreeMap<String, Var>>,
}

impl Parameters {
    pub(super) fn new(device: &CandleDevice, source: Source) -> Self {
        let shared = Shared { device: device.clone(), source, variables: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The object that layers ask for their parameters.
    pub(super) fn builder(&self, given: Given) -> VarBuilder<'static> {
        let tensors = Tensors { given, shared: self.shared.clone() };
        let place = self.shared.device.place().clone();
        VarBuilder::from_backend(Box::new(tensors), DType::F32, place)
    }

    /// All that layers have asked for.
    pub(super) fn into_variables(self) -> BTreeMap<String, Var> {
        mem::take(&mut *self.shared.variables.lock())
    }
}

impl Shared {
    fn variable(&self, name: &str, dims: Option<&Shape>, init: Init, dtype: DType) -> Result<Var> {
        let mut variables = self.variables.lock();
        if let Some(known) = variables.get(name) {
            check_dims(name, dims.map_or(known.dims(), Shape::dims), known.dims()).map_err(wrapped)?;
            return Ok(known.clone());
        }
        let init = dims.map_or(toolkit::Init::Const(0.0), |dims| known_init(init, dims));
        let admit = |bytes| self.device.admit(bytes);
        let value = self.source.value(name, dims.map(Shape::dims), init, admit).map_err(wrapped)?;
        let tensor = self.device.from_host(&value).map_err(wrapped)?.to_device(self.device.place())?;
        let variable = Var::from_tensor(&tensor.to_dtype(dtype)?)?;
        variables.insert(name.to_owned(), variable.clone());
        Ok(variable)
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
        Ok(self.give(&self.shared.variable(name, Some(&dims), init, dtype)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Place) -> Result<Tensor> {
        Ok(self.give(&self.shared.variable(name, None, Init::default(), dtype)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.shared.source.contains(name) || self.shared.variables.lock().contains_key(name)
    }
}
