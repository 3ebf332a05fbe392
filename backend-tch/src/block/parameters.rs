//! The parameters of one block while it is loaded: made when layers first ask for them by name.

use crate::device::TchDevice;
use skep_runtime_core::{BoxError, DType, HostTensor, TensorOps};
use skep_toolkit::{Init, ParameterError, Weights, WeightsError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// What layers ask for their parameters, by name. Names of nested layers are joined with dots.
#[derive(Debug)]
pub struct VarBuilder<'a> {
    path: String,
    parameters: &'a Parameters,
}

impl VarBuilder<'_> {
    /// The parameters under `name`.
    pub fn pp(&self, name: &str) -> Self {
        Self { path: self.full(name), parameters: self.parameters }
    }

    fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The f32 parameter of this name, on the device. Asked for twice, it is the same one.
    ///
    /// # Errors
    ///
    /// When it has other dims, the weights file lacks it, or it does not fit onto the device.
    pub fn get(&self, dims: &[usize], name: &str, init: Init) -> Result<Tensor, BoxError> {
        self.parameters.get(self.full(name), dims, init)
    }

    /// Whether the weights file, or a layer before, has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        let name = self.full(name);
        let in_file = self.parameters.file.as_ref().is_some_and(|file| file.contains(&name));
        in_file || self.parameters.found.borrow().variables.contains_key(&name)
    }

    /// Where the block is loaded.
    pub fn device(&self) -> &TchDevice {
        &self.parameters.device
    }

    /// Takes over a tensor that something else has made: a parameter, or a buffer, which has no gradient.
    pub(crate) fn adopt(&self, name: &str, parameter: bool, tensor: Tensor) {
        let found = &mut *self.parameters.found.borrow_mut();
        let into = if parameter { &mut found.variables } else { &mut found.buffers };
        into.insert(self.full(name), tensor);
    }
}

/// The tensors of a block.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Leaves of graphs: what is trained.
    pub(super) variables: BTreeMap<String, Tensor>,
    /// What is saved and never trained.
    pub(super) buffers: BTreeMap<String, Tensor>,
}

impl Found {
    /// What is saved.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.variables.iter().chain(&self.buffers)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Tensor)> {
        self.variables.iter_mut().chain(&mut self.buffers)
    }
}

#[derive(Debug)]
pub(super) struct Parameters {
    device: TchDevice,
    seed: u64,
    file: Option<Weights>,
    found: RefCell<Found>,
}

impl Parameters {
    pub(super) fn new(device: &TchDevice, seed: u64, file: Option<&Path>) -> Result<Self, WeightsError> {
        let file = file.map(Weights::read).transpose()?;
        Ok(Self { device: device.clone(), seed, file, found: RefCell::default() })
    }

    pub(super) fn builder(&self) -> VarBuilder<'_> {
        VarBuilder { path: String::new(), parameters: self }
    }

    /// All that layers have asked for.
    pub(super) fn into_found(self) -> Found {
        self.found.into_inner()
    }

    fn get(&self, name: String, dims: &[usize], init: Init) -> Result<Tensor, BoxError> {
        if let Some(known) = self.found.borrow().variables.get(&name) {
            check_dims(&name, dims, &self.device.describe(known)?.dims)?;
            return Ok(known.shallow_clone());
        }
        let value = self.first_value(&name, dims, init)?;
        let placed = self.device.from_host(&value)?.f_to(self.device.place())?;
        let variable = placed.f_to_kind(Kind::Float)?.f_set_requires_grad(true)?;
        self.found.borrow_mut().variables.insert(name, variable.shallow_clone());
        Ok(variable)
    }

    fn first_value(&self, name: &str, dims: &[usize], init: Init) -> Result<HostTensor, BoxError> {
        let Some(file) = &self.file else {
            self.device.admit(DType::F32, dims)?;
            let values = init.values(self.seed, name, dims.iter().product());
            return Ok(HostTensor::from_f32(dims, &values)?);
        };
        let value = file.get(name)?;
        check_dims(name, dims, value.dims())?;
        Ok(value.clone())
    }
}

fn check_dims(name: &str, expected: &[usize], got: &[usize]) -> Result<(), ParameterError> {
    if expected == got {
        return Ok(());
    }
    Err(ParameterError::WrongDims { name: name.to_owned(), expected: expected.to_vec(), got: got.to_vec() })
}
