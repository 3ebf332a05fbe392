//! Whole runtimes: device thread, loader, sender and timer, on the fake device and a clock that stands still.

crate::programs! {
    no_ring_is_lost: 6,
    a_ring_meets_the_end_of_a_batch: 4,
    a_drain_runs_what_was_accepted: 4,
    a_drain_without_prefetch_runs_what_was_accepted: 2,
    a_drain_that_leaves_the_runtime_ends: 4,
    a_drain_leaves_no_deadline_untold: 3,
    outputs_are_copied_back: 4,
    an_abort_meets_callers: 4,
    an_abort_without_prefetch_meets_callers: 2,
    a_culprit_fails_alone: 3,
    a_culprit_is_found_on_the_way_back: 3,
    a_batch_that_is_taken_apart_is_counted_first: 3,
    an_abort_meets_a_failed_batch: 3,
    batches_that_do_not_fit_meet_callers: 3,
    a_part_that_need_not_run_lets_a_caller_in: 3,
    a_drop_meets_callers: 3,
    two_shutdowns_meet: 4,
    a_shutdown_meets_the_start: 2,
    a_limit_that_passes_meets_callers: 3,
    a_limit_that_passes_meets_deadlines: 3,
    deadlines_meet_the_device: 3,
    deadlines_meet_a_failed_batch: 3,
    a_state_is_asked_for_at_the_end: 2,
    a_device_dies_among_callers: 4,
    a_limit_meets_the_end_of_a_batch: 4,
    pools_change_hands: 4,
}

mod programs {
    use crate::rig::{
        CULPRIT, LARGE, LATE, LIMIT, MISSING, May, block, build, callers, join_all, kill, start, tickets,
    };
    use shuttle::thread::spawn;
    use skep_pool::Serve;
    use skep_runtime_core::testing::{FakeDevice, FakeTensor};
    use skep_runtime_core::{
        ControlError, DeviceLoss, Health, RuntimeBuilder, Shutdown, ShutdownError, TaskError, Ticket,
    };
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    fn drain(device: FakeDevice, prefetch: usize) {
        let (rig, runtime) = start(device, prefetch);
        let callers = callers(&rig, &[May::Succeed]);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    /// One task runs, and another is submitted just as its batch is over.
    pub(super) fn a_ring_meets_the_end_of_a_batch() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = rig.pools.clone().map(|pool| {
            spawn(move || pool.submit(vec![FakeTensor::rows(&[[1.0]])]).unwrap().wait().map(drop).unwrap())
        });
        join_all(callers.into());
        drop(runtime);
        rig.assert_reconciled();
    }

    /// Everybody is answered before anything else wakes the runtime's threads.
    pub(super) fn no_ring_is_lost() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        join_all(callers(&rig, &[May::Succeed]));
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn a_drain_runs_what_was_accepted() {
        drain(FakeDevice::new(), 1);
    }

    pub(super) fn a_drain_without_prefetch_runs_what_was_accepted() {
        drain(FakeDevice::new(), 0);
    }

    pub(super) fn outputs_are_copied_back() {
        drain(FakeDevice::new().remote(), 1);
    }

