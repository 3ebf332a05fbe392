//! The parameters of one block while it is loaded: made when layers first ask for them by name.

use crate::device::TchDevice;
use skep_runtime_core::{BoxError, DType, TensorOps};
use skep_toolkit::{BlockError, Draws, Init, Source, check_converted, check_dims};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
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

    /// Returns the same in another kind of number than f32. One of half precision is trained by a master copy in f32.
    ///
    /// # Errors
    ///
    /// Returns those of [`get`](Self::get).
    pub fn get_as(&self, dims: &[usize], name: &str, init: Init, kind: Kind) -> Result<Tensor, BoxError> {
        self.parameters.get(self.full(name), dims, init, kind)
    }

    /// Returns the f32 buffer of this name, on the device: saved with the parameters and never stepped. Layers may change it
    /// in place during a training step, as batch norm does with its running statistics.
    ///
    /// # Errors
    ///
    /// Returns those of [`get`](Self::get).
    pub fn buffer(&self, dims: &[usize], name: &str, init: Init) -> Result<Tensor, BoxError> {
        self.parameters.buffer(self.full(name), dims, init)
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

    /// What the block's layers draw in training steps.
    pub(crate) fn draws(&self) -> Arc<Draws> {
        Arc::clone(&self.parameters.draws)
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
    source: Arc<Source>,
    draws: Arc<Draws>,
    found: RefCell<Found>,
    /// The block is loaded: layers may ask for nothing new.
    sealed: bool,
}

impl Parameters {
    pub(super) fn new(device: &TchDevice, source: Arc<Source>, draws: Arc<Draws>) -> Self {
        Self { device: device.clone(), source, draws, found: RefCell::default(), sealed: false }
    }

    /// Those of a block that is loaded.
    pub(super) fn known(device: &TchDevice, source: Arc<Source>, draws: Arc<Draws>, found: &Found) -> Self {
        let shared = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
        };
        let found = Found { variables: shared(&found.variables), buffers: shared(&found.buffers) };
        Self { device: device.clone(), source, draws, found: found.into(), sealed: true }
    }

    pub(super) fn builder(&self) -> VarBuilder<'_> {
        VarBuilder { path: String::new(), parameters: self }
    }

    /// All that layers have asked for.
    pub(super) fn into_found(self) -> Found {
        self.found.into_inner()
    }

    fn get(&self, name: String, dims: &[usize], init: Init, kind: Kind) -> Result<Tensor, BoxError> {
        let known = self.found.borrow().variables.get(&name).map(Tensor::shallow_clone);
        // What cannot have a gradient is saved, and never trained.
        let is_trained = matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double);
        match known {
            Some(known) => self.checked(&name, dims, known),
            None if !is_trained => self.fixed(name, dims, init, kind),
            None => {
                let variable = self.first(&name, dims, init, kind)?.f_set_requires_grad(true)?;
                self.found.borrow_mut().variables.insert(name, variable.shallow_clone());
                Ok(variable)
            }
        }
    }

    fn buffer(&self, name: String, dims: &[usize], init: Init) -> Result<Tensor, BoxError> {
        self.fixed(name, dims, init, Kind::Float)
    }

    fn fixed(&self, name: String, dims: &[usize], init: Init, kind: Kind) -> Result<Tensor, BoxError> {
        let known = self.found.borrow().buffers.get(&name).map(Tensor::shallow_clone);
        if let Some(known) = known {
            return self.checked(&name, dims, known);
        }
        let buffer = self.first(&name, dims, init, kind)?;
        self.found.borrow_mut().buffers.insert(name, buffer.shallow_clone());
        Ok(buffer)
    }

    fn checked(&self, name: &str, dims: &[usize], known: Tensor) -> Result<Tensor, BoxError> {
        check_dims(name, dims, &self.device.describe(&known)?.dims)?;
        Ok(known)
    }

    /// The first value of a tensor that nobody has asked for before.
    fn first(&self, name: &str, dims: &[usize], init: Init, kind: Kind) -> Result<Tensor, BoxError> {
        if self.sealed {
            return Err(BlockError::OtherParameter { parameter: name.to_owned() }.into());
        }
        let admit = |bytes| self.device.admit(bytes);
        let value = self.source.value(name, Some(dims), dtype_of(kind)?, init, admit)?;
        let tensor = self.device.from_host(&value)?.f_to(self.device.place())?.f_to_kind(kind)?;
        check_converted(&self.device, name, &value, &tensor)?;
        Ok(tensor)
    }
}

/// The element type that libtorch's has here.
fn dtype_of(kind: Kind) -> Result<DType, BoxError> {
    Ok(match kind {
        Kind::Bool => DType::Bool,
        Kind::Uint8 => DType::U8,
        Kind::Int8 => DType::I8,
        Kind::Int16 => DType::I16,
        Kind::Int => DType::I32,
        Kind::Int64 => DType::I64,
        Kind::Half => DType::F16,
        Kind::BFloat16 => DType::BF16,
        Kind::Float => DType::F32,
        Kind::Double => DType::F64,
        other => {
            return Err(format!("a parameter cannot be {other:?}, expected a kind of real numbers").into());
        }
    })
}
