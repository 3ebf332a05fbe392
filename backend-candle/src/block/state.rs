//! The state of a block, out to plain bytes and back.

use crate::device::CandleDevice;
use crate::optim::Optimizer;
use candle_core::{Tensor, Var};
use skep_runtime_core::{BlockState, BoxError, DType, Device, DeviceError, HostTensor};
use std::collections::BTreeMap;

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
    device: &CandleDevice,
    variables: &BTreeMap<String, Var>,
    optimizer: Option<&Optimizer>,
) -> Result<BlockState, BoxError> {
    let mut state = BlockState::default();
    for (name, var) in variables {
        state.parameters.insert(name.clone(), device.to_host(var)?);
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
    device: &CandleDevice,
    variables: &BTreeMap<String, Var>,
    optimizer: Option<&mut Optimizer>,
    state: &BlockState,
) -> Result<Vec<String>, BoxError> {
    let mut missing = Vec::new();
    let mut parameters = Vec::new();
    for (name, var) in variables {
        match state.parameters.get(name) {
            Some(saved) => parameters.push((var, read(device, name, saved, var)?)),
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

    for (var, saved) in parameters {
        var.set(&saved).map_err(|e| device.failure(e))?;
    }
    if let Some(optimizer) = optimizer {
        optimizer.resume(memory, steps);
    }
    Ok(missing)
}

/// A saved tensor on the device, if it is like the one that it is to replace.
fn read(device: &CandleDevice, name: &str, saved: &HostTensor, own: &Tensor) -> Result<Tensor, BoxError> {
    let info = device.describe(own)?;
    if (saved.dtype(), saved.dims()) != (info.dtype, own.dims()) {
        return Err(Box::new(RestoreError::Mismatch {
            name: name.to_owned(),
            expected_dtype: info.dtype,
            expected: own.dims().to_vec(),
            got_dtype: saved.dtype(),
            got: saved.dims().to_vec(),
        }));
    }
    let tensor = device.from_host(saved)?.to_device(device.place());
    Ok(tensor.map_err(|e| -> DeviceError { device.failure(e) })?)
}
