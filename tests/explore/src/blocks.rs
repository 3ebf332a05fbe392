//! Blocks that come to running runtimes, are replaced, and leave.

crate::programs! {
    a_block_leaves_among_callers: 4,
    an_abort_of_one_block_meets_callers: 3,
    a_limit_for_a_block_meets_callers: 3,
    tasks_that_a_block_leaves_behind_are_counted: 4,
    a_block_comes_among_callers: 4,
    a_block_is_replaced_among_callers: 4,
    a_block_leaves_while_the_runtime_ends: 3,
    a_block_leaves_while_the_device_dies: 3,
}

mod programs {
    use crate::rig::{LIMIT, May, block, callers, join_all, kill, start};
    use shuttle::thread::spawn;
    use skep_pool::{Serve, ServeMore, ServeOptions};
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    use skep_runtime_core::{ControlError, Shutdown, StartError, SubmitError};
    use std::sync::Arc;
    use std::time::Duration;

    /// Blocks leave while callers are at it: what was accepted runs, or is cancelled.
    pub(super) fn a_block_leaves_among_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::FindNobody]);
        for name in ["two", "one"] {
            runtime.handle().remove(name, Shutdown::Drain, LIMIT).unwrap();
        }
        assert!(runtime.handle().pools().is_empty());
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn an_abort_of_one_block_meets_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::FindNobody, May::BeRemoved]);
        runtime.handle().remove("two", Shutdown::Abort, LIMIT).unwrap();
        join_all(callers);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    /// The time for it is up at once, and its name is given again.
    pub(super) fn a_limit_for_a_block_meets_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::FindNobody, May::BeRemoved]);
        let left = runtime.handle().remove("two", Shutdown::Drain, Duration::ZERO);
        assert!(matches!(left, Ok(()) | Err(ControlError::LimitPassed { .. })), "{left:?}");
        let again = runtime.handle().serve(block("two", &rig.ran), ServeOptions::default()).unwrap();
        let ticket = again.forward.submit(vec![FakeTensor::rows(&[[4.0]])]).unwrap();
        assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[8.0]])]);
        join_all(callers);
        drop(runtime);
    }

    /// What is given up when the time is up is counted before the pool is gone from the accounts.
    pub(super) fn tasks_that_a_block_leaves_behind_are_counted() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::FindNobody, May::BeRemoved]);
        let left = runtime.handle().remove("two", Shutdown::Drain, Duration::ZERO);
        assert!(matches!(left, Ok(()) | Err(ControlError::LimitPassed { .. })), "{left:?}");
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    /// A block comes, two threads use it, and it leaves after one of them.
    pub(super) fn a_block_comes_among_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed]);
        for _ in 0..2 {
            let served = runtime.handle().serve(block("three", &rig.ran), ServeOptions::default()).unwrap();
            let pool = served.forward.clone();
            let other = spawn(move || match pool.submit(vec![FakeTensor::rows(&[[6.0]])]) {
                Ok(ticket) => assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[12.0]])]),
                Err(refused) => assert!(matches!(refused.error, SubmitError::Removed)),
            });
            let ticket = served.forward.submit(vec![FakeTensor::rows(&[[7.0]])]).unwrap();
            runtime.handle().remove("three", Shutdown::Drain, LIMIT).unwrap();
            assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[14.0]])]);
            other.join().unwrap();
        }
        join_all(callers);
        drop(runtime);
    }

    /// Answers are of the old block or of the new one, and of the new one once it is there.
    pub(super) fn a_block_is_replaced_among_callers() {
        let (rig, runtime) = start(FakeDevice::new().remote(), 1);
        let pool = rig.pools[0].clone();
        let calling = spawn(move || {
            let got = pool.submit(vec![FakeTensor::rows(&[[1.0]])]).unwrap().wait().unwrap();
            assert!([2.0, 5.0].contains(&got[0].values()[0]));
        });
        let early = rig.pools[0].submit(vec![FakeTensor::rows(&[[2.0]])]).unwrap();
        let by = FnBlock::rows("new", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 5.0 * v)]));
        runtime.handle().replace("one", by).unwrap();
        match early.wait_timeout(Duration::ZERO) {
            Ok(result) => assert!([4.0, 10.0].contains(&result.unwrap()[0].values()[0])),
            // It was not answered before, so it is the new one's.
            Err(early) => assert_eq!(early.wait().unwrap(), [FakeTensor::rows(&[[10.0]])]),
        }
        let late = rig.pools[0].submit(vec![FakeTensor::rows(&[[3.0]])]).unwrap();
        assert_eq!(late.wait().unwrap(), [FakeTensor::rows(&[[15.0]])]);
        calling.join().unwrap();
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn a_block_leaves_while_the_runtime_ends() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::FindNobody]);
        let handle = runtime.handle().clone();
        let leaving = spawn(move || {
            let left = handle.remove("two", Shutdown::Drain, LIMIT);
            assert!(matches!(left, Ok(()) | Err(ControlError::ShutDown)), "{left:?}");
            let late = handle.serve(block("three", &Arc::default()), ServeOptions::default()).map(drop);
            assert!(matches!(late, Ok(()) | Err(StartError::ShutDown)), "{late:?}");
        });
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        leaving.join().unwrap();
        join_all(callers);
        rig.assert_reconciled();
    }

    pub(super) fn a_block_leaves_while_the_device_dies() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let mut threads = callers(&rig, &[May::Succeed, May::FindNobody, May::BeLost]);
        threads.push(kill(&rig.pools[0]));
        let left = runtime.handle().remove("two", Shutdown::Drain, LIMIT);
        assert!(matches!(left, Ok(()) | Err(ControlError::DeviceLost(_))), "{left:?}");
        join_all(threads);
        let lost = runtime.handle().serve(block("three", &rig.ran), ServeOptions::default()).map(drop);
        assert!(matches!(lost, Err(StartError::DeviceLost(_))), "{lost:?}");
        drop(runtime);
        rig.assert_reconciled();
    }
}
