//! The state of a block, out to plain bytes and back.

use crate::optim::stepper::Stepper;
use skep_runtime_core::{BlockState, BoxError, DType, Device, HostTensor};
use std::collections::BTreeMap;

const STEP: &str = "step";

/// The reason why a state is not taken.
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
        /// Its value.
        got: String,
    },
}

/// A copy of parameters, and of what an optimizer remembers.
///
/// # Errors
///
/// When a tensor cannot be read from the device.
pub(super) fn save<'a, D: Device>(
    device: &D,
    parameters: impl IntoIterator<Item = (&'a String, &'a D::Tensor)>,
    stepper: Option<&Stepper<D::Tensor>>,
) -> Result<BlockState, BoxError> {
    let mut state = BlockState::default();
    for (name, tensor) in parameters {
        state.parameters.insert(name.clone(), device.to_host(tensor)?);
    }
    if let Some(stepper) = stepper {
        for (name, tensor) in stepper.memory() {
            state.optimizer.insert(name, device.to_host(tensor)?);
        }
        state.scalars.insert(STEP.to_owned(), stepper.steps().to_string());
    }
    Ok(state)
}

/// What was read of a state: all of it fits, and nothing has been replaced yet.
#[derive(Debug)]
pub(super) struct Saved<T> {
    /// Parameters by name.
    pub(super) parameters: BTreeMap<String, T>,
    /// Names of what the block has and the state has not.
    missing: Vec<String>,
    memory: BTreeMap<String, T>,
    steps: Option<u64>,
}

impl<T> Saved<T> {
    /// Replaces what the optimizer remembers.
    pub(super) fn resume(self, stepper: Option<&mut Stepper<T>>) -> Vec<String> {
        if let Some(stepper) = stepper {
            stepper.resume(self.memory, self.steps);
        }
        self.missing
    }
}

/// Reads a state for a block that has these parameters. `place` puts a tensor onto the device.
///
/// # Errors
///
/// When a part does not fit or cannot be placed.
pub(super) fn read<'a, D: Device>(
    device: &D,
    parameters: impl IntoIterator<Item = (&'a String, &'a D::Tensor)>,
    stepper: Option<&Stepper<D::Tensor>>,
    state: &BlockState,
    place: impl Fn(&HostTensor) -> Result<D::Tensor, BoxError>,
) -> Result<Saved<D::Tensor>, BoxError> {
    let placed = |name: &str, saved: &HostTensor, own: &D::Tensor| {
        check(device, name, saved, own)?;
        place(saved)
    };
    let (mut taken, mut memory, mut missing) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, own) in parameters {
        match state.parameters.get(name) {
            Some(saved) => drop(taken.insert(name.clone(), placed(name, saved, own)?)),
            None => missing.push(name.clone()),
        }
    }
    let mut steps = None;
    if let Some(stepper) = stepper {
        for (name, own) in stepper.memory() {
            match state.optimizer.get(&name) {
                Some(saved) => {
                    let saved = placed(&name, saved, own)?;
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
    Ok(Saved { parameters: taken, missing, memory, steps })
}

/// Whether a saved tensor is like the one that it is to replace.
fn check<D: Device>(device: &D, name: &str, saved: &HostTensor, own: &D::Tensor) -> Result<(), BoxError> {
    let info = device.describe(own)?;
    if (saved.dtype(), saved.dims()) == (info.dtype, &*info.dims) {
        return Ok(());
    }
    Err(Box::new(RestoreError::Mismatch {
        name: name.to_owned(),
        expected_dtype: info.dtype,
        expected: info.dims.to_vec(),
        got_dtype: saved.dtype(),
        got: saved.dims().to_vec(),
    }))
}
