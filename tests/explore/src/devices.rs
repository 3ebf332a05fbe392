//! Several devices that feed from the same pools, of which some are lost.

crate::programs! {
    one_of_two_devices_dies_among_callers: 4,
    one_of_two_devices_dies_in_its_block: 4,
    one_of_two_devices_dies_on_the_way_back: 4,
    one_of_two_devices_dies_twice: 4,
    one_of_two_devices_dies_while_a_batch_is_taken_apart: 4,
    one_of_two_devices_hangs_among_callers: 4,
    one_of_two_devices_dies_with_parts_of_tasks: 4,
    one_of_two_devices_hangs_with_parts_of_tasks: 4,
    both_devices_die_among_callers: 4,
    a_device_dies_while_all_drain: 4,
    a_device_dies_while_the_block_of_another_leaves: 4,
    a_device_takes_the_place_of_one_that_dies: 4,
    one_of_two_runtimes_ends_among_callers: 3,
}

mod programs {
    use crate::rig::{CULPRIT, LATE, LIMIT, May, Rig, block, build_shared, callers, join_all, start_shared};
    use shuttle::thread::{JoinHandle, spawn};
    use skep_pool::{Serve, ServeMore};
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    use skep_runtime_core::{
        DeviceError, RunningRuntime, RuntimeBuilder, Shutdown, ShutdownError, StartError, TaskError,
    };
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    type Running = RunningRuntime<FakeDevice>;

    /// A further runtime on the clock of a rig, of which it is one.
    fn builder(rig: &Rig, device: FakeDevice, prefetch: usize) -> RuntimeBuilder<FakeDevice> {
        RuntimeBuilder::new(device)
            .prefetch(prefetch)
            .hand_over(Duration::ZERO)
            .clock(Arc::clone(&rig.clock) as Arc<_>)
            .policy(Arc::clone(&rig.order))
            .observer(Arc::clone(&rig.answered) as Arc<_>)
    }

    /// A second device beside that of a rig, with its pools.
    fn join(rig: &mut Rig, device: FakeDevice, prefetch: usize, limit: Option<Duration>) -> Running {
        let mut builder = builder(rig, device, prefetch);
        if let Some(limit) = limit {
            builder = builder.batch_limit(limit);
        }
        for served in &rig.served {
            builder.join(block(&served.info.name, &rig.ran), served).unwrap();
        }
        let second = builder.start().unwrap();
        rig.meters.extend(second.handle().pools());
        second
    }

