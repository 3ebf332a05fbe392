//! Learning rates that change with the steps.

/// The factor that the learning rate is multiplied by.
///
/// ```
/// use skep_toolkit::Schedule;
///
/// let schedule = Schedule::WarmupLinear { warmup: 4, total: 12 };
/// let factors: Vec<f64> = [0, 1, 3, 4, 8, 12, 100].map(|step| schedule.factor(step)).to_vec();
/// assert_eq!(factors, [0.25, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]);
/// assert_eq!(Schedule::Constant.factor(1_000_000), 1.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    #[default]
    Constant,
    /// Rises linearly to 1 over the first steps, then falls linearly to 0. The first step already has
    /// `1 / warmup`, so that no batch is trained on in vain.
    WarmupLinear {
        /// Steps until the factor is 1; 0 to start with 1.
        warmup: u64,
        /// Steps until the factor is 0, the warm-up included. From then on the parameters stay as they are.
        total: u64,
    },
}

impl Schedule {
    /// Returns the factor for the step after `step` earlier ones.
    pub fn factor(self, step: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::WarmupLinear { total, .. } if step >= total => 0.0,
            Self::WarmupLinear { warmup, .. } if step < warmup => (step + 1) as f64 / warmup as f64,
            Self::WarmupLinear { warmup, total } => (total - step) as f64 / (total - warmup) as f64,
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

    #[test]
    fn odd_lengths_give_finite_factors() {
        for (warmup, total) in [(0, 0), (5, 5), (9, 5), (u64::MAX, u64::MAX), (0, u64::MAX)] {
            let schedule = Schedule::WarmupLinear { warmup, total };
            for step in [0, 1, 4, 5, 6, 9, 10, u64::MAX - 1, u64::MAX] {
                assert!((0.0..=1.0).contains(&schedule.factor(step)), "{schedule:?} at {step}");
            }
        }
    }
}
