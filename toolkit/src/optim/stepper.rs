//! The memory of an optimizer from step to step. It can be saved: optimizers of tensor libraries keep their
//! moments to themselves, so a restarted training would go on with other steps than an uninterrupted one.

use super::optimizer::{Optimizer, Rule};
use skep_runtime_core::BoxError;
use std::collections::BTreeMap;

/// An optimizer at work on the parameters of one block, whose tensors are `T`.
///
/// It knows the numbers of each [`step`](Self::step); the arithmetic of [`Pace::rule`] is the backend's.
#[derive(Debug)]
pub struct Stepper<T> {
    optimizer: Optimizer,
    steps: u64,
    /// By parameter, in the order of the rule's `memory_names`.
    memory: BTreeMap<String, Vec<T>>,
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The change of each parameter.
    pub rule: Rule,
    /// The number of this step, counted from 1.
    pub t: u64,
    /// The factor of the learning rate.
    pub factor: f64,
    /// The factor of the gradients; 1 if they are not clipped.
    pub scale: f64,
}

/// The reason why a step was not taken.
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

impl<T> Stepper<T> {
    /// Begins with step 0 and a memory of zeros.
    ///
    /// # Errors
    ///
    /// Returns the errors of `zeros`, which makes zeros of a parameter's dims.
    pub fn new<'a, E>(
        optimizer: Optimizer,
        parameters: impl IntoIterator<Item = (&'a String, &'a T)>,
        zeros: impl Fn(&T) -> Result<T, E>,
    ) -> Result<Self, E>
    where
        T: 'a,
    {
        let names = optimizer.rule.memory_names();
        let of = |(name, parameter): (&String, &T)| {
            let memory = names.iter().map(|_| zeros(parameter)).collect::<Result<_, _>>()?;
            Ok((name.clone(), memory))
        };
        let memory = parameters.into_iter().map(of).collect::<Result<_, E>>()?;
        Ok(Self { optimizer, steps: 0, memory })
    }

    /// Returns the number of steps that were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes a step with gradients that have together the Euclidean norm `norm`. `apply` is called for each of them with
    /// the numbers of the step and what is remembered of its parameter, in the order of [`Rule::memory_names`].
    /// Parameters without a gradient stay as they are.
    ///
    /// # Errors
    ///
    /// Returns [`StepError::NotFinite`] if the norm is not finite, before anything is applied, and the errors of
    /// `apply`.
    pub fn step<'a, G, E: Into<BoxError>>(
        &mut self,
        norm: f64,
        gradients: impl IntoIterator<Item = (&'a str, G)>,
        mut apply: impl FnMut(&Pace, G, &mut [T]) -> Result<(), E>,
    ) -> Result<(), BoxError> {
        let pace = self.pace(norm)?;
        for (parameter, gradient) in gradients {
            let memory = self.memory.get_mut(parameter).map_or(&mut [][..], Vec::as_mut_slice);
            apply(&pace, gradient, memory).map_err(Into::into)?;
        }
        self.steps += 1;
        Ok(())
    }

    /// The numbers of the next step.
    fn pace(&self, norm: f64) -> Result<Pace, StepError> {
        if !norm.is_finite() {
            return Err(StepError::NotFinite { norm });
        }
        Ok(Pace {
            rule: self.optimizer.rule,
            t: self.steps + 1,
            factor: self.optimizer.schedule.factor(self.steps),
            scale: self.optimizer.max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0)),
        })
    }

    /// Returns all that is remembered, by the names that it is saved under (`exp_avg.fc1.weight`).
    pub fn memory(&self) -> impl Iterator<Item = (String, &T)> {
        self.memory.iter().flat_map(|(parameter, memory)| {
            let names = self.optimizer.rule.memory_names().iter();
            names.map(move |kind| format!("{kind}.{parameter}")).zip(memory)
        })
    }

    /// Goes on from a saved state. What is not given keeps its value.
    pub fn resume(&mut self, mut saved: BTreeMap<String, T>, steps: Option<u64>) {
        for (parameter, memory) in &mut self.memory {
            for (kind, tensor) in self.optimizer.rule.memory_names().iter().zip(memory) {
                if let Some(saved) = saved.remove(&format!("{kind}.{parameter}")) {
                    *tensor = saved;
                }
            }
        }
        self.steps = steps.unwrap_or(self.steps);
    }
}

#[cfg(test)]
mod tests {
    use super::super::optimizer::AdamW;
    use super::super::schedule::Schedule;
    use super::*;

    fn stepper(optimizer: Optimizer) -> Stepper<f64> {
        let parameters = BTreeMap::from([("a".to_owned(), 5.0), ("b".to_owned(), 7.0)]);
        Stepper::new(optimizer, &parameters, |_| Ok::<_, ()>(0.0)).unwrap()
    }

    #[test]
    fn the_pace_follows_schedule_and_norm() {
        let schedule = Schedule::WarmupLinear { warmup: 2, total: 4 };
        let optimizer = Optimizer::adamw(AdamW::default()).with_schedule(schedule).with_max_norm(1.0);
        let mut stepper = stepper(optimizer);
        let first = stepper.pace(0.5).unwrap();
        assert_eq!(
            (first.t, first.factor.to_string(), first.scale.to_string()),
            (1, "0.5".into(), "1".into())
        );
        stepper.step(0.5, [], |_, (), _| Ok::<_, BoxError>(())).unwrap();
        let second = stepper.pace(4.0).unwrap();
        assert_eq!((second.t, second.factor.to_string()), (2, "1".into()));
        assert!((second.scale - 0.25).abs() < 1e-6);
        assert_eq!(stepper.steps(), 1);
    }

    #[test]
    fn a_norm_that_is_no_number_stops_the_step() {
        let stepper = stepper(Optimizer::adamw(AdamW::default()));
        assert!(matches!(stepper.pace(f64::NAN), Err(StepError::NotFinite { .. })));
        assert_eq!(stepper.pace(f64::INFINITY), Err(StepError::NotFinite { norm: f64::INFINITY }));
    }

    #[test]
    fn what_is_saved_comes_back_by_name() {
        let mut stepper = stepper(Optimizer::adamw(AdamW::default()));
        let names: Vec<_> = stepper.memory().map(|(name, _)| name).collect();
        assert_eq!(names, ["exp_avg.a", "exp_avg_sq.a", "exp_avg.b", "exp_avg_sq.b"]);
        stepper.resume(BTreeMap::from([("exp_avg_sq.a".to_owned(), 3.0)]), Some(9));
        assert_eq!(stepper.steps(), 9);
        let mut remembered = Vec::new();
        let look = |pace: &Pace, (), memory: &mut [f64]| {
            remembered.push((pace.t, memory.to_vec()));
            Ok::<_, BoxError>(())
        };
        stepper.step(1.0, [("a", ()), ("c", ())], look).unwrap();
        assert_eq!(remembered, [(10, vec![0.0, 3.0]), (10, vec![])]);
    }
}
