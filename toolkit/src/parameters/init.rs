//! First values of parameters, equal on every machine and in every backend.

use crate::random::SplitMix;

/// Where the first value of a parameter comes from, unless a weights file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// One value for all elements.
    Const(f64),
    /// Uniform in `lo..up`.
    Uniform {
        /// The least value.
        lo: f64,
        /// The bound, which is not reached.
        up: f64,
    },
    /// Normal.
    Randn {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        stdev: f64,
    },
}

impl Init {
    /// Returns the first `count` values of a parameter. They depend on the seed and the parameter's name only, so a block
    /// that gains a layer keeps the first values of the others.
    pub fn values(self, seed: u64, name: &str, count: usize) -> Vec<f32> {
        let mut random = SplitMix::named(seed, name);
        let mut draw = |f: &mut dyn FnMut(&mut SplitMix) -> f64| {
            #[expect(clippy::cast_possible_truncation, reason = "parameters are f32")]
            (0..count).map(|_| f(&mut random) as f32).collect()
        };
        match self {
            Self::Const(value) => draw(&mut |_| value),
            Self::Uniform { lo, up } => draw(&mut |r| lo + (up - lo) * r.unit()),
            Self::Randn { mean, stdev } => draw(&mut |r| mean + stdev * normal(r)),
        }
    }
}

/// Normal with mean 0 and deviation 1 (Box and Muller, "A note on the generation of random normal deviates", 1958).
fn normal(random: &mut SplitMix) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, init: Init) -> Vec<f32> {
        init.values(seed, name, 10_000)
    }

    #[test]
    fn seed_and_name_decide_the_values() {
        let init = Init::Uniform { lo: -1.0, up: 1.0 };
        assert_eq!(values(1, "a", init), values(1, "a", init));
        assert_ne!(values(1, "a", init), values(2, "a", init));
        assert_ne!(values(1, "a", init), values(1, "b", init));
    }

    #[test]
    fn values_are_distributed_as_asked() {
        let uniform = values(3, "w", Init::Uniform { lo: -2.0, up: 4.0 });
        assert!(uniform.iter().all(|v| (-2.0..4.0).contains(v)));
        assert!((mean(&uniform) - 1.0).abs() < 0.1);

        let normal = values(3, "w", Init::Randn { mean: 5.0, stdev: 2.0 });
        let squares: Vec<f32> = normal.iter().map(|v| (v - 5.0).powi(2)).collect();
        assert!((mean(&normal) - 5.0).abs() < 0.1);
        assert!((mean(&squares).sqrt() - 2.0).abs() < 0.1);
    }

    fn mean(values: &[f32]) -> f32 {
        values.iter().sum::<f32>() / values.len() as f32
    }
}
