//! The trial of a batch that was taken apart: whose fault was it?

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The outcomes so far of a batch that was taken apart.
#[derive(Debug)]
pub(crate) struct Trial {
    tasks: usize,
    /// The last batch of the pool failed task by task: the block may be broken.
    in_doubt: bool,
    failed_alone: AtomicUsize,
    succeeded: AtomicBool,
}

impl Trial {
    /// How many tasks, spread over the batch, are tried alone if the block may be broken: going on would run a block
    /// that fails whatever it is given twice for each task. A smaller batch casts no doubt on it either.
    pub(crate) const PROBES: usize = 8;

    pub(crate) fn new(tasks: usize, in_doubt: bool) -> Self {
        Self { tasks, in_doubt, failed_alone: AtomicUsize::new(0), succeeded: AtomicBool::new(false) }
    }

    /// Notes a half that succeeded.
    pub(crate) fn succeeded(&self) {
        self.succeeded.store(true, Ordering::Relaxed);
    }

    /// Notes a task that failed alone. Returns true if each task of the batch has, so that the block may be broken.
    pub(crate) fn failed_alone(&self) -> bool {
        let failed = self.failed_alone.fetch_add(1, Ordering::Relaxed) + 1;
        failed >= self.tasks.max(Self::PROBES) && !self.succeeded.load(Ordering::Relaxed)
    }

    /// Returns true if the fault seems to be the block's and not any task's.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.in_doubt
            && !self.succeeded.load(Ordering::Relaxed)
            && self.failed_alone.load(Ordering::Relaxed) >= Self::PROBES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_in_doubt_once_every_task_of_a_batch_has_failed_alone() {
        let trial = Trial::new(9, false);
        assert_eq!((0..9).map(|_| trial.failed_alone()).filter(|doubt| *doubt).count(), 1);
        assert!(!trial.is_hopeless(), "every task was tried");
        let trial = Trial::new(9, false);
        trial.succeeded();
        assert!(!(0..9).any(|_| trial.failed_alone()));
        let few = Trial::new(3, false);
        assert!(!(0..3).any(|_| few.failed_alone()), "three tasks are no proof");
    }

    #[test]
    fn a_trial_in_doubt_is_hopeless_when_its_probes_fail() {
        let trial = Trial::new(64, true);
        for _ in 0..Trial::PROBES {
            assert!(!trial.is_hopeless());
            trial.failed_alone();
        }
        assert!(trial.is_hopeless());
        trial.succeeded();
        assert!(!trial.is_hopeless());
    }
}
