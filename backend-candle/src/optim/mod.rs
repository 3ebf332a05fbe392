//! Optimizers whose memory can be saved: candle's own keep their moments to themselves, so a restarted
//! training would go on with other steps than an uninterrupted one.

mod rule;
mod schedule;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rule::Rule;
use std::collections::BTreeMap;

pub use rule::{AdamW, Sgd};
pub use schedule::Schedule;

/// Steps a block's parameters along their gradients, and remembers what the next step needs.
///
/// ```
/// use skep_backend_candle::{AdamW, Optimizer, Schedule};
///
/// let optimizer = Optimizer::adamw(AdamW { learning_rate: 3e-4, ..AdamW::default() })
///     .with_schedule(Schedule::WarmupLinear { warmup: 100, total: 10_000 })
///     .with_max_norm(1.0);
/// assert_eq!(optimizer.steps(), 0);
/// ```
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    schedule: Schedule,
    max_norm: Option<f64>,
    steps: u64,
    /// By parameter, in the order of the rule's `memory_names`.
    memory: BTreeMap<String, Vec<Tensor>>,
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
    pub(crate) fn begin(&mut self, variables: &BTreeMap<String, Var>) -> candle_core::Result<()> {
        self.memory.clear();
        for (name, var) in variables {
            let zeros = self.rule.memory_names().iter().map(|_| var.as_detached_tensor().zeros_like());
            self.memory.insert(name.clone(), zeros.collect::<candle_core::Result<_>>()?);
        }
        Ok(())
    }

    /// One step. A parameter without a gradient stays as it is.
    pub(crate) fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &GradStore,
    ) -> Result<(), skep_runtime_core::BoxError> {
        let norm = global_norm(variables, gradients)?;
        if !norm.is_finite() {
            return Err(StepError::NotFinite { norm }.into());
        }
        let scale = self.max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0));
        let factor = self.schedule.factor(self.steps);
        for (name, var) in variables {
            let (Some(gradient), Some(memory)) = (gradients.get(var), self.memory.get_mut(name)) else {
                continue;
            };
            // With its graph, the memory would keep the activations of every step there ever was.
            let gradient = gradient.detach();
            let gradient = if scale < 1.0 { (gradient * scale)? } else { gradient };
            self.rule.step(var, &gradient, memory, self.steps + 1, factor)?;
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

/// The Euclidean norm over all gradients together.
fn global_norm(variables: &BTreeMap<String, Var>, gradients: &GradStore) -> candle_core::Result<f64> {
    let mut squares: Option<Tensor> = None;
    for gradient in variables.values().filter_map(|var| gradients.get(var)) {
        let square = gradient.detach().sqr()?.sum_all()?;
        squares = Some(match squares {
            Some(squares) => (squares + square)?,
            None => square,
        });
    }
    let square = squares.map(|squares| squares.to_scalar::<f32>()).transpose()?.unwrap_or(0.0);
    Ok(f64::from(square).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device as Place;

    #[test]
    fn what_is_remembered_holds_no_graph() {
        for mut optimizer in
            [Optimizer::adamw(AdamW::default()), Optimizer::sgd(Sgd { momentum: 0.9, ..Sgd::default() })]
        {
            let var = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Place::Cpu).unwrap();
            let variables = BTreeMap::from([("w".to_owned(), var.clone())]);
            optimizer.begin(&variables).unwrap();
            let gradients = var.matmul(&var).unwrap().sum_all().unwrap().backward().unwrap();
            assert!(gradients.get(&var).unwrap().track_op());
            optimizer.step(&variables, &gradients).unwrap();
            assert!(optimizer.memory().all(|(_, tensor)| !tensor.track_op()));
        }
    }
}
