//! The trial of a batch that was taken apart: whose fault was it?

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The outcomes so far of a batch that was taken apart.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    failed_alone: AtomicUsize,
    succeeded: AtomicBool,
}

impl Trial {
    /// How many tasks may fail alone while no half of their batch succeeds, before the block is taken to be
    /// broken. Going on would run a block that fails whatever it is given twice for each task.
    const PATIENCE: usize = 8;

    /// Notes a half that succeeded.
    pub(crate) fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Notes a task that failed alone.
    pub(crate) fn failed_alone(&self) {
        self.failed_alone.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns true if the fault seems to be the block's and not any task's.
    pub(crate) fn is_hopeless(&self) -> bool {
        !self.succeeded.load(Ordering::Relaxed) && self.failed_alone.load(Ordering::Relaxed) >= Self::PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_hopeless_when_many_fail_alone_and_nothing_succeeds() {
        let trial = Trial::default();
        (0..Trial::PATIENCE).for_each(|_| trial.failed_alone());
        assert!(trial.is_hopeless());
        trial.succeeded();
        assert!(!trial.is_hopeless());
    }
}
