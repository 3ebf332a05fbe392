//! The state of a block, out to plain bytes and back.

use crate::optim::stepper::{Progress, Stepper};
use skep_runtime_core::{BlockState, BoxError, DType, Device, Fit, HostTensor, Unmatched};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The optimizer's name.
const OPTIMIZER: &str = "optimizer";
/// The number of steps of the block; with a dot and a parameter's name after it, of that parameter.
const STEP: &str = "step";
/// The seed of what layers draw in training steps.
const SEED: &str = "seed";
/// What an application keeps in the state has this before its name.
const NOTE: &str = "note.";

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
    /// The state is that of another optimizer.
    #[error("state is of the optimizer `{got}`, expected `{expected}`")]
    OtherOptimizer {
        /// The block's optimizer.
        expected: String,
        /// The optimizer of the state.
        got: String,
    },
    /// One parameter has two names, and two values in the state.
    #[error("`{name}` and `{other}` are one parameter, and the state has two values for it")]
    TwoValues {
        /// The parameter's first name.
        name: String,
        /// Its other name.
        other: String,
    },
    /// The state and the block have different parts.
    #[error("state does not fit exactly: {}", Differing(.0))]
    Unmatched(Unmatched),
}

/// The parts that only one of two sides has, in a sentence.
struct Differing<'a>(&'a Unmatched);

impl fmt::Display for Differing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unmatched { missing, unknown, .. } = self.0;
        if !missing.is_empty() {
            write!(f, "it lacks {missing:?}")?;
        }
        if !unknown.is_empty() {
            let and = if missing.is_empty() { "" } else { " and " };
            write!(f, "{and}it has {unknown:?}, which the block lacks")?;
        }
        Ok(())
    }
}

/// The parts of a block that make its state.
pub(super) struct Parts<'a, D: Device> {
    pub(super) device: &'a D,
    /// Parameters and buffers by name.
    pub(super) tensors: BTreeMap<&'a str, &'a D::Tensor>,
    /// The other names of a parameter, with the first one.
    pub(super) same: Vec<(&'a str, &'a str)>,
    pub(super) stepper: Option<&'a Stepper<D::Tensor>>,
    pub(super) seed: u64,
}

/// A copy of parameters, of what an optimizer remembers, and of an application's notes.
///
/// # Errors
///
/// When a tensor cannot be read from the device.
pub(super) fn save<D: Device>(
    parts: &Parts<'_, D>,
    notes: &BTreeMap<String, String>,
) -> Result<BlockState, BoxError> {
    let mut state = BlockState::default();
    for (name, tensor) in &parts.tensors {
        state.parameters.insert((*name).to_owned(), parts.device.to_host(tensor)?);
    }
    if let Some(stepper) = parts.stepper {
        for (name, tensor) in stepper.memory() {
            state.optimizer.insert(name, parts.device.to_host(tensor)?);
        }
        state.scalars.insert(OPTIMIZER.to_owned(), stepper.optimizer().name().to_owned());
        state.scalars.insert(SEED.to_owned(), parts.seed.to_string());
        state.scalars.insert(STEP.to_owned(), stepper.training().steps.to_string());
        state.scalars.extend(stepper.steps().map(|(name, steps)| (steps_of(name), steps.to_string())));
    }
    state.scalars.extend(notes.iter().map(|(name, value)| (format!("{NOTE}{name}"), value.clone())));
    Ok(state)
}

fn steps_of(parameter: &str) -> String {
    format!("{STEP}.{parameter}")
}

/// What was read of a state: all of it fits, and nothing has been replaced yet.
#[derive(Debug)]
pub(super) struct Saved<T> {
    /// Parameters and buffers by name.
    pub(super) tensors: BTreeMap<String, T>,
    pub(super) progress: Progress<T>,
    /// Of all that is drawn from now on; files of earlier versions have none.
    pub(super) seed: Option<u64>,
    pub(super) notes: BTreeMap<String, String>,
    pub(super) unmatched: Unmatched,
}

