//! Faults, and the moments at which they come, drawn from a seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One way in which a block or a device can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
    /// It takes its time, and then works.
    Slow,
    /// It works once everything that was to be done by then is too late.
    Hang,
    /// It gives one row or one part too few.
    WrongRows,
    /// It gives no outputs.
    WrongOutputs,
    /// It gives values that are no numbers.
    NonFinite,
    /// It says that it has no room.
    OutOfMemory,
}

impl Fault {
    /// All that can be wrong with a task's own inputs, at the position by which a row names it. 0 is none.
    const DOOMS: [Option<Self>; 7] = [
        None,
        Some(Self::Error),
        Some(Self::Panic),
        Some(Self::WrongRows),
        Some(Self::WrongOutputs),
        Some(Self::NonFinite),
        Some(Self::OutOfMemory),
    ];

    /// Returns the value by which a row says what it does to the block.
    pub(super) fn to_value(doom: Option<Self>) -> f32 {
        (0u8..).zip(Self::DOOMS).find(|(_, known)| *known == doom).map_or(0.0, |(code, _)| f32::from(code))
    }

    /// Reverses [`to_value`](Self::to_value).
    pub(super) fn from_value(value: f32) -> Option<Self> {
        (0u8..)
            .zip(Self::DOOMS)
            .find(|(code, _)| f32::from(*code).to_bits() == value.to_bits())
            .and_then(|(_, doom)| doom)
    }

    /// Draws the doom of a task, each with the probability `rate`.
    pub(super) fn doom(rng: &mut StdRng, rate: f64) -> Option<Self> {
        pick(&Self::DOOMS[1..], rng.random(), rate).flatten()
    }
}

/// Draws faults, each with the same probability. The result of the n-th draw depends on the seed alone; the thread
/// that does it does not.
pub struct Faults {
    seed: u64,
    drawn: AtomicU64,
    rate: f64,
}

impl Faults {
    /// Creates a source of faults, each of which comes with the probability `rate`.
    pub fn new(seed: u64, rate: f64) -> Self {
        Self { seed, drawn: AtomicU64::new(0), rate }
    }

    /// Returns the one of `faults` that happens now, if any.
    pub fn draw(&self, faults: &[Fault]) -> Option<Fault> {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(number));
        pick(faults, rng.random(), self.rate)
    }
}

/// Returns the one of `choices`, each of which has the probability `rate`, that the point `at` in `0..1` falls on.
fn pick<T: Copy>(choices: &[T], at: f64, rate: f64) -> Option<T> {
    let mut ends = (1u32..).map(|n| f64::from(n) * rate);
    choices.iter().copied().find(|_| ends.next().is_some_and(|end| at < end))
}

/// The latest deadline of a task, counted from its submission.
pub(super) const LATEST: Duration = Duration::from_millis(3);

impl Fault {
    /// Takes the time that [`Slow`](Self::Slow) and [`Hang`](Self::Hang) take before they work.
    pub(crate) fn dawdle(self) {
        match self {
            Self::Slow => std::thread::sleep(LATEST / 10),
            Self::Hang => std::thread::sleep(LATEST),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dooms_survive_a_row() {
        for doom in Fault::DOOMS {
            assert_eq!(Fault::from_value(Fault::to_value(doom)), doom);
        }
        assert_eq!(Fault::from_value(99.0), None);
    }

    #[test]
    fn each_fault_comes_at_its_rate_and_the_same_for_a_seed() {
        let all = [Fault::Error, Fault::Panic];
        let draw = |seed| {
            let faults = Faults::new(seed, 0.25);
            (0..4000).map(|_| faults.draw(&all)).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        for fault in all {
            let count = drawn.iter().filter(|drawn| **drawn == Some(fault)).count();
            assert!((800..1200).contains(&count), "{count} of 4000 at a rate of 0.25");
        }
        assert_eq!(Faults::new(1, 0.0).draw(&all), None);
        assert!(Faults::new(1, 1.0).draw(&all) == Some(Fault::Error));
    }
}
