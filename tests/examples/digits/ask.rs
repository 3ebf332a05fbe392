//! Callers: each shows the mixture a held-out image now and then, and wants to know at once what it is.

use crate::common::{Latencies, Result, skep};
use crate::data::Digits;
use crate::mixture::Mixture;
use crate::moving::Moving;
use crate::remote::Manner;
use skep::runtime::{Priority, SubmitError, TaskError};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Before everything that the trainers want, but not for longer than a caller would wait.
const MANNER: Manner = Manner { priority: Priority::URGENT, patience: Some(Duration::from_millis(250)) };

/// Between two questions of one caller.
const PAUSE: Duration = Duration::from_millis(5);

/// Every so many questions, a caller hangs up before the answer.
const HANGS_UP_EVERY: usize = 50;

/// Images per task when all of them are classified.
const ROWS: usize = 60;

/// What the callers share.
pub(crate) struct Callers<'a> {
    digits: &'a Digits,
    asked: AtomicUsize,
    right: Moving,
    stop: AtomicBool,
}

/// What became of one caller's questions.
#[derive(Default)]
pub(crate) struct Asked {
    /// From the question to the answer.
    pub(crate) latencies: Latencies,
    /// Questions that nobody waited for.
    pub(crate) hung_up: usize,
    /// Questions that were not answered in time.
    pub(crate) too_late: usize,
}

impl Asked {
    /// Adds what became of another caller's questions.
    pub(crate) fn merged(self, other: Self) -> Self {
        Self {
            latencies: self.latencies.merged(other.latencies),
            hung_up: self.hung_up + other.hung_up,
            too_late: self.too_late + other.too_late,
        }
    }
}

impl<'a> Callers<'a> {
    pub(crate) fn new(digits: &'a Digits) -> Self {
        let (asked, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { digits, asked, right: Moving::new(), stop }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The part of the last answers that was right.
    pub(crate) fn right(&self) -> f32 {
        self.right.mean()
    }

    /// The work of one caller, which records what became of it.
    pub(crate) fn ask(&self, mixture: &Mixture, asked: &mut Asked) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let question = self.asked.fetch_add(1, Ordering::Relaxed);
            let place = question % self.digits.len();
            let image = self.digits.images.pick(&[place]);
            if question % HANGS_UP_EVERY == HANGS_UP_EVERY - 1 {
                // The task is taken out of its queue, if it is still there.
                drop(mixture.gate.forward(&image, MANNER)?);
                asked.hung_up += 1;
                continue;
            }
            let start = Instant::now();
            match mixture.forward(&image, MANNER) {
                Ok(answer) => {
                    asked.latencies.record(start.elapsed());
                    let right = likeliest(answer.logits.row(0)) == self.digits.labels[place];
                    self.right.note(if right { 1.0 } else { 0.0 });
                }
                Err(error) if is_late(&*error) => asked.too_late += 1,
                Err(error) => return Err(error),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// How many of all images the mixture gets right. `None` when it was given up half-way.
pub(crate) fn count_right(
    mixture: &Mixture,
    digits: &Digits,
    given_up: impl Fn() -> bool,
) -> Result<Option<usize>> {
    let places: Vec<usize> = (0..digits.len()).collect();
    let mut right = 0;
    for places in places.chunks(ROWS) {
        if given_up() {
            return Ok(None);
        }
        let manner = Manner { patience: None, ..MANNER };
        let answer = mixture.forward(&digits.images.pick(places), manner)?;
        let answers = answer.logits.iter().map(likeliest);
        right +=
            places.iter().zip(answers).filter(|(place, answer)| digits.labels[**place] == *answer).count();
    }
    Ok(Some(right))
}

fn likeliest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(TaskError::Expired { .. }))
        || matches!(error.downcast_ref(), Some(SubmitError::DeadlinePassed))
}
