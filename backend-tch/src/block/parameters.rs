//! The parameters of one block while it is loaded: made when layers first ask for them by name.

use crate::device::TchDevice;
use skep_runtime_core::{BoxError, TensorOps};
use skep_toolkit::{Init, Source, check_dims};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// The object that layers ask for their parameters, by name. Names of nested layers are joined with dots.
#[derive(Debug)]
pub struct VarBuilder<'a> {
    path: String,
    parameters: &'a Parameters,
}

impl VarBuilder<'_> {
    /// Returns the parameters under `name`.
    pub fn pp(&self, name: &str) -> Self {
        Self { path: self.full(name), parameters: self.parameters }
    }

    fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Returns the f32 parameter of this name, on the device. Asked for twice, it is the same one.
    ///
    /// # Errors
    ///
    /// Returns an error if it has other dims, the weights file lacks it, or it does not fit onto the device.
    pub fn get(&self, dims: &[usize], name: &str, init: Init) -> Result<Tensor, BoxError> {
        self.parameters.get(self.full(name), dims, init, Kind::Float)
    }

    /// Returns the same of another kind of number than f32.
    #[cfg(feature = "models")]
    pub(crate) fn get_as(
        &self,
        dims: &[usize],
        name: &str,
        init: Init,
        kind: Kind,
    ) -> Result<Tensor, BoxError> {
        self.parameters.get(self.full(name), dims, init, kind)
    }

    /// Returns true if the weights file, or a layer before, has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        let name = self.full(name);
        self.parameters.source.contains(&name) || self.parameters.found.borrow().variables.contains_key(&name)
    }

    /// Returns the device that the block is loaded onto.
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

#[derive(Debug)]
pub(super) struct Parameters {
    device: TchDevice,
    source: Source,
    found: RefCell<Found>,
}

impl Parameters {
    pub(super) fn new(device: &TchDevice, source: Source) -> Self {
        Self { device: device.clone(), source, found: RefCell::default() }
    }

    pub(super) fn builder(&self) -> VarBuilder<'_> {
        VarBuilder { path: String::new(), parameters: self }
    }

    /// All that layers have asked for.
    pub(super) fn into_found(self) -> Found {
        self.found.into_inner()
    }

    fn get(&self, name: String, dims: &[usize], init: Init, kind: Kind) -> Result<Tensor, BoxError> {
        if let Some(known) = self.found.borrow().variables.get(&name) {
            check_dims(&name, dims, &self.device.describe(known)?.dims)?;
            return Ok(known.shallow_clone());
        }
        let admit = |bytes| self.device.admit(bytes);
        let value = self.source.value(&name, Some(dims), init, admit)?;
        let placed = self.device.from_host(&value)?.f_to(self.device.place())?;
        let variable = placed.f_to_kind(kind)?.f_set_requires_grad(true)?;
        self.found.borrow_mut().variables.insert(name, variable.shallow_clone());
        Ok(variable)
    }
}
