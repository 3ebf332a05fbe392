//! Optimizers whose memory can be saved: those of tch keep their moments to themselves, so a restarted training
//! would go on with other steps than an uninterrupted one.

mod rule;
mod schedule;

use crate::layers::number;
use rule::Rule;
use skep_runtime_core::BoxError;
use std::collections::BTreeMap;
use tch::{TchError, Tensor};

pub use rule::{AdamW, Sgd};
pub use schedule::Schedule;

/// Steps a block's parameters along their gradients, and remembers what the next step needs.
///
/// ```
/// use skep_backend_tch::{AdamW, Optimizer, Schedule};
///
/// let optimizer = Optimizer::adamw(AdamW { learning_rate: 3e-4, ..AdamW::default() })
///     .with_schedule(Schedule::WarmupLinear { warmup: 100, total: 10_000 })
///     .with_max_norm(1.0);
/// assert_eq!(optimizer.steps(), 0);
/// ```
///
/// A clone has the same settings and has not taken a step.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    schedule: Schedule,
    max_norm: Option<f64>,
    steps: u64,
    /// By parameter, in the order of the rule's `memory_names`.
    memory: BTreeMap<String, Vec<Tensor>>,
}

impl Clone for Optimizer {
    fn clone(&self) -> Self {
        Self { memory: BTreeMap::new(), steps: 0, ..*self }
    }
}

/// Why a step was not taken.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A gradient overflowed or is not a number. The step would have destroyed the parameters.
    #[error("global gradient norm is {norm}, expected a finite number; parameters were not stepped")]
    NotFinite {
        /// The norm.
        norm: f64,
    },
}

impl Optimizer {
    /// `AdamW`: moments of the gradients, decoupled weight decay.
    pub fn adamw(rule: AdamW) -> Self {
        Self::new(Rule::AdamW(rule))
    }

    /// Gradient descent with momentum.
    pub fn sgd(rule: Sgd) -> Self {
        Self::new(Rule::Sgd(rule))
    }

    fn new(rule: Rule) -> Self {
        Self { rule, schedule: Schedule::Constant, max_norm: None, steps: 0, memory: BTreeMap::new() }
    }

    /// How the learning rate changes with the steps. [`Schedule::Constant`] unless set.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Scales all gradients of a step down together when the norm over all of them is larger than this.
    /// No limit unless set; 1 is a usual choice.
    pub fn with_max_norm(mut self, max_norm: f64) -> Self {
        self.max_norm = Some(max_norm);
        self
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Makes room for what is remembered of each parameter.
    pub(crate) fn begin(&mut self, variables: &BTreeMap<String, Tensor>) -> Result<(), TchError> {
        self.memory.clear();
        for (name, variable) in variables {
            let zeros = self.rule.memory_names().iter().map(|_| variable.f_detach()?.f_zeros_like());
            self.memory.insert(name.clone(), zeros.collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    /// One step of the parameters that have a gradient. No graph may be recorded while it runs.
    pub(crate) fn step(&mut self, steps: Vec<Step<'_>>) -> Result<(), BoxError> {
        let norm = global_norm(&steps)?;
        if !norm.is_finite() {
            return Err(StepError::NotFinite { norm }.into());
        }
        let scale = self.max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        let factor = self.schedule.factor(self.steps);
        for Step { name, variable, mut gradient } in steps {
            let Some(memory) = self.memory.get_mut(name) else { continue };
            if scale < 1.0 {
                gradient = gradient.f_mul(&number(scale)?)?;
            }
            self.rule.step(variable, &gradient, memory, self.steps + 1, factor)?;
        }
        self.steps += 1;
        Ok(())
    }

    /// What is remembered, by the names that it is saved under (`exp_avg.fc1.weight`).
    pub(crate) fn memory(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.memory.iter().flat_map(|(parameter, memory)| {
            let names = self.rule.memory_names().iter().map(move |kind| format!("{kind}.{parameter}"));
            names.zip(memory)
        })
    }

    /// Goes on from a saved state. What is not given keeps its value.
    pub(crate) fn resume(&mut self, mut saved: BTreeMap<String, Tensor>, steps: Option<u64>) {
        for (parameter, memory) in &mut self.memory {
            for (kind, tensor) in self.rule.memory_names().iter().zip(memory) {
                if let Some(saved) = saved.remove(&format!("{kind}.{parameter}")) {
                    *tensor = saved;
                }
            }
        }
        self.steps = steps.unwrap_or(self.steps);
    }
}

/// One parameter and where it is to go.
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) variable: &'a mut Tensor,
    pub(crate) gradient: Tensor,
}

/// The Euclidean norm over all gradients together.
fn global_norm(steps: &[Step<'_>]) -> Result<f64, TchError> {
    let mut squares: Option<Tensor> = None;
    for Step { gradient, .. } in steps {
        let square = gradient.f_norm()?.f_square()?;
        squares = Some(match squares {
            Some(squares) => squares.f_add(&square)?,
            None => square,
        });
    }
    let square = squares.map(|squares| squares.f_double_value(&[])).transpose()?;
    Ok(square.unwrap_or(0.0).sqrt())
}
