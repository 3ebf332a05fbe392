//! The memory of an optimizer from step to step. It can be saved: optimizers of tensor libraries keep their
//! moments to themselves, so a restarted training would go on with other steps than an uninterrupted one.
//!
//! A parameter of half precision has a master copy in f32, which is what is stepped: its own numbers are too coarse for
//! most steps. Gradients and all that is remembered are f32 too, or f64 for a parameter of f64, and norms are f64.

use super::optimizer::{Optimizer, Pace};
use crate::block::library::Library;
use crate::block::names::Names;
use skep_runtime_core::{BoxError, DType, OfRows, TensorOps, Training};
use std::collections::BTreeMap;

/// The name under which master copies are saved.
const MASTER: &str = "master";

/// An optimizer at work on the parameters of one block, whose tensors are `T`.
#[derive(Debug)]
pub(crate) struct Stepper<T> {
    optimizer: Optimizer,
    /// A parameter may be left without a gradient: it is named in the log, not in an error.
    allow_unused: bool,
    training: Training,
    parameters: BTreeMap<String, Remembered<T>>,
}

/// What is remembered of one parameter.
#[derive(Debug)]
struct Remembered<T> {
    /// Of the parameter itself.
    dtype: DType,
    /// Steps for which it had a gradient.
    steps: u64,
    /// Its value as it is stepped, if the parameter itself is too coarse for that.
    master: Option<T>,
    /// In the order of the rule's `memory_names`.
    memory: Vec<T>,
}

/// The reason why a step was not taken. The block is as it was before.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A gradient overflowed or is not a number. The step would have destroyed the parameters.
    #[error("gradient of `{parameter}` is infinite or not a number; no parameter was stepped")]
    GradientNotFinite {
        /// The first parameter with such a gradient.
        parameter: String,
    },
    /// The gradients are finite, and so large together that their norm is not.
    #[error("norm of all gradients is {norm}, expected a finite number; no parameter was stepped")]
    NormNotFinite {
        /// The norm.
        norm: f64,
    },
    /// The step is so large that the parameter, or what the optimizer remembers of it, would overflow.
    #[error("`{parameter}` would be infinite or not a number after the step; no parameter was stepped")]
    WouldNotBeFinite {
        /// The first such parameter.
        parameter: String,
    },
    /// Parameters are part of the block, and no output depends on them.
    #[error(
        "parameters {} got no gradient; no parameter was stepped: the block does not use them, or uses them by an \
         operation without a backward pass. `allow_unused_parameters` trains the others",
        Names(.parameters)
    )]
    NoGradient {
        /// Their names.
        parameters: Vec<String>,
    },
    /// A schedule of an application's own gave a factor that is no factor.
    #[error(
        "schedule {schedule} gives the factor {factor} after {step} steps, expected a finite number, at least 0"
    )]
    Factor {
        /// The schedule.
        schedule: String,
        /// The steps before.
        step: u64,
        /// Its factor.
        factor: f64,
    },
}

impl StepError {
    /// Finds the error of a step in that of a backward pass, which may say besides whose fault it was ([`OfRows`]).
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        match error.downcast_ref::<OfRows>() {
            Some(of_rows) => Self::find(of_rows.error()),
            None => error.downcast_ref(),
        }
    }
}

/// One parameter after a step that has not been taken yet.
struct Change<T> {
    name: String,
    value: T,
    master: Option<T>,
    memory: Vec<T>,
}

/// The element type in which a parameter is stepped; `None` if it cannot be trained.
pub(crate) fn wide(dtype: DType) -> Option<DType> {
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 => Some(DType::F32),
        DType::F64 => Some(DType::F64),
        _ => None,
    }
}

impl<T> Stepper<T> {
    /// Begins with step 0.
    pub(crate) fn new(optimizer: Optimizer, allow_unused: bool) -> Self {
        Self { optimizer, allow_unused, training: Training::new(), parameters: BTreeMap::new() }
    }

