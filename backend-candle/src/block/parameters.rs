//! The parameters of one block while it is loaded: made when layers first ask for them by name, and shared by
//! the layers for inference and those for training.

use super::init::first_values;
use crate::device::CandleDevice;
use candle_core::{DType, Device as Place, Error, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use skep_runtime_core::TensorOps;
use skep_runtime_core::sync::Mutex;
use skep_toolkit::{ParameterError, Weights, WeightsError};
use std::collections::BTreeMap;
use std::mem;
use std::path::Path;
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
    device: CandleDevice,
    shared: Arc<Shared>,
}

struct Shared {
    device: CandleDevice,
    seed: u64,
    file: Option<Weights>,
    variables: Mutex<BTreeMap<String, Var>>,
}

impl Parameters {
    pub(super) fn seeded(device: &CandleDevice, seed: u64) -> Self {
        Self::new(device, seed, None)
    }

    pub(super) fn of_file(device: &CandleDevice, file: &Path) -> std::result::Result<Self, WeightsError> {
        Ok(Self::new(device, 0, Some(Weights::read(file)?)))
    }

    fn new(device: &CandleDevice, seed: u64, file: Option<Weights>) -> Self {
        let shared = Shared { device: device.clone(), seed, file, variables: Mutex::default() };
        Self { device: device.clone(), shared: Arc::new(shared) }
    }

    /// What layers ask for their parameters.
    pub(super) fn builder(&self, given: Given) -> VarBuilder<'static> {
        let source = Source { given, shared: self.shared.clone() };
        VarBuilder::from_backend(Box::new(source), DType::F32, self.device.place().clone())
    }

    /// All that layers have asked for.
    pub(super) fn into_variables(self) -> BTreeMap<String, Var> {
        mem::take(&mut *self.shared.variables.lock())
    }
}

impl Shared {
    fn first_value(&self, name: &str, dims: Option<&Shape>, init: Init, dtype: DType) -> Result<Var> {
        let place = self.device.place();
        let tensor = match (&self.file, dims) {
            (Some(file), _) => {
                let value = file.get(name).map_err(wrapped)?;
                self.device.from_host(value).map_err(wrapped)?.to_device(place)?
            }
            (None, Some(dims)) => {
                let bytes = dims.dims().iter().fold(size_of::<f32>(), |n, &d| n.saturating_mul(d));
                self.device.admit(bytes)?;
                let values = first_values(self.seed, name, dims, init);
                Tensor::from_vec(values, dims.clone(), place)?
            }
            (None, None) => return Err(wrapped(ParameterError::NoDims { name: name.to_owned() })),
        };
        Var::from_tensor(&tensor.to_dtype(dtype)?)
    }

    fn variable(&self, name: &str, dims: Option<&Shape>, init: Init, dtype: DType) -> Result<Var> {
        let mut variables = self.variables.lock();
        let var = match variables.get(name) {
            Some(var) => var.clone(),
            None => self.first_value(name, dims, init, dtype)?,
        };
        match dims.map(Shape::dims) {
            Some(dims) if dims != var.dims() => {
                let (expected, got) = (dims.to_vec(), var.dims().to_vec());
                Err(wrapped(ParameterError::WrongDims { name: name.to_owned(), expected, got }))
            }
            _ => {
                variables.insert(name.to_owned(), var.clone());
                Ok(var)
            }
        }
    }
}

fn wrapped(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Wrapped(Box::new(error))
}

struct Source {
    given: Given,
    shared: Arc<Shared>,
}

impl Source {
    fn give(&self, var: &Var) -> Tensor {
        match self.given {
            Given::Constants => var.as_detached_tensor(),
            Given::Variables => var.as_tensor().clone(),
        }
    }
}

impl SimpleBackend for Source {
    fn get(&self, dims: Shape, name: &str, init: Init, dtype: DType, _: &Place) -> Result<Tensor> {
        Ok(self.give(&self.shared.variable(name, Some(&dims), init, dtype)?))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Place) -> Result<Tensor> {
        Ok(self.give(&self.shared.variable(name, None, Init::default(), dtype)?))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let in_file = self.shared.file.as_ref().is_some_and(|file| file.contains(name));
        in_file || self.shared.variables.lock().contains_key(name)
    }
}
