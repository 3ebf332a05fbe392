//! What an optimizer remembers from step to step. It can be saved: optimizers of tensor libraries keep their
//! moments to themselves, so a restarted training would go on with other steps than an uninterrupted one.

use super::optimizer::{Optimizer, Rule};
use std::collections::BTreeMap;

/// An optimizer at work on the parameters of one block, whose tensors are `T`.
///
/// A step begins with [`pace`](Self::pace), goes on with the arithmetic of [`Pace::rule`] for each parameter and
/// its [`memory`](Self::memory_of), and ends with [`stepped`](Self::stepped).
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
    /// What is done to each parameter.
    pub rule: Rule,
    /// The number of this step, counted from 1.
    pub t: u64,
    /// What the learning rate is multiplied by.
    pub factor: f64,
    /// What gradients are multiplied by; 1 where they are not clipped.
    pub scale: f64,
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

impl<T> Stepper<T> {
    /// Begins with step 0 and a memory of zeros.
    ///
    /// # Errors
    ///
    /// Those of `zeros`, which makes zeros of a parameter's dims.
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

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The numbers of the next step, whose gradients have together the Euclidean norm `norm`.
    ///
    /// # Errors
    ///
    /// When the norm is not finite.
    pub fn pace(&self, norm: f64) -> Result<Pace, StepError> {
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

    /// What is remembered of one parameter, in the order of [`Rule::memory_names`]; nothing where it is unknown.
    pub fn memory_of(&mut self, parameter: &str) -> &mut [T] {
        self.memory.get_mut(parameter).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Counts the step.
    pub fn stepped(&mut self) {
        self.steps += 1;
    }

    /// All that is remembered, by the names that it is saved under (`exp_avg.fc1.weight`).
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
    use super::super::{AdamW, Schedule};
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
        stepper.stepped();
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
        assert_eq!(stepper.memory_of("a").iter().map(f64::to_string).collect::<Vec<_>>(), ["0", "3"]);
        assert_eq!(stepper.steps(), 9);
        assert!(stepper.memory_of("c").is_empty());
    }
}
