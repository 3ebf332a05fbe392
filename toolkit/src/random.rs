//! Random numbers that a restarted training draws again.
//!
//! What is drawn in a training step depends on the block's seed, the number of steps before, and the place of the draw in
//! the step. A state carries the first two, so a training that was killed goes on as if it had not been.

use std::sync::atomic::{AtomicU64, Ordering};

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    /// Begins with numbers that depend on the seed and the name only.
    pub(crate) fn named(seed: u64, name: &str) -> Self {
        let mut random = Self(seed);
        for byte in name.bytes() {
            random = Self(random.next() ^ u64::from(byte));
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..1`, of 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Where the random numbers of a training step come from, for a library's layers: the same ones whenever the step is
/// taken again.
#[derive(Debug, Default)]
pub struct Draws {
    seed: AtomicU64,
    /// Draws since the seed was set.
    count: AtomicU64,
}

impl Draws {
    /// Begins a step, with a seed of its own.
    pub fn begin(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
    }

    /// Returns the seed of the step, for generators of a library's own.
    pub fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    /// Returns `count` numbers for dropout: `1 / (1 - probability)` for an element that is kept, and 0 with this
    /// probability.
    pub fn dropout(&self, probability: f64, count: usize) -> Vec<f32> {
        let draw = self.count.fetch_add(1, Ordering::Relaxed);
        let mut random = SplitMix(SplitMix(self.seed()).next() ^ draw);
        // The next state would be that of the next draw.
        random = SplitMix(random.next());
        #[expect(clippy::cast_possible_truncation, reason = "elements are f32")]
        let kept = (1.0 / (1.0 - probability)) as f32;
        (0..count).map(|_| if random.unit() < probability { 0.0 } else { kept }).collect()
    }
}

/// The seed of the step after so many others of a block with this seed.
pub(crate) fn seed_of_step(seed: u64, steps: u64) -> u64 {
    SplitMix(SplitMix(seed).next() ^ steps).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix(1_234_567);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_step_that_is_taken_again_draws_the_same() {
        let draws = Draws::default();
        let step = |seed| {
            draws.begin(seed);
            [draws.dropout(0.5, 64), draws.dropout(0.5, 64)]
        };
        let [first, second] = step(3);
        assert_eq!(step(3), [first.clone(), second.clone()]);
        assert!(first != second && step(4) != [first, second]);
        assert_eq!(seed_of_step(1, 2), seed_of_step(1, 2));
        assert!(seed_of_step(1, 2) != seed_of_step(1, 3) && seed_of_step(1, 2) != seed_of_step(2, 2));
    }

    #[test]
    fn as_many_are_dropped_as_asked() {
        let draws = Draws::default();
        let values = draws.dropout(0.25, 100_000);
        let dropped = values.iter().filter(|v| **v == 0.0).count();
        assert!((24_500..25_500).contains(&dropped), "{dropped}");
        assert!(values.iter().all(|v| *v == 0.0 || (*v - 4.0 / 3.0).abs() < 1e-6));
        assert_eq!(draws.dropout(0.0, 3), [1.0; 3]);
    }
}