/// Reads a state for a block that has these parts. `place` puts a tensor onto the device.
///
/// # Errors
///
/// When a part does not fit or cannot be placed, and with [`Fit::Exact`] also when one is missing or unknown.
pub(super) fn read<D: Device>(
    parts: &Parts<'_, D>,
    state: &BlockState,
    fit: Fit,
    place: impl Fn(&HostTensor) -> Result<D::Tensor, BoxError>,
) -> Result<Saved<D::Tensor>, BoxError> {
    let mut progress = Progress { memory: BTreeMap::new(), steps: None, steps_of: BTreeMap::new() };
    let mut unmatched = Unmatched::default();
    if let Some(stepper) = parts.stepper {
        match other_optimizer(stepper.optimizer().name(), state) {
            Some(error) if fit == Fit::Exact => return Err(error.into()),
            Some(_) => unmatched = without_progress(stepper, state),
            None => (progress, unmatched) = read_progress(parts.device, stepper, state, &place)?,
        }
    }
    let mut tensors = BTreeMap::new();
    for (name, own) in &parts.tensors {
        match state.parameters.get(*name) {
            Some(saved) => {
                check(parts.device, name, saved, own)?;
                tensors.insert((*name).to_owned(), place(saved)?);
            }
            None => unmatched.missing.push((*name).to_owned()),
        }
    }
    for (other, name) in &parts.same {
        let (first, second) = (state.parameters.get(*name), state.parameters.get(*other));
        if first.is_some() && second.is_some() && first != second {
            let (name, other) = ((*name).to_owned(), (*other).to_owned());
            return Err(RestoreError::TwoValues { name, other }.into());
        }
    }
    let unknown = state.parameters.keys().filter(|name| !parts.tensors.contains_key(name.as_str()));
    unmatched.unknown.extend(unknown.cloned());
    let mut notes = BTreeMap::new();
    for (name, value) in &state.scalars {
        if let Some(name) = name.strip_prefix(NOTE) {
            notes.insert(name.to_owned(), value.clone());
        } else if name != OPTIMIZER && name != STEP && name != SEED && !name.starts_with("step.") {
            unmatched.unknown.push(name.clone());
        }
    }
    if fit == Fit::Exact && !unmatched.is_empty() {
        return Err(RestoreError::Unmatched(unmatched).into());
    }
    Ok(Saved { tensors, progress, seed: number(state, SEED)?, notes, unmatched })
}

/// Whether a state is of another optimizer. Files of earlier versions do not tell; their tensors do.
fn other_optimizer(own: &str, state: &BlockState) -> Option<RestoreError> {
    let has = |prefix: &str| state.optimizer.keys().any(|name| name.starts_with(prefix));
    let got = match state.scalars.get(OPTIMIZER) {
        Some(name) => name.as_str(),
        None if has("exp_avg.") => "adamw",
        None if has("momentum.") => "sgd",
        None => return None,
    };
    let other = || RestoreError::OtherOptimizer { expected: own.to_owned(), got: got.to_owned() };
    (got != own).then(other)
}

/// What is left out of a state that is of another optimizer.
fn without_progress<T>(stepper: &Stepper<T>, state: &BlockState) -> Unmatched {
    let missing = stepper.memory().map(|(name, _)| name).chain([STEP.to_owned()]);
    Unmatched::new(missing.collect(), state.optimizer.keys().cloned().collect())
}

/// What a state says of the optimizer's work, and what it and the block do not have in common of that.
fn read_progress<D: Device>(
    device: &D,
    stepper: &Stepper<D::Tensor>,
    state: &BlockState,
    place: impl Fn(&HostTensor) -> Result<D::Tensor, BoxError>,
) -> Result<(Progress<D::Tensor>, Unmatched), BoxError> {
    let mut unmatched = Unmatched::default();
    let mut memory = BTreeMap::new();
    let mut own_names = BTreeSet::new();
    for (name, own) in stepper.memory() {
        match state.optimizer.get(&name) {
            Some(saved) => {
                check(device, &name, saved, own)?;
                memory.insert(name.clone(), place(saved)?);
            }
            None => unmatched.missing.push(name.clone()),
        }
        own_names.insert(name);
    }
    let unknown = state.optimizer.keys().filter(|name| !own_names.contains(*name));
    unmatched.unknown.extend(unknown.cloned());

    let steps = number(state, STEP)?;
    if steps.is_none() {
        unmatched.missing.push(STEP.to_owned());
    }
    // Files of earlier versions have one number for all parameters.
    let is_old = !state.scalars.keys().any(|name| name.starts_with("step."));
    let mut steps_of_each = BTreeMap::new();
    for (name, _) in stepper.steps() {
        let own = steps_of(name);
        match number(state, &own)?.or(steps.filter(|_| is_old)) {
            Some(steps) => drop(steps_of_each.insert(name.clone(), steps)),
            None if steps.is_some() => unmatched.missing.push(own),
            None => {}
        }
    }
    let own: BTreeSet<&str> = stepper.steps().map(|(name, _)| name.as_str()).collect();
    let foreign = state
        .scalars
        .keys()
        .filter(|name| name.strip_prefix("step.").is_some_and(|parameter| !own.contains(parameter)));
    unmatched.unknown.extend(foreign.cloned());
    Ok((Progress { memory, steps, steps_of: steps_of_each }, unmatched))
}

fn number(state: &BlockState, name: &str) -> Result<Option<u64>, RestoreError> {
    let Some(text) = state.scalars.get(name) else { return Ok(None) };
    let not_a_number = |_| RestoreError::NotANumber { name: name.to_owned(), got: text.clone() };
    text.parse().map(Some).map_err(not_a_number)
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