    /// The last task is answered, or cancelled, and whoever waits for that hears of it; then the state can be saved.
    pub(super) fn a_drain_that_leaves_the_runtime_ends() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed]);
        runtime.handle().drain(LIMIT).unwrap();
        for block in runtime.handle().blocks() {
            runtime.handle().state(&block.name).unwrap();
        }
        join_all(callers);
        drop(runtime);
        rig.assert_reconciled();
    }

    /// Whoever has seen a drain end finds all answers there, those of tasks that expired meanwhile too.
    pub(super) fn a_drain_leaves_no_deadline_untold() {
        let (rig, runtime) = start(FakeDevice::new(), 0);
        let tried = tickets(&rig, [1.0, 2.0], Some(LATE));
        let clock = Arc::clone(&rig.clock);
        let moving = spawn(move || clock.advance(LATE));
        runtime.handle().drain(LIMIT).unwrap();
        assert!(tried.iter().all(|tried| tried.ticket.is_done()), "a task has no answer");
        moving.join().unwrap();
        for tried in tried {
            tried.wait(&rig, &[May::Expire]);
        }
        drop(runtime);
        rig.assert_reconciled();
    }

    fn abort(prefetch: usize) {
        let (rig, runtime) = start(FakeDevice::new(), prefetch);
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        runtime.shutdown(Shutdown::Abort, LIMIT).unwrap();
        join_all(callers);
        rig.assert_reconciled();
    }

    pub(super) fn an_abort_meets_callers() {
        abort(1);
    }

    pub(super) fn an_abort_without_prefetch_meets_callers() {
        abort(0);
    }

    /// A batch that fails in a sender's hands is taken apart, although everybody else is asleep by then.
    pub(super) fn a_culprit_is_found_on_the_way_back() {
        let (rig, runtime) = build(FakeDevice::new().remote(), 1, None);
        // Before the start, so that they make one batch.
        let tried = tickets(&rig, [1.0, MISSING], None);
        let runtime = runtime.start().unwrap();
        for tried in tried {
            tried.wait(&rig, &[]);
        }
        drop(runtime);
        rig.assert_reconciled();
    }

    /// A batch fails in a sender's hands while the device has another one to run, and runs its halves as soon as it can:
    /// whoever has an answer of them finds the batch counted.
    pub(super) fn a_batch_that_is_taken_apart_is_counted_first() {
        let (rig, runtime) = build(FakeDevice::new(), 1, None);
        let tried = tickets(&rig, [1.0, MISSING], None);
        let running = rig.pools[1].submit(vec![FakeTensor::rows(&[[3.0]])]).unwrap();
        let runtime = runtime.start().unwrap();
        // The device thread answers the last half by itself, while the sender may still be at the whole.
        let [first, last] = tried;
        last.wait(&rig, &[]);
        assert_eq!(rig.answered.1.load(Ordering::Relaxed), 1, "batches that were taken apart");
        first.wait(&rig, &[]);
        running.wait().unwrap();
        drop(runtime);
        rig.assert_reconciled();
    }

    /// A batch fails while the runtime is aborted: no neighbour of the culprit is told that it failed.
    pub(super) fn an_abort_meets_a_failed_batch() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let tried = tickets(&rig, [1.0, CULPRIT], None);
        let handle = runtime.handle().clone();
        let aborting = spawn(move || handle.shutdown(Shutdown::Abort, LIMIT).unwrap());
        for tried in tried {
            tried.wait(&rig, &[May::BeShutDown]);
        }
        aborting.join().unwrap();
        drop(runtime);
        rig.assert_reconciled();
    }

    /// The device has no room for what callers go on submitting, and batches that are too large have been
    /// gathered ahead.
    pub(super) fn batches_that_do_not_fit_meet_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 2);
        let callers = callers(&rig, &[May::Succeed]);
        for tried in tickets(&rig, [LARGE, 5.0, LARGE], None) {
            tried.wait(&rig, &[]);
        }
        join_all(callers);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    /// The shutdown's time is up at once.
    pub(super) fn a_limit_that_passes_meets_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        let stopped = runtime.shutdown(Shutdown::Drain, Duration::ZERO);
        assert!(matches!(stopped, Ok(()) | Err(ShutdownError::LimitPassed { .. })), "{stopped:?}");
        join_all(callers);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    /// A batch that fails in the device's hands is taken apart, also while the runtime is drained.
    pub(super) fn a_culprit_fails_alone() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let pool = rig.pools[0].clone();
        let submit = |value: f32| pool.submit(vec![FakeTensor::rows(&[[value]])]).unwrap();
        let tickets = [submit(1.0), submit(CULPRIT), submit(2.0)];
        let draining = spawn({
            let handle = runtime.handle().clone();
            move || handle.shutdown(Shutdown::Drain, LIMIT).unwrap()
        });
        let [one, culprit, two] = tickets.map(Ticket::wait);
        assert_eq!(one.unwrap(), [FakeTensor::rows(&[[2.0]])]);
        assert!(matches!(culprit, Err(TaskError::Failed(_))));
        assert_eq!(two.unwrap(), [FakeTensor::rows(&[[4.0]])]);
        draining.join().unwrap();
        drop(runtime);
        rig.assert_reconciled();
    }

    /// Parts of a task that has failed leave the queue without being run, and callers wait for their room.
    pub(super) fn a_part_that_need_not_run_lets_a_caller_in() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let pool = rig.pools[1].clone();
        let doomed = pool.submit(vec![FakeTensor::rows(&[[CULPRIT], [1.0], [2.0], [3.0], [4.0]])]).unwrap();
        let waiting = spawn(move || pool.submit(vec![FakeTensor::rows(&[[1.0]])]).unwrap().wait().map(drop));
        assert!(matches!(doomed.wait(), Err(TaskError::Failed(_))));
        waiting.join().unwrap().unwrap();
        drop(runtime);
        rig.assert_reconciled();
    }

    pub(super) fn a_drop_meets_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        drop(runtime);
        join_all(callers);
        rig.assert_reconciled();
    }

    pub(super) fn two_shutdowns_meet() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        let handle = runtime.handle().clone();
        let draining = spawn(move || handle.shutdown(Shutdown::Drain, LIMIT).unwrap());
        runtime.shutdown(Shutdown::Abort, LIMIT).unwrap();
        draining.join().unwrap();
        join_all(callers);
        rig.assert_reconciled();
    }

    pub(super) fn a_shutdown_meets_the_start() {
        let (rig, runtime) = build(FakeDevice::new(), 1, None);
        let callers = callers(&rig, &[May::Succeed, May::BeShutDown]);
        let handle = runtime.handle().clone();
        let stopping = spawn(move || handle.shutdown(Shutdown::Drain, LIMIT).unwrap());
        drop(runtime.start());
        stopping.join().unwrap();
        join_all(callers);
        rig.assert_reconciled();
    }

    /// The shutdown's time is up at once, and so is the deadline of one of a batch's two tasks.
    pub(super) fn a_limit_that_passes_meets_deadlines() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let tried = tickets(&rig, [1.0], Some(LATE)).into_iter().chain(tickets(&rig, [2.0], None));
        let handle = runtime.handle().clone();
        let stopping = spawn(move || drop(handle.shutdown(Shutdown::Drain, Duration::ZERO)));
        rig.clock.advance(LATE);
        for tried in tried {
            tried.wait(&rig, &[May::BeShutDown, May::Expire]);
        }
        stopping.join().unwrap();
        runtime.shutdown(Shutdown::Abort, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    pub(super) fn deadlines_meet_the_device() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let callers = callers(&rig, &[May::Succeed, May::Expire]);
        rig.clock.advance(LATE);
        // Callers whose deadline counts from now on are served, for time stands still again.
        join_all(callers);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    /// Time passes while a batch is taken apart: what expires has not run, and what has run once does not expire.
    pub(super) fn deadlines_meet_a_failed_batch() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let tried = tickets(&rig, [1.0, CULPRIT, 2.0], Some(LATE));
        rig.clock.advance(LATE);
        for tried in tried {
            tried.wait(&rig, &[May::Expire]);
        }
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    pub(super) fn a_state_is_asked_for_at_the_end() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let handle = runtime.handle().clone();
        let asking = spawn(move || {
            let state = handle.state("one");
            assert!(matches!(state, Ok(_) | Err(ControlError::ShutDown)), "{state:?}");
        });
        runtime.shutdown(Shutdown::Abort, LIMIT).unwrap();
        asking.join().unwrap();
        rig.assert_reconciled();
    }

    /// Two tasks want to be the end of the device, and everybody hears of it.
    pub(super) fn a_device_dies_among_callers() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        let mut threads = callers(&rig, &[May::Succeed, May::BeLost]);
        threads.extend(rig.pools.each_ref().map(kill));
        join_all(threads);
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
        assert!(matches!(runtime.handle().health(), Health::Lost(DeviceLoss::Fatal(_))));
        drop(runtime);
        rig.assert_reconciled();
    }

    /// The limit of a batch passes just as it ends, or does not end yet.
    pub(super) fn a_limit_meets_the_end_of_a_batch() {
        let (rig, runtime) = build(FakeDevice::new(), 1, Some(LATE));
        let runtime = runtime.start().unwrap();
        let callers = callers(&rig, &[May::Succeed, May::BeLost]);
        rig.clock.advance(LATE);
        join_all(callers);
        let ended = runtime.shutdown(Shutdown::Drain, LIMIT);
        assert!(matches!(ended, Ok(()) | Err(ShutdownError::DeviceStuck { .. })), "{ended:?}");
        drop(runtime);
        rig.assert_reconciled();
    }

    /// Another runtime takes a pool over while the first one comes to its end, and callers are at it.
    pub(super) fn pools_change_hands() {
        let (rig, runtime) = start(FakeDevice::new(), 1);
        kill(&rig.pools[0]).join().unwrap();
        let mut builder = RuntimeBuilder::new(FakeDevice::new()).clock(Arc::clone(&rig.clock) as Arc<_>);
        for served in &rig.served {
            builder.take_over(block(&served.info.name, &rig.ran), served).unwrap();
        }
        let ending = spawn(move || drop(runtime));
        let calling = callers(&rig, &[May::Succeed, May::BeLost]);
        let second = builder.start().unwrap();
        let ticket = rig.pools[0].submit(vec![FakeTensor::rows(&[[5.0]])]).unwrap();
        assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[10.0]])]);
        join_all(calling);
        ending.join().unwrap();
        second.shutdown(Shutdown::Drain, LIMIT).unwrap();
    }
}
