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
    a_block_leaves_among_callers: 4,
    an_abort_of_one_block_meets_callers: 3,
    a_limit_for_a_block_meets_callers: 3,
    tasks_that_a_block_leaves_behind_are_counted: 4,
    a_block_comes_among_callers: 4,
    a_block_is_replaced_among_callers: 4,
    a_block_leaves_while_the_runtime_ends: 3,
    a_block_leaves_while_the_device_dies: 3,
}

pub(crate) mod programs {
    use crate::block_on;
    use shuttle::thread::{JoinHandle, spawn};
    use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served, TaskPool};
    use skep_runtime_core::sync::Mutex;
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock, ManualClock};
    use skep_runtime_core::{
        BatchEvent, ControlError, DeviceError, DeviceLoss, Health, Meter, Observer, PoolId, Priority,
        Request, RunningRuntime, Runtime, RuntimeBuilder, Shutdown, ShutdownError, StartError, SubmitError,
        TaskError, Ticket, Unrun,
    };
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    /// There is no time here, so only a wait of none ends by itself.
    pub(crate) const LIMIT: Duration = Duration::from_hours(1);
    /// A row that makes its batch fail.
    pub(crate) const CULPRIT: f32 = 13.0;
    /// A row that the outputs lack.
    const MISSING: f32 = 19.0;
    /// A row beside which there is no room for another.
    pub(crate) const LARGE: f32 = 17.0;
    /// A row that is the end of the device.
    pub(crate) const FATAL: f32 = 23.0;
    pub(crate) const LATE: Duration = Duration::from_millis(10);

    /// Tasks that were answered with a batch, which the meters do not count, and batches that were taken apart.
    #[derive(Default)]
    pub(crate) struct Answered(AtomicU64, AtomicU64);

    impl Observer for Answered {
        fn started(&self, _: &str, _: Instant) {}
        fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {}
        fn batch(&self, event: &BatchEvent<'_>) {
            eat_wake_up();
            self.0.fetch_add((event.tasks_succeeded + event.tasks_failed) as u64, Ordering::Relaxed);
            self.1.fetch_add(u64::from(event.taken_apart), Ordering::Relaxed);
        }
        fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
            eat_wake_up();
        }
        fn stopped(&self, _: Instant) {}
    }

    /// What a bounded channel in an observer may do to the thread that calls it.
    fn eat_wake_up() {
        shuttle::thread::current().unpark();
        shuttle::thread::park();
    }

    pub(crate) struct Rig {
        pub(crate) served: [Served<FakeDevice>; 2],
        pub(crate) pools: [TaskPool<FakeDevice>; 2],
        pub(crate) meters: Vec<Arc<dyn Meter>>,
        pub(crate) clock: Arc<ManualClock>,
        pub(crate) answered: Arc<Answered>,
        /// The rows of every run, those that failed too.
        pub(crate) ran: Arc<Mutex<Vec<f32>>>,
        /// The rows of tasks that have expired.
        expired: Mutex<Vec<f32>>,
    }

    /// Doubles rows, and notes them in `ran`.
    pub(crate) fn block(name: &str, ran: &Arc<Mutex<Vec<f32>>>) -> FnBlock<FakeDevice> {
        let ran = Arc::clone(ran);
        FnBlock::rows(name, 1, move |x: &[FakeTensor]| {
            let rows = x[0].values();
            // It takes its time: others go on meanwhile.
            shuttle::thread::yield_now();
            ran.lock().extend(rows);
            if rows.contains(&FATAL) {
                return Err(DeviceError::Fatal { device: "fake".to_owned(), message: String::new() }.into());
            }
            if rows.contains(&CULPRIT) {
                return Err("on purpose".into());
            }
            if rows.contains(&LARGE) && rows.len() > 1 {
                let (device, message) = ("fake".to_owned(), "on purpose".to_owned());
                return Err(DeviceError::OutOfMemory { device, message }.into());
            }
            let rows = rows.iter().filter(|v| **v != MISSING).map(|v| [2.0 * v]);
            Ok(vec![FakeTensor::rows(&rows.collect::<Vec<_>>())])
        })
    }

    pub(crate) fn build(
        device: FakeDevice,
        prefetch: usize,
        limit: Option<Duration>,
    ) -> (Rig, Runtime<FakeDevice>) {
        let (clock, answered) = (ManualClock::new(), Arc::new(Answered::default()));
        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut builder = RuntimeBuilder::new(device)
            .prefetch(prefetch)
            .hand_over(Duration::ZERO)
            .clock(Arc::clone(&clock) as Arc<_>)
            .observer(Arc::clone(&answered) as Arc<_>);
        if let Some(limit) = limit {
            builder = builder.batch_limit(limit);
        }
        let served = [("one", 2), ("two", 1)].map(|(name, capacity)| {
            let options = PoolOptions::default()
                .max_rows(2)
                .capacity(capacity)
                .capacity_rows(Some(8))
                .split_large_tasks(true);
            builder.serve(block(name, &ran), ServeOptions::forward(options)).unwrap()
        });
        let pools = served.each_ref().map(|served| served.forward.clone());
        let runtime = builder.build().unwrap();
        let meters = runtime.handle().pools();
        (Rig { served, pools, meters, clock, answered, ran, expired: Mutex::default() }, runtime)
    }

    pub(crate) fn start(device: FakeDevice, prefetch: usize) -> (Rig, RunningRuntime<FakeDevice>) {
        let (rig, runtime) = build(device, prefetch, None);
        (rig, runtime.start().unwrap())
    }

    /// How tasks may end.
    #[derive(Clone, Copy, PartialEq)]
    pub(crate) enum May {
        Succeed,
        BeShutDown,
        Expire,
        BeLost,
        BeRemoved,
        /// Be refused, because the block has left.
        FindNobody,
    }

    /// Three callers: one waits, one awaits, one drops what it has submitted.
    pub(crate) fn callers(rig: &Rig, may: &'static [May]) -> Vec<JoinHandle<()>> {
        let allowed = |result: Result<Vec<FakeTensor>, TaskError>, value: f32, may: &[May]| match result {
            Ok(outputs) => assert_eq!(outputs, [FakeTensor::rows(&[[2.0 * value]])]),
            Err(TaskError::ShutDown) => assert!(may.contains(&May::BeShutDown), "shut down"),
            Err(TaskError::Expired { .. }) => assert!(may.contains(&May::Expire), "expired"),
            Err(TaskError::DeviceLost(_)) => assert!(may.contains(&May::BeLost), "lost"),
            Err(TaskError::Removed) => assert!(may.contains(&May::BeRemoved), "removed"),
            Err(other) => panic!("no task should end like this: {other}"),
        };
        let task = move |value: f32| {
            let request = Request::new(vec![FakeTensor::rows(&[[value]])]);
            if may.contains(&May::Expire) { request.deadline(LATE) } else { request }
        };
        let closed = |error: &SubmitError| match error {
            SubmitError::ShutDown | SubmitError::DeadlinePassed => {}
            SubmitError::DeviceLost(_) => assert!(may.contains(&May::BeLost), "lost"),
            SubmitError::Removed => assert!(may.contains(&May::FindNobody), "removed"),
            other => panic!("no task should be refused like this: {other}"),
        };
        let [one, two] = rig.pools.clone();
        let waiting = spawn(move || match one.submit(task(1.0)) {
            Ok(ticket) => allowed(ticket.wait(), 1.0, may),
            Err(refused) => closed(&refused.error),
        });
        let urgent = two.clone();
        let awaiting =
            spawn(move || match block_on(urgent.submit_async(task(2.0).priority(Priority::URGENT))) {
                Ok(ticket) => allowed(block_on(ticket), 2.0, may),
                Err(refused) => closed(&refused.error),
            });
        let dropping = spawn(move || match two.submit(task(3.0)) {
            Ok(ticket) => drop(ticket),
            Err(refused) => closed(&refused.error),
        });
        vec![waiting, awaiting, dropping]
    }

    impl Rig {
        /// Every task that was submitted is accounted for, once.
        pub(crate) fn assert_reconciled(&self) {
            let counts: Vec<_> = self.meters.iter().map(|meter| meter.counts()).collect();
            let submitted: u64 = counts.iter().map(|c| c.submitted).sum();
            let uncut: u64 = counts
                .iter()
                .map(|c| c.refused + c.cancelled + c.expired + c.evicted + c.failed + c.shut_down)
                .sum();
            let cut = self.answered.0.load(Ordering::Relaxed);
            assert_eq!(submitted, uncut + cut, "{counts:?} and {cut} answered after the cut");
            assert!(counts.iter().all(|c| c.waiting == 0), "{counts:?}");
            let ran = self.ran.lock();
            assert!(self.expired.lock().iter().all(|row| !ran.contains(row)), "expired and ran");
        }
    }

    /// A batch of these tasks, or several, and what came of each.
    fn tickets<const N: usize>(rig: &Rig, rows: [f32; N], deadline: Option<Duration>) -> [Tried; N] {
        rows.map(|row| {
            let request = Request::new(vec![FakeTensor::rows(&[[row]])]);
            let ticket = rig.pools[0].submit(request.deadline(deadline)).unwrap();
            Tried { row, ticket }
        })
    }

    struct Tried {
        row: f32,
        ticket: Ticket<FakeTensor>,
    }

    impl Tried {
        /// Waits for the answer: the outputs, or for the culprit its failure, or what else may be.
        fn wait(self, rig: &Rig, may: &[May]) {
            match self.ticket.wait() {
                Ok(outputs) => assert_eq!(outputs, [FakeTensor::rows(&[[2.0 * self.row]])]),
                Err(TaskError::Failed(_)) => assert!([CULPRIT, MISSING].contains(&self.row), "harmed"),
                Err(TaskError::ShutDown) => assert!(may.contains(&May::BeShutDown), "shut down"),
                Err(TaskError::Expired { .. }) => {
                    assert!(may.contains(&May::Expire), "expired");
                    rig.expired.lock().push(self.row);
                }
                Err(other) => panic!("no task should end like this: {other}"),
            }
        }
    }

    pub(crate) fn join_all(threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            thread.join().unwrap();
        }
    }

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

    /// Submits a task that is the end of the device, if it is still there.
    fn kill(pool: &TaskPool<FakeDevice>) -> JoinHandle<()> {
        let pool = pool.clone();
        spawn(move || {
            if let Ok(ticket) = pool.submit(vec![FakeTensor::rows(&[[FATAL]])]) {
                assert!(matches!(ticket.wait(), Err(TaskError::DeviceLost(DeviceLoss::Fatal(_)))));
            }
        })
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
