//! Learning rates that change with the steps.

use crate::config::ConfigError;
use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

/// The factor that the learning rate is multiplied by.
///
/// ```
/// use skep_toolkit::Schedule;
///
/// let schedule = Schedule::WarmupLinear { warmup: 4, total: 12 };
/// let factors: Vec<f64> = [0, 1, 3, 4, 8, 12, 100].map(|step| schedule.factor(step)).to_vec();
/// assert_eq!(factors, [0.25, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]);
/// assert_eq!(Schedule::Constant.factor(1_000_000), 1.0);
///
/// let own = Schedule::custom("square root", |step| 1.0 / ((step + 1) as f64).sqrt());
/// assert_eq!(own.factor(3), 0.5);
/// ```
///
/// A warm-up rises linearly to 1. The first step already has `1 / warmup`, so that no batch is trained on in vain.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    #[default]
    Constant,
    /// Rises linearly to 1 over the first steps, then falls linearly to 0.
    WarmupLinear {
        /// Steps until the factor is 1; 0 to start with 1.
        warmup: u64,
        /// Steps until the factor is 0, the warm-up included. From then on the parameters stay as they are.
        total: u64,
    },
    /// Rises linearly to 1 over the first steps, then falls to 0 along half a cosine: Loshchilov and Hutter, "SGDR:
    /// Stochastic gradient descent with warm restarts", ICLR 2017, without restarts.
    WarmupCosine {
        /// Steps until the factor is 1; 0 to start with 1.
        warmup: u64,
        /// Steps until the factor is 0, the warm-up included. From then on the parameters stay as they are.
        total: u64,
    },
    /// Rises linearly to 1 over the first steps, then falls as `sqrt(warmup / step)`: Vaswani et al., "Attention is all
    /// you need", 2017.
    InverseSqrt {
        /// Steps until the factor is 1; at least 1.
        warmup: u64,
    },
    /// Is multiplied by a factor every so many steps, as `PyTorch`'s `StepLR` does it.
    Step {
        /// Steps between two multiplications; at least 1.
        every: u64,
        /// The factor, above 0 and finite.
        factor: f64,
    },
    /// An application's own ([`Schedule::custom`]).
    Custom(CustomSchedule),
}

/// A schedule of an application's own.
#[derive(Clone)]
pub struct CustomSchedule {
    name: String,
    factor: Arc<dyn Fn(u64) -> f64 + Send + Sync>,
}

impl fmt::Debug for CustomSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomSchedule").field(&self.name).finish()
    }
}

impl PartialEq for CustomSchedule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.factor, &other.factor)
    }
}

impl Schedule {
    /// Creates a schedule of an application's own: `factor` gives the factor for the step after so many earlier ones,
    /// finite and not below 0. It is called on the device thread. A step for which it gives another number is refused;
    /// `name` stands in that error.
    pub fn custom(name: impl Into<String>, factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self::Custom(CustomSchedule { name: name.into(), factor: Arc::new(factor) })
    }

    /// Returns the factor for the step after `step` earlier ones.
    pub fn factor(&self, step: u64) -> f64 {
        match *self {
            Self::Constant => 1.0,
            Self::WarmupLinear { total, .. } | Self::WarmupCosine { total, .. } if step >= total => 0.0,
            Self::WarmupLinear { warmup, .. }
            | Self::WarmupCosine { warmup, .. }
            | Self::InverseSqrt { warmup }
                if step < warmup =>
            {
                (step + 1) as f64 / warmup as f64
            }
            Self::WarmupLinear { warmup, total } => (total - step) as f64 / (total - warmup) as f64,
            Self::WarmupCosine { warmup, total } => {
                0.5 * (1.0 + (PI * (step - warmup) as f64 / (total - warmup) as f64).cos())
            }
            Self::InverseSqrt { warmup } => (warmup as f64 / step.max(1) as f64).sqrt(),
            Self::Step { every, factor } => {
                factor.powi(i32::try_from(step / every.max(1)).unwrap_or(i32::MAX))
            }
            Self::Custom(ref custom) => (custom.factor)(step),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match *self {
            Self::WarmupLinear { warmup, total } | Self::WarmupCosine { warmup, total }
                if warmup >= total =>
            {
                let expected = format!("more than `warmup`, which is {warmup}");
                Err(ConfigError::invalid("total", total, expected))
            }
            Self::InverseSqrt { warmup: 0 } => Err(ConfigError::invalid("warmup", 0, "at least 1")),
            Self::Step { every: 0, .. } => Err(ConfigError::invalid("every", 0, "at least 1")),
            Self::Step { factor, .. } if !(factor.is_finite() && factor > 0.0) => {
                Err(ConfigError::invalid("factor", factor, "a finite number above 0"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_warmup_it_starts_with_one() {
        let schedule = Schedule::WarmupLinear { warmup: 0, total: 4 };
        let percent = [0, 1, 2, 3, 4].map(|step| (100.0 * schedule.factor(step)).to_string());
        assert_eq!(percent, ["100", "75", "50", "25", "0"]);
    }

    /// Those of `transformers.get_cosine_schedule_with_warmup(2, 10)`, `get_inverse_sqrt_schedule(4)` and
    /// `torch.optim.lr_scheduler.StepLR(3, 0.5)`, after the warm-up.
    #[test]
    fn factors_are_the_published_ones() {
        let close = |schedule: Schedule, expected: &[(u64, f64)]| {
            for &(step, expected) in expected {
                let factor = schedule.factor(step);
                assert!(
                    (factor - expected).abs() < 1e-12,
                    "{schedule:?} at {step} is {factor}, not {expected}"
                );
            }
        };
        let cosine = Schedule::WarmupCosine { warmup: 2, total: 10 };
        close(cosine, &[(0, 0.5), (1, 1.0), (2, 1.0), (4, 0.853_553_390_593_273_7), (6, 0.5), (10, 0.0)]);
        let root = Schedule::InverseSqrt { warmup: 4 };
        close(root, &[(0, 0.25), (3, 1.0), (4, 1.0), (9, 2.0 / 3.0), (16, 0.5), (100, 0.2)]);
        let steps = Schedule::Step { every: 3, factor: 0.5 };
        close(steps, &[(0, 1.0), (2, 1.0), (3, 0.5), (8, 0.25), (9, 0.125)]);
    }

    #[test]
    fn odd_lengths_give_finite_factors() {
        for (warmup, total) in [(0, 0), (5, 5), (9, 5), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            let schedules = [
                Schedule::WarmupLinear { warmup, total },
                Schedule::WarmupCosine { warmup, total },
                Schedule::InverseSqrt { warmup: warmup.max(1) },
                Schedule::Step { every: total.max(1), factor: 0.5 },
            ];
            for schedule in schedules {
                for step in [0, 1, 4, 5, 6, 9, 10, u64::MAX - 1, u64::MAX] {
                    assert!((0.0..=1.0).contains(&schedule.factor(step)), "{schedule:?} at {step}");
                }
            }
        }
    }
}