    /// Where a device dies.
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Gather,
        Scatter,
        Anywhere,
    }

    /// A device that dies in an operation once it is told to. Outputs go through a sender.
    fn mortal(at: At) -> (FakeDevice, Arc<AtomicBool>) {
        let dead = Arc::new(AtomicBool::new(false));
        let dies = |other: At| {
            let dead = Arc::clone(&dead);
            move |_: &[FakeTensor]| {
                if at != other && dead.load(Ordering::SeqCst) { Err(fatal()) } else { Ok(()) }
            }
        };
        let device = FakeDevice::new().on_gather(dies(At::Scatter)).on_scatter(dies(At::Gather));
        (if at == At::Gather { device } else { device.remote() }, dead)
    }

    fn fatal() -> DeviceError {
        DeviceError::Fatal { device: "fake".to_owned(), message: String::new() }
    }

    /// Callers of a task each, by value, who get the answer of a device that lives.
    fn more<const N: usize>(rig: &Rig, values: [f32; N]) -> Vec<JoinHandle<()>> {
        let callers = values.map(|value| {
            let pool = rig.pools[0].clone();
            spawn(move || {
                let ticket = pool.submit(vec![FakeTensor::rows(&[[value]])]).unwrap();
                assert_eq!(ticket.wait().unwrap(), [FakeTensor::rows(&[[2.0 * value]])]);
            })
        });
        callers.into()
    }

    /// The first device is gone, and the second one has done the rest.
    fn end(rig: &Rig, first: Running, second: &Running) {
        first.shutdown(Shutdown::Drain, LIMIT).unwrap();
        drop(first);
        second.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
        rig.assert_ran_again_once();
    }

    impl Rig {
        /// No task ran more often than on the device that was lost and on another one.
        fn assert_ran_again_once(&self) {
            let ran = self.ran.lock();
            for row in ran.iter() {
                assert!(ran.iter().filter(|other| *other == row).count() <= 2, "{ran:?}");
            }
        }
    }

    fn dies(at: At) {
        let (device, dead) = mortal(at);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let mut threads = callers(&rig, &[May::Succeed]);
        threads.extend(more(&rig, [5.0, 6.0]));
        dead.store(true, Ordering::SeqCst);
        join_all(threads);
        end(&rig, first, &second);
    }

    /// One of two devices dies, and nobody hears of it.
    pub(super) fn one_of_two_devices_dies_among_callers() {
        dies(At::Gather);
    }

    /// It dies where its sender is, while it runs and gathers others.
    pub(super) fn one_of_two_devices_dies_on_the_way_back() {
        dies(At::Scatter);
    }

    /// A batch that is gathered and one on its way back both meet the loss, one of them second.
    pub(super) fn one_of_two_devices_dies_twice() {
        dies(At::Anywhere);
    }

    /// It dies in its block, while its next batch is gathered and the other device cuts.
    pub(super) fn one_of_two_devices_dies_in_its_block() {
        let (mut rig, first) = start_shared(FakeDevice::new(), 1);
        let second = join(&mut rig, FakeDevice::new(), 1, None);
        let dying = FnBlock::rows("one", 1, |_: &[FakeTensor]| {
            shuttle::thread::yield_now();
            Err(fatal().into())
        });
        let mut threads = callers(&rig, &[May::Succeed]);
        threads.extend(more(&rig, [5.0, 6.0]));
        match first.handle().replace("one", dying) {
            Ok(()) | Err(StartError::DeviceLost(_)) => {}
            Err(other) => panic!("{other}"),
        }
        join_all(threads);
        end(&rig, first, &second);
    }

    /// Halves of a batch wait to run again when the device dies: what is not at fault goes on.
    pub(super) fn one_of_two_devices_dies_while_a_batch_is_taken_apart() {
        let (device, dead) = mortal(At::Gather);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let pool = rig.pools[0].clone();
        let culprit = spawn(move || {
            let ticket = pool.submit(vec![FakeTensor::rows(&[[CULPRIT]])]).unwrap();
            assert!(matches!(ticket.wait(), Err(TaskError::Failed(_))));
        });
        let threads = more(&rig, [5.0, 6.0]);
        dead.store(true, Ordering::SeqCst);
        join_all(threads);
        culprit.join().unwrap();
        end_any(&rig, first, &second);
    }

    /// As `end`, where batches run again for other reasons, too.
    fn end_any(rig: &Rig, first: Running, second: &Running) {
        first.shutdown(Shutdown::Drain, LIMIT).unwrap();
        drop(first);
        second.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
    }

    fn hangs(large: bool) {
        let (mut rig, first) = build_shared(FakeDevice::new(), 1, Some(LATE));
        let first = first.start().unwrap();
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let threads = if large { large_tasks(&rig, true) } else { callers(&rig, &[May::Succeed]) };
        rig.clock.advance(LATE);
        join_all(threads);
        let ended = first.shutdown(Shutdown::Drain, LIMIT);
        assert!(matches!(ended, Ok(()) | Err(ShutdownError::DeviceStuck { .. })), "{ended:?}");
        drop(first);
        second.shutdown(Shutdown::Drain, LIMIT).unwrap();
        rig.assert_reconciled();
        rig.assert_ran_again_once();
    }

    /// The limit of a batch passes on one of two devices just as it ends, or does not end yet: then another one runs it, and
    /// its outputs come all the same.
    pub(super) fn one_of_two_devices_hangs_among_callers() {
        hangs(false);
    }

    /// Callers of tasks that run in parts.
    fn large_tasks(rig: &Rig, may_be_lost: bool) -> Vec<JoinHandle<()>> {
        let callers = [[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]].map(|rows: [f32; 5]| {
            let pool = rig.pools[0].clone();
            spawn(move || {
                let ticket = pool.submit(vec![FakeTensor::rows(&rows.map(|v| [v]))]).unwrap();
                match ticket.wait() {
                    Ok(outputs) => assert_eq!(outputs, [FakeTensor::rows(&rows.map(|v| [2.0 * v]))]),
                    Err(TaskError::DeviceLost(_)) => assert!(may_be_lost),
                    Err(other) => panic!("no task should end like this: {other}"),
                }
            })
        });
        callers.into()
    }

    /// Parts of a task are on both devices when one of them dies.
    pub(super) fn one_of_two_devices_dies_with_parts_of_tasks() {
        let (device, dead) = mortal(At::Scatter);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let threads = large_tasks(&rig, false);
        dead.store(true, Ordering::SeqCst);
        join_all(threads);
        end(&rig, first, &second);
    }

    /// The same with one that hangs: it may do so where parts are cut or joined, which nobody else can do then.
    pub(super) fn one_of_two_devices_hangs_with_parts_of_tasks() {
        hangs(true);
    }

    /// A task goes on once at most, and everybody is answered.
    pub(super) fn both_devices_die_among_callers() {
        let [(one, dead), (other, dead_too)] = [At::Scatter, At::Gather].map(mortal);
        let (mut rig, first) = start_shared(one, 1);
        let second = join(&mut rig, other, 1, None);
        let threads = callers(&rig, &[May::Succeed, May::BeLost]);
        dead.store(true, Ordering::SeqCst);
        dead_too.store(true, Ordering::SeqCst);
        join_all(threads);
        end(&rig, first, &second);
    }

    /// The other one may be at its end when it is to go on.
    pub(super) fn a_device_dies_while_all_drain() {
        let (device, dead) = mortal(At::Scatter);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let threads = callers(&rig, &[May::Succeed, May::BeLost, May::BeShutDown]);
        dead.store(true, Ordering::SeqCst);
        let handle = second.handle().clone();
        let draining = spawn(move || handle.shutdown(Shutdown::Drain, LIMIT).unwrap());
        first.shutdown(Shutdown::Drain, LIMIT).unwrap();
        draining.join().unwrap();
        join_all(threads);
        end(&rig, first, &second);
    }

    /// The same for the copy that is to go on.
    pub(super) fn a_device_dies_while_the_block_of_another_leaves() {
        let (device, dead) = mortal(At::Scatter);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let threads = callers(&rig, &[May::Succeed, May::BeLost, May::FindNobody, May::BeRemoved]);
        dead.store(true, Ordering::SeqCst);
        for name in ["one", "two"] {
            second.handle().remove(name, Shutdown::Drain, LIMIT).unwrap();
        }
        join_all(threads);
        // Its meters are gone with its pools, so these were taken before.
        end(&rig, first, &second);
    }

    /// A third device joins while the first one dies, and the second leaves.
    pub(super) fn a_device_takes_the_place_of_one_that_dies() {
        let (device, dead) = mortal(At::Gather);
        let (mut rig, first) = start_shared(device, 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let third = builder(&rig, FakeDevice::new(), 0).start().unwrap();
        let mut threads = callers(&rig, &[May::Succeed]);
        threads.extend(more(&rig, [5.0]));
        dead.store(true, Ordering::SeqCst);
        for served in &rig.served {
            third.handle().join(block(&served.info.name, &rig.ran), served).unwrap();
        }
        rig.meters.extend(third.handle().pools());
        second.shutdown(Shutdown::Drain, LIMIT).unwrap();
        join_all(threads);
        end(&rig, first, &third);
    }

    /// One of two runtimes drains, and the other goes on.
    pub(super) fn one_of_two_runtimes_ends_among_callers() {
        let (mut rig, first) = start_shared(FakeDevice::new(), 1);
        let second = join(&mut rig, FakeDevice::new(), 0, None);
        let threads = callers(&rig, &[May::Succeed]);
        first.shutdown(Shutdown::Drain, LIMIT).unwrap();
        join_all(threads);
        end(&rig, first, &second);
    }
}
