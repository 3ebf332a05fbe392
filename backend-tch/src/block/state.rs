//! The state of a block, out to plain bytes and back.

use super::parameters::Found;
use crate::device::TchDevice;
use crate::optim::Optimizer;
use crate::shim::GradMode;
use skep_runtime_core::{BlockState, BoxError, DType, Device, HostTensor};
use std::collections::BTreeMap;
use tch::Tensor;

const STEP: &str = "step";

/// Why a state is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A part has another element type or other dims.
    #[error("`{name}` is {got_dtype} of dims {got:?}, expected {expected_dtype} of dims {expected:?}")]
    Mismatch {
        /// The part's name.
        name: String,
        /// The element type that the block has.
        expected_dtype: DType,
        /// The dims that the block has.
        expected: Vec<usize>,
        /// The element type in the state.
        got_dtype: DType,
        /// The dims in the state.
        got: Vec<usize>,
    },
    /// The number of steps is not a number.
    #[error("`{name}` is `{got}`, expected a whole number")]
    NotANumber {
        /// The scalar's name.
        name: String,
        /// What it holds.
        got: String,
    },
}

pub(super) fn save(
    device: &TchDevice,
    tensors: &Found,
    optimizer: Option<&Optimizer>,
) -> Result<BlockState, BoxError> {
    let mut state = BlockState::default();
    for (name, tensor) in tensors.variables.iter().chain(&tensors.buffers) {
        state.parameters.insert(name.clone(), device.to_host(tensor)?);
    }
    if let Some(optimizer) = optimizer {
        for (name, tensor) in optimizer.memory() {
            state.optimizer.insert(name, device.to_host(tensor)?);
        }
        state.scalars.insert(STEP.to_owned(), optimizer.steps().to_string());
    }
    Ok(state)
}

/// Reads and checks everything before it replaces anything.
pub(super) fn restore(
    device: &TchDevice,
    tensors: &mut Found,
    optimizer: Option<&mut Optimizer>,
    state: &BlockState,
) -> Result<Vec<String>, BoxError> {
    let mut missing = Vec::new();
    let mut parameters = Vec::new();
    for (name, tensor) in tensors.variables.iter_mut().chain(&mut tensors.buffers) {
        match state.parameters.get(name) {
            Some(saved) => {
                let saved = read(device, name, saved, tensor)?;
                parameters.push((tensor, saved));
            }
            None => missing.push(name.clone()),
        }
    }

    let mut memory = BTreeMap::new();
    let mut steps = None;
    if let Some(optimizer) = &optimizer {
        for (name, tensor) in optimizer.memory() {
            match state.optimizer.get(&name) {
                Some(saved) => {
                    let saved = read(device, &name, saved, tensor)?;
                    memory.insert(name, saved);
                }
                None => missing.push(name),
            }
        }
        match state.scalars.get(STEP) {
            Some(text) => {
                let not_a_number = || RestoreError::NotANumber { name: STEP.to_owned(), got: text.clone() };
                steps = Some(text.parse::<u64>().map_err(|_| not_a_number())?);
            }
            None => missing.push(STEP.to_owned()),
        }
    }

    let _no_grad = GradMode::set(false);
    for (tensor, saved) in parameters {
        tensor.f_copy_(&saved).map_err(|e| device.failure(e))?;
    }
    if let Some(optimizer) = optimizer {
        optimizer.resume(memory, steps);
    }
    Ok(missing)
}

/// A saved tensor on the device, if it is like the one that it is to replace.
fn read(device: &TchDevice, name: &str, saved: &HostTensor, own: &Tensor) -> Result<Tensor, BoxError> {
    let info = device.describe(own)?;
    if (saved.dtype(), saved.dims()) != (info.dtype, &*info.dims) {
        return Err(Box::new(RestoreError::Mismatch {
            name: name.to_owned(),
            expected_dtype: info.dtype,
            expected: info.dims.to_vec(),
            got_dtype: saved.dtype(),
            got: saved.dims().to_vec(),
        }));
    }
    Ok(device.from_host(saved)?.f_to(device.place()).map_err(|e| device.failure(e))?)
}
