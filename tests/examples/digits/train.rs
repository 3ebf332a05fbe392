//! Trainers: each takes the next few images, asks the mixture, computes the loss itself, and sends the
//! gradients back.
//!
//! No trainer waits for another. What they send meanwhile is joined into one batch per block, and so into one
//! step.

use crate::common::{Latencies, Result, skep};
use crate::data::{Digits, moved};
use crate::mixture::{Mixture, softmax};
use crate::moving::Moving;
use crate::remote::Manner;
use crate::rows::Rows;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use skep::runtime::Priority;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Images that a trainer takes at once.
const ROWS: usize = 32;

/// Where a digit may stand beside where it stood.
const NUDGES: [(isize, isize); 8] = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)];
/// How many of the images are shown there: a digit should be known by its form, not by its place.
const NUDGED: f64 = 0.5;

const MANNER: Manner = Manner { priority: Priority::NORMAL, patience: None };

/// What the trainers share: the order of the images, and how far they are.
pub(crate) struct Course<'a> {
    digits: &'a Digits,
    seed: u64,
    /// All images once per epoch, in another order each time.
    order: Vec<usize>,
    next: AtomicUsize,
    stop: AtomicBool,
    loss: Moving,
}

impl<'a> Course<'a> {
    /// The same seed gives the same order. Which trainer takes which part of it is up to the scheduler, so
    /// two runs come out alike but not equal.
    pub(crate) fn new(digits: &'a Digits, epochs: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut order = Vec::with_capacity(epochs * digits.len());
        let mut epoch: Vec<usize> = (0..digits.len()).collect();
        for _ in 0..epochs {
            epoch.shuffle(&mut random);
            order.extend(&epoch);
        }
        let (next, stop, loss) = (AtomicUsize::new(0), AtomicBool::new(false), Moving::new());
        Self { digits, seed, order, next, stop, loss }
    }

    pub(crate) fn steps(&self) -> usize {
        self.order.len().div_ceil(ROWS)
    }

    /// Steps that have been begun.
    pub(crate) fn begun(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.steps())
    }

    /// Of the last steps.
    pub(crate) fn loss(&self) -> f32 {
        self.loss.mean()
    }

    /// Lets every trainer finish the step that it is in.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The work of one trainer, which records how long the mixture took to answer. When it fails, the others
    /// stop too.
    pub(crate) fn train(&self, mixture: &Mixture, latencies: &mut Latencies) -> Result<()> {
        self.take_steps(mixture, latencies).inspect_err(|_| self.stop())
    }

    fn take_steps(&self, mixture: &Mixture, latencies: &mut Latencies) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let step = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(places) = self.order.chunks(ROWS).nth(step) else { break };
            let images = self.nudged(step, self.digits.images.pick(places));

            let asked = Instant::now();
            let answer = mixture.forward(&images, MANNER)?;
            latencies.record(asked.elapsed());

            let labels = places.iter().map(|&place| self.digits.labels[place]);
            let (loss, gradients) = cross_entropy(&answer.logits, labels);
            mixture.backward(&images, &answer, &gradients, MANNER)?;
            self.loss.note(loss);
        }
        Ok(())
    }

    /// Some of the images a pixel to the side, others each time.
    fn nudged(&self, step: usize, mut images: Rows) -> Rows {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(step as u64));
        for at in 0..images.count() {
            if random.random_bool(NUDGED)
                && let Some(&nudge) = NUDGES.choose(&mut random)
            {
                let image = moved(images.row(at), nudge);
                images.row_mut(at).copy_from_slice(&image);
            }
        }
        images
    }
}

/// The mean cross-entropy of the softmax of `logits`, and its gradients by them: `(softmax - one hot) /
/// rows`.
///
/// The mean is over this trainer's rows. Where two trainers' rows meet in one batch, the block sees the sum
/// of their gradients; the optimizer is indifferent to their scale.
fn cross_entropy(logits: &Rows, labels: impl Iterator<Item = usize>) -> (f32, Rows) {
    let rows = logits.count() as f32;
    let mut gradients = Rows::zeros(0, logits.width);
    let mut loss = 0.0;
    for (logits, label) in logits.iter().zip(labels) {
        let mut likely = softmax(logits.iter().copied());
        loss -= likely[label].max(f32::MIN_POSITIVE).ln() / rows;
        likely[label] -= 1.0;
        gradients.values.extend(likely.iter().map(|p| p / rows));
    }
    (loss, gradients)
}
