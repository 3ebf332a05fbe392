//! State on disk: a restart goes on where it was saved, and a torn file costs one period, not the training.

use super::training::{INPUTS, OUTPUTS, Trained, distance, random};
use crate::kit::drain;
use crate::subject::{Learner, Learning};
use skep_runtime_core::Device;
use skep_toolkit::checkpoint::{CheckpointDir, Checkpointer, restore_all, save_all};
use std::fs;
use std::time::Duration;

fn losses<D: Device>(trained: &Trained<D>, steps: usize) -> Vec<f32> {
    let (x, target) = (random(2, 8 * INPUTS), random(3, 8 * OUTPUTS));
    (0..steps).map(|_| trained.step_towards(&x, &target)).collect()
}

/// A process that starts again goes on from the newest checkpoint with the same losses. When that one is
/// torn, it goes on from the one before.
pub fn a_restart_goes_on_from_the_newest_whole_file<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::AdamW);
    losses(&trained, 3);
    let older = save_all(trained.runtime.handle(), root.path(), 2).unwrap();
    let between = losses(&trained, 3);
    let newer = save_all(trained.runtime.handle(), root.path(), 2).unwrap();
    let after = losses(&trained, 3);
    drain(trained.runtime);

    let restarted = Trained::new::<L>(99, Learning::AdamW);
    assert_eq!(restore_all(restarted.runtime.handle(), root.path()).unwrap(), newer);
    assert!(distance(&losses(&restarted, 3), &after) < 1e-6, "from the newest");
    drain(restarted.runtime);

    let bytes = fs::read(&newer[0]).unwrap();
    fs::write(&newer[0], &bytes[..bytes.len() / 2]).unwrap();
    let restarted = Trained::new::<L>(99, Learning::AdamW);
    assert_eq!(restore_all(restarted.runtime.handle(), root.path()).unwrap(), older);
    assert!(distance(&losses(&restarted, 3), &between) < 1e-6, "from the one before");
    drain(restarted.runtime);
}

/// Files of another block's shape are refused, and the block keeps its state; no files at all are no error.
pub fn a_checkpoint_that_does_not_fit_changes_nothing<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::AdamW);
    assert!(restore_all(trained.runtime.handle(), root.path()).unwrap().is_empty());
    let before = trained.state();
    let mut other = before.clone();
    for tensor in other.parameters.values_mut() {
        *tensor = skep_runtime_core::HostTensor::from_f32(&[1], &[0.0]).unwrap();
    }
    CheckpointDir::create(root.path(), "ffn", 1).unwrap().save(&other).unwrap();
    assert!(restore_all(trained.runtime.handle(), root.path()).is_err());
    assert_eq!(trained.state(), before);
    drain(trained.runtime);
}

/// The thread that saves now and then ends with its owner, also long before its time comes, and refuses
/// settings that would keep nothing or never rest.
pub fn the_checkpointer_ends_with_its_owner<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::Off);
    let start = |keep, every| Checkpointer::start(trained.runtime.handle().clone(), root.path(), keep, every);
    assert!(start(0, Duration::from_secs(1)).is_err());
    assert!(start(1, Duration::ZERO).is_err());
    drop(start(1, Duration::from_secs(100_000)).unwrap());
    assert!(fs::read_dir(root.path()).unwrap().next().is_none(), "its time had not come");
    drain(trained.runtime);
}
