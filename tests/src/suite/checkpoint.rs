//! State on disk: a restart goes on where it was saved, and a torn file costs one period, not the training.

use super::training::{INPUTS, OUTPUTS, Trained, distance, random};
use crate::kit::{LIMIT, drain, new_builder, receive};
use crate::subject::{Learner, Learning};
use skep_pool::{Serve, ServeOptions};
use skep_runtime_core::Device;
use skep_toolkit::checkpoint::{
    CheckpointDir, CheckpointError, Checkpointer, restore_all, restore_partial, save_all,
};
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
    let save = || -> Vec<_> {
        let saved = save_all(trained.runtime.handle(), root.path(), 2).unwrap();
        saved.into_iter().map(|saved| saved.path).collect()
    };
    let older = save();
    let between = losses(&trained, 3);
    let newer = save();
    let after = losses(&trained, 3);
    drain(trained.runtime);

    let restarted = Trained::new::<L>(99, Learning::AdamW);
    assert_eq!(restore_all(restarted.runtime.handle(), root.path()).unwrap().unwrap(), newer);
    assert!(distance(&losses(&restarted, 3), &after) < 1e-6, "from the newest");
    drain(restarted.runtime);

    let bytes = fs::read(&newer[0]).unwrap();
    fs::write(&newer[0], &bytes[..bytes.len() / 2]).unwrap();
    let restarted = Trained::new::<L>(99, Learning::AdamW);
    assert_eq!(restore_all(restarted.runtime.handle(), root.path()).unwrap().unwrap(), older);
    assert!(distance(&losses(&restarted, 3), &between) < 1e-6, "from the one before");
    drain(restarted.runtime);
}

/// Files of another block's shape are refused, and the block keeps its state; no files at all are no error.
pub fn a_checkpoint_that_does_not_fit_changes_nothing<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::AdamW);
    assert!(restore_all(trained.runtime.handle(), root.path()).unwrap().is_none());
    let before = trained.state();
    let mut other = before.clone();
    for tensor in other.parameters.values_mut() {
        *tensor = skep_runtime_core::HostTensor::from_f32(&[1], &[0.0]).unwrap();
    }
    CheckpointDir::new(root.path(), "ffn", 1).unwrap().save(&other).unwrap();
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

/// It is asked for between the drain and the shutdown, and who asks waits no longer than they like.
pub fn the_last_state_is_saved_after_a_drain<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let handle = trained.runtime.handle().clone();
    let checkpointer =
        Checkpointer::start(handle.clone(), root.path(), 2, Duration::from_secs(100_000)).unwrap();
    trained.step_towards(&[0.5; 4], &[1.0; 3]);
    handle.drain(LIMIT).unwrap();
    let last = trained.state();
    let saved = checkpointer.save_now(LIMIT).unwrap();
    assert_eq!(saved.len(), 1);
    let newest = CheckpointDir::new(root.path(), "ffn", 2).unwrap().load().unwrap();
    assert_eq!(newest.found, Some((saved[0].path.clone(), last)));
    assert!(checkpointer.save_now(LIMIT).unwrap().is_empty(), "nothing has changed since");

    let (go_on, hold) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = std::sync::mpsc::channel();
    let of_block = handle.clone();
    let busy = std::thread::spawn(move || {
        of_block.with_block("ffn", move |_| {
            enter.send(()).unwrap();
            hold.recv().ok();
        })
    });
    receive(&entered);
    let error = checkpointer.save_now(Duration::ZERO).unwrap_err();
    assert!(matches!(error, CheckpointError::LimitPassed { .. }), "{error}");
    drop(go_on);
    busy.join().unwrap().unwrap();
    drop(checkpointer);
    drain(trained.runtime);
}