    /// Adds a parameter. `zeros` makes what is remembered, `master` its value in another element type, if it needs that.
    pub(crate) fn add<E>(
        &mut self,
        name: &str,
        dtype: DType,
        zeros: impl Fn() -> Result<T, E>,
        master: Option<T>,
    ) -> Result<(), E> {
        let memory = self.optimizer.rule.memory_names().iter().map(|_| zeros()).collect::<Result<_, _>>()?;
        self.parameters.insert(name.to_owned(), Remembered { dtype, steps: 0, master, memory });
        Ok(())
    }

    pub(crate) fn training(&self) -> Training {
        self.training
    }

    pub(crate) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The steps of each parameter.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&String, u64)> {
        self.parameters.iter().map(|(name, remembered)| (name, remembered.steps))
    }

    /// Takes a step. Parameters without a gradient stay as they are. If it cannot be taken, nothing has changed.
    ///
    /// # Errors
    ///
    /// [`StepError`], and the library's.
    pub(crate) fn step<L: Library<Device: TensorOps<Tensor = T>>>(
        &mut self,
        library: &mut L,
        gradients: BTreeMap<String, T>,
    ) -> Result<(), BoxError> {
        self.look_for_unused(&gradients)?;
        let changes = self.changes(library, gradients);
        let (changes, norm, clipped, factor) = match changes {
            Ok(changes) => changes,
            Err(error) => {
                self.training.refused += u64::from(error.is::<StepError>());
                return Err(error);
            }
        };
        for Change { name, value, master, memory } in changes {
            library.set(&name, value)?;
            if let Some(remembered) = self.parameters.get_mut(&name) {
                remembered.master = master;
                remembered.memory = memory;
                remembered.steps += 1;
            }
        }
        self.training.steps += 1;
        self.training.clipped += u64::from(clipped);
        self.training.gradient_norm = norm;
        self.training.learning_rate = factor * self.optimizer.rule.learning_rate();
        Ok(())
    }

    /// Returns true if a step by these gradients could not be taken, because of numbers that are none or too large.
    pub(crate) fn refuses<L: Library<Device: TensorOps<Tensor = T>>>(
        &self,
        library: &L,
        gradients: BTreeMap<String, T>,
    ) -> Result<bool, BoxError> {
        match self.changes(library, gradients) {
            Ok(_) => Ok(false),
            Err(error) if error.is::<StepError>() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Parameters that never had a gradient, and have none now.
    fn look_for_unused(&self, gradients: &BTreeMap<String, T>) -> Result<(), StepError> {
        let unused = |(name, remembered): &(&String, &Remembered<T>)| {
            remembered.steps == 0 && !gradients.contains_key(*name)
        };
        let parameters: Vec<String> =
            self.parameters.iter().filter(unused).map(|(name, _)| name.clone()).collect();
        if parameters.is_empty() {
            return Ok(());
        }
        if !self.allow_unused {
            return Err(StepError::NoGradient { parameters });
        }
        if self.training.steps == 0 {
            tracing::warn!(?parameters, "parameters got no gradient in the first step");
        }
        Ok(())
    }

    /// All parameters after the step, of which nothing has been taken yet, with the norm of the gradients, whether they
    /// were clipped, and the factor of the learning rate.
    #[expect(clippy::type_complexity, reason = "four values for its one caller")]
    fn changes<L: Library<Device: TensorOps<Tensor = T>>>(
        &self,
        library: &L,
        gradients: BTreeMap<String, T>,
    ) -> Result<(Vec<Change<T>>, f64, bool, f64), BoxError> {
        let step = self.training.steps;
        let factor = self.optimizer.schedule.factor(step);
        if !factor.is_finite() || factor < 0.0 {
            let schedule = format!("{:?}", self.optimizer.schedule);
            return Err(StepError::Factor { schedule, step, factor }.into());
        }
        let mut wide_gradients = BTreeMap::new();
        for (name, gradient) in gradients {
            if let Some(remembered) = self.parameters.get(&name) {
                let dtype = wide(remembered.dtype).unwrap_or(DType::F32);
                wide_gradients.insert(name, (remembered, L::cast(&gradient, dtype)?));
            }
        }
        let all: Vec<&T> = wide_gradients.values().map(|(_, gradient)| gradient).collect();
        let norm = L::norm(&all)?;
        if !norm.is_finite() {
            for (name, (_, gradient)) in &wide_gradients {
                if !L::all_finite(&[gradient])? {
                    return Err(StepError::GradientNotFinite { parameter: name.clone() }.into());
                }
            }
            return Err(StepError::NormNotFinite { norm }.into());
        }
        let scale = self.optimizer.max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        let values: BTreeMap<&String, &T> = library.variables().collect();
        let mut changes = Vec::with_capacity(wide_gradients.len());
        for (name, (remembered, gradient)) in &wide_gradients {
            let Some(&own) = values.get(name) else { continue };
            let pace = Pace { rule: self.optimizer.rule, t: remembered.steps + 1, factor, scale };
            let now = remembered.master.as_ref().unwrap_or(own);
            let (value, memory) = L::stepped(&pace, now, gradient, &remembered.memory)?;
            let change = match remembered.master {
                Some(_) => Change {
                    name: name.clone(),
                    value: L::cast(&value, remembered.dtype)?,
                    master: Some(value),
                    memory,
                },
                None => Change { name: name.clone(), value, master: None, memory },
            };
            changes.push(change);
        }
        let all: Vec<&T> =
            changes.iter().flat_map(|change| std::iter::once(&change.value).chain(&change.memory)).collect();
        if !L::all_finite(&all)? {
            for change in &changes {
                let parts: Vec<&T> = std::iter::once(&change.value).chain(&change.memory).collect();
                if !L::all_finite(&parts)? {
                    return Err(StepError::WouldNotBeFinite { parameter: change.name.clone() }.into());
                }
            }
        }
        Ok((changes, norm, scale < 1.0, factor))
    }

    /// Returns all that is remembered, by the names that it is saved under (`exp_avg.fc1.weight`).
    pub(crate) fn memory(&self) -> impl Iterator<Item = (String, &T)> {
        self.parameters.iter().flat_map(|(parameter, remembered)| {
            let names = self.optimizer.rule.memory_names().iter().zip(&remembered.memory);
            let master = remembered.master.iter().map(|master| (&MASTER, master));
            names.chain(master).map(move |(kind, tensor)| (format!("{kind}.{parameter}"), tensor))
        })
    }

    /// Goes on from a saved state. What is not given keeps its value, but for master copies, which follow their
    /// parameters: `master` makes one anew.
    pub(crate) fn resume<E>(
        &mut self,
        saved: &mut Progress<T>,
        master: impl Fn(&str) -> Result<Option<T>, E>,
    ) -> Result<(), E> {
        let kinds = self.optimizer.rule.memory_names();
        for (parameter, remembered) in &mut self.parameters {
            if remembered.master.is_some() {
                match saved.memory.remove(&format!("{MASTER}.{parameter}")) {
                    Some(master) => remembered.master = Some(master),
                    None => {
                        if let Some(master) = master(parameter)? {
                            remembered.master = Some(master);
                        }
                    }
                }
            }
            for (kind, tensor) in kinds.iter().zip(&mut remembered.memory) {
                if let Some(saved) = saved.memory.remove(&format!("{kind}.{parameter}")) {
                    *tensor = saved;
                }
            }
            if let Some(&steps) = saved.steps_of.get(parameter) {
                remembered.steps = steps;
            }
        }
        if let Some(steps) = saved.steps {
            self.training = Training::new();
            self.training.steps = steps;
        }
        Ok(())
    }
}

/// Where a saved training stood.
#[derive(Debug)]
pub(crate) struct Progress<T> {
    /// By the names of [`Stepper::memory`].
    pub(crate) memory: BTreeMap<String, T>,
    pub(crate) steps: Option<u64>,
    /// By parameter.
    pub(crate) steps_of: BTreeMap<String, u64>,
}
