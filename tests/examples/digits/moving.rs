//! How things stand at the moment, for the progress line.

use std::sync::{Mutex, PoisonError};

/// How much the latest value counts.
const WEIGHT: f32 = 0.02;

/// The mean of some values, the later ones weighing more. Not a number before the first.
pub(crate) struct Moving(Mutex<f32>);

impl Moving {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(f32::NAN))
    }

    pub(crate) fn note(&self, value: f32) {
        let mut mean = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *mean = if mean.is_nan() { value } else { *mean + WEIGHT * (value - *mean) };
    }

    pub(crate) fn mean(&self) -> f32 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
