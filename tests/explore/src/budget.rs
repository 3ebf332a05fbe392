//! Two blocks of which one has room on the device at a time.

crate::programs! {
    blocks_take_turns_among_callers: 4,
    an_abort_meets_blocks_that_take_turns: 3,
    a_block_that_is_off_leaves_among_callers: 4,
    a_block_that_is_off_is_replaced_among_callers: 3,
    work_with_a_block_that_is_off_meets_callers: 3,
    the_device_dies_while_blocks_take_turns: 3,
}

mod programs {
    use crate::rig::{LIMIT, May, block, callers, join_all, kill, start_turns};
    use shuttle::rand::{Rng, thread_rng};
    use shuttle::thread::spawn;
    use skep_runtime_core::sync::Mutex;
    use skep_runtime_core::testing::{FakeDevice, FakeTensor};
    use skep_runtime_core::{ControlError, Reload, RunningRuntime, Shutdown};
    use std::sync::Arc;

    fn start() -> (crate::rig::Rig, RunningRuntime<FakeDevice>) {
        let device = FakeDevice::new();
        let is_host = thread_rng().gen_bool(0.5);
        start_turns(if is_host { device } else { device.remote() }, thread_rng().gen_range(0..2))
    }

    /// Everything that was accepted runs, once, and a drain ends.
    pub(super) fn blocks_take_turns_among_callers() {
        let (rig, runtime) = start();
        let callers = callers(&rig, &[May::Succeed]);
        if thread_rng().gen_bool(0.5) {
            join_all(callers);
            runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        } else {
            runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
            join_all(callers);
        }
        drop(runtime);
        rig.assert_reconciled();
        let ran = rig.ran.lock();
        for row in ran.iter() {
            assert_eq!(ran.iter().filter(|other| *other == row).count(), 1, "{ran:?}");
        }
    }

    pub(super) fn an_abort_meets_blocks_that_take_turns() {
        let (rig, runtime) = start();
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        runtime.shutdown(Shutdown::Abort, LIMIT).unwrap();
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn a_block_that_is_off_leaves_among_callers() {
        let (rig, runtime) = start();
        let callers = callers(&rig, &[May::Succeed, May::FindNobody]);
        for name in ["two", "one"] {
            runtime.handle().remove(name, Shutdown::Drain, LIMIT).unwrap();
        }
        assert!(runtime.handle().pools().is_empty());
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    /// Wherever it is at that moment: after it, answers are of the new one.
    pub(super) fn a_block_that_is_off_is_replaced_among_callers() {
        let (rig, runtime) = start();
        let callers = callers(&rig, &[May::Succeed]);
        let (ran, new) = (Arc::clone(&rig.ran), Arc::new(Mutex::new(Vec::new())));
        let of_new = Arc::clone(&new);
        let by = Reload::new(move || Ok(block("new", &of_new))).bytes(10);
        runtime.handle().replace_reloadable("two", by).unwrap();
        let ticket = rig.pools[1].submit(vec![FakeTensor::rows(&[[40.0]])]).unwrap();
        assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[80.0]])]);
        assert!(new.lock().contains(&40.0) && !ran.lock().contains(&40.0));
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn work_with_a_block_that_is_off_meets_callers() {
        let (rig, runtime) = start();
        let callers = callers(&rig, &[May::Succeed, May::FindNobody]);
        let handle = runtime.handle().clone();
        let asking = spawn(move || match handle.state("two") {
            Ok(_) | Err(ControlError::UnknownBlock { .. }) => {}
            Err(other) => panic!("no work should end like this: {other}"),
        });
        runtime.handle().state("one").unwrap();
        runtime.handle().remove("two", Shutdown::Drain, LIMIT).unwrap();
        asking.join().unwrap();
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn the_device_dies_while_blocks_take_turns() {
        let (rig, runtime) = start();
        let mut threads = callers(&rig, &[May::Succeed, May::BeLost]);
        threads.push(kill(&rig.pools[0]));
        let handle = runtime.handle().clone();
        threads.push(spawn(move || match handle.state("two") {
            Ok(_) | Err(ControlError::DeviceLost(_)) => {}
            Err(other) => panic!("no work should end like this: {other}"),
        }));
        join_all(threads);
        drop(runtime);
        rig.assert_reconciled();
    }
}