/// Whoever ends a checkpointer waits no longer than they like for a block that does not return, and what was begun is
/// finished when it does.
pub fn a_checkpointer_is_left_behind_with_a_block_that_hangs<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let trained = Trained::new::<L>(1, Learning::Off);
    let handle = trained.runtime.handle().clone();
    let checkpointer =
        Checkpointer::start(handle.clone(), root.path(), 2, Duration::from_secs(100_000)).unwrap();
    let (go_on, hold) = std::sync::mpsc::channel::<()>();
    let (enter, entered) = std::sync::mpsc::channel();
    let busy = std::thread::spawn(move || {
        handle.with_block("ffn", move |_| {
            enter.send(()).unwrap();
            hold.recv().ok();
        })
    });
    receive(&entered);
    let error = checkpointer.save_now(Duration::ZERO).unwrap_err();
    assert!(matches!(error, CheckpointError::LimitPassed { .. }), "{error}");
    let error = checkpointer.stop(Duration::ZERO).unwrap_err();
    assert!(matches!(error, CheckpointError::LimitPassed { .. }), "{error}");
    drop(go_on);
    busy.join().unwrap().unwrap();
    drain(trained.runtime);
}

/// Blocks and files must be the same ones, and fit to the last part, or nothing is restored; what fits is taken when that
/// is asked for. "There is nothing yet" is an answer of its own. Nothing is made by reading.
pub fn blocks_and_files_must_be_the_same_ones<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let below = root.path().join("not there");
    let trained = Trained::new::<L>(1, Learning::AdamW);
    let handle = trained.runtime.handle();
    assert!(restore_all(handle, &below).unwrap().is_none());
    assert!(restore_partial(handle, &below).unwrap()[0].path.is_none());
    assert!(!below.exists());

    let before = trained.state();
    let other = CheckpointDir::new(root.path(), "renamed", 2).unwrap();
    other.save(&before).unwrap();
    let message = restore_all(handle, root.path()).unwrap_err().to_string();
    assert!(message.contains(r#"no checkpoint for ["ffn"], no block for ["block-renamed"]"#), "{message}");

    fs::remove_dir_all(other.path()).unwrap();
    let mut foreign = before.clone();
    let weight = foreign.parameters.remove("fc1.weight").unwrap();
    foreign.parameters.insert("dense.weight".to_owned(), weight);
    let path = CheckpointDir::new(root.path(), "ffn", 2).unwrap().save(&foreign).unwrap().path;
    let error = restore_all(handle, root.path()).unwrap_err();
    let message = skep_runtime_core::Chain(&error).to_string();
    assert!(message.contains("fc1.weight") && message.contains("dense.weight"), "{message}");
    let restored = restore_partial(handle, root.path()).unwrap();
    assert_eq!(restored[0].unmatched.missing, ["fc1.weight"]);
    assert_eq!(restored[0].unmatched.unknown, ["dense.weight"]);
    assert_eq!(trained.state(), before);

    fs::write(&path, b"torn").unwrap();
    let error = restore_all(handle, root.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Unreadable { block, .. } if block == "ffn"), "{error}");
    drain(trained.runtime);
}

/// Each block that can be saved is, and the error names the others. A block that has not changed is not written again.
pub fn blocks_are_saved_one_by_one<L: Learner>() {
    let root = tempfile::tempdir().unwrap();
    let (mut builder, _) = new_builder(L::device(), 1);
    for name in ["first", "second", "third"] {
        builder.serve(L::ffn(name, 1, Learning::AdamW), ServeOptions::default()).unwrap();
    }
    let runtime = builder.start().unwrap();
    let files = |block: &str| CheckpointDir::new(root.path(), block, 1).unwrap().path().to_owned();
    // A file where a folder should be.
    fs::write(files("second"), b"").unwrap();
    let error = save_all(runtime.handle(), root.path(), 1).unwrap_err();
    match &error {
        CheckpointError::Blocks { saved, failed, .. } => {
            assert_eq!((saved.len(), failed.len(), &*failed[0].0), (2, 1, "second"));
        }
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains(r#"1 of 3 blocks were not saved: ["second"]"#), "{error}");
    fs::remove_file(files("second")).unwrap();
    let unchanged: Vec<bool> =
        save_all(runtime.handle(), root.path(), 1).unwrap().iter().map(|saved| saved.unchanged).collect();
    assert_eq!(unchanged, [true, false, true]);
    drain(runtime);
}
