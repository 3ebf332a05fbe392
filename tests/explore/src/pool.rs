//! A pool between its callers and what cuts it. There is no runtime here: a thread does what one would do.

crate::programs! {
    submits_meet_cuts: 10,
    cancels_meet_cuts: 6,
    deadlines_meet_cuts: 6,
    a_close_meets_everybody: 10,
    a_caller_who_gives_up_passes_its_turn_on: 6,
    the_most_urgent_caller_gets_in: 6,
    an_eviction_meets_a_cut: 4,
    a_split_task_meets_a_cancel: 6,
    a_part_that_fails_lets_a_caller_in: 6,
}

mod programs {
    use crate::{block_on, waker};
    use shuttle::sync::atomic::{AtomicBool, Ordering};
    use shuttle::thread::spawn;
    use skep_pool::{PoolOptions, TaskPool};
    use skep_runtime_core::pool::{Settled, Terms};
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, ManualClock};
    use skep_runtime_core::{
        Clock, DType, Pass, Priority, Request, RuntimeId, Schema, Shutdown, SubmitError, TaskError,
        TaskResult, TensorSpec,
    };
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Context;
    use std::time::Duration;

    const LATE: Duration = Duration::from_millis(10);

    #[derive(Clone)]
    struct Fixture {
        pool: TaskPool<FakeDevice>,
        clock: Arc<ManualClock>,
        owner: RuntimeId,
    }

    fn pool(capacity: usize) -> Fixture {
        pool_with(PoolOptions::default().max_rows(2).capacity(capacity))
    }

    fn pool_with(options: PoolOptions) -> Fixture {
        let clock = ManualClock::new();
        let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let device = Arc::new(FakeDevice::new());
        let pool = TaskPool::new(
            "pool".to_owned(),
            Pass::Forward,
            device,
            schema,
            options,
            Arc::clone(&clock) as Arc<_>,
        );
        let (pool, owner) = (pool.unwrap(), RuntimeId::next());
        assert!(pool.as_pool().claim(owner));
        Fixture { pool, clock, owner }
    }

    fn task(value: f32) -> Request<FakeTensor> {
        Request::new(vec![FakeTensor::rows(&[[value]])])
    }

    impl Fixture {
        /// Cuts a batch and answers its tasks with their inputs, and says how many are done with that; `None` if there
        /// is no batch.
        fn cut_batch(&self) -> Option<u64> {
            let pool = self.pool.as_pool();
            let batch = pool.cut(&Terms::new(self.clock.now(), usize::MAX))?;
            pool.after_cut();
            let mut inputs = batch.columns.into_iter().next().unwrap_or_default();
            for piece in batch.pieces {
                inputs.insert(piece.place, (piece.slice)(piece.rows).unwrap().remove(0));
            }
            let mut done = 0;
            for (task, input) in batch.tasks.into_iter().zip(inputs) {
                if let Some(settled) = task.reply.settle(Ok(vec![input])) {
                    done += u64::from(settled.is_ok());
                    settled.deliver();
                }
            }
            Some(done)
        }

        fn cut_and_answer(&self) -> u64 {
            self.cut_batch().unwrap_or(0)
        }

        /// Cuts until there is nothing left, and holds the accounts against what was cut.
        fn finish(&self, mut cut: u64) {
            while let Some(more) = self.cut_batch() {
                cut += more;
            }
            // What had expired when its turn came is answered here.
            self.expire();
            let counts = self.pool.counts();
            let answered =
                counts.refused + counts.cancelled + counts.expired + counts.evicted + counts.shut_down;
            assert_eq!(counts.submitted, answered + cut, "{counts:?} and {cut} cut");
            assert_eq!((counts.waiting, counts.waiting_rows), (0, 0));
        }

        fn expire(&self) {
            let pool = self.pool.as_pool();
            pool.expire(self.owner, self.clock.now()).settled.into_iter().for_each(Settled::deliver);
            pool.after_cut();
        }
    }

    fn is(result: &TaskResult<FakeTensor>, value: f32) -> bool {
        result.as_ref().is_ok_and(|outputs| *outputs == [FakeTensor::rows(&[[value]])])
    }

    /// Three callers want the one place in the queue.
    pub(super) fn submits_meet_cuts() {
        let fixture = pool(1);
        let callers = [1.0, 2.0, 3.0].map(|value| {
            let pool = fixture.pool.clone();
            spawn(move || {
                let ticket = if value > 2.0 {
                    block_on(pool.submit_async(task(value))).unwrap()
                } else {
                    pool.submit(task(value)).unwrap()
                };
                assert!(is(&ticket.wait(), value));
            })
        });
        let cutter = fixture.clone();
        let cutting = spawn(move || {
            let mut cut = 0;
            while cut < 3 {
                cut += cutter.cut_and_answer();
                shuttle::thread::yield_now();
            }
            cut
        });
        for caller in callers {
            caller.join().unwrap();
        }
        fixture.finish(cutting.join().unwrap());
    }

    /// Tickets are dropped while their tasks are cut.
    pub(super) fn cancels_meet_cuts() {
        let fixture = pool(4);
        let tickets = [1.0, 2.0, 3.0].map(|value| fixture.pool.try_submit(task(value)).unwrap());
        let [one, two, three] = tickets;
        let dropping = [one, three].map(|ticket| spawn(move || drop(ticket)));
        let cutter = fixture.clone();
        let cutting = spawn(move || cutter.cut_and_answer() + cutter.cut_and_answer());
        let cut = cutting.join().unwrap();
        for thread in dropping {
            thread.join().unwrap();
        }
        fixture.finish(cut);
        assert!(is(&two.wait(), 2.0));
    }

    /// Time passes while tasks with deadlines are cut, and one is cancelled.
    pub(super) fn deadlines_meet_cuts() {
        let fixture = pool(4);
        let late = |value| fixture.pool.try_submit(task(value).deadline(LATE)).unwrap();
        let (one, two) = (late(1.0), late(2.0));
        let three = fixture.pool.try_submit(task(3.0)).unwrap();
        let dropping = spawn(move || drop(two));
        let expirer = fixture.clone();
        let expiring = spawn(move || {
            expirer.clock.advance(LATE);
            expirer.expire();
        });
        let cut = fixture.cut_and_answer();
        expiring.join().unwrap();
        dropping.join().unwrap();
        fixture.finish(cut);
        let result = one.wait();
        assert!(is(&result, 1.0) || matches!(result, Err(TaskError::Expired { .. })), "{result:?}");
        assert!(is(&three.wait(), 3.0));
    }

    /// The pool is closed while one caller waits for room, another for its answer, and a batch is cut.
    pub(super) fn a_close_meets_everybody() {
        let fixture = pool(1);
        let callers = [1.0, 2.0].map(|value| {
            let pool = fixture.pool.clone();
            spawn(move || match pool.submit(task(value)) {
                Ok(ticket) => {
                    let result = ticket.wait();
                    assert!(is(&result, value) || matches!(result, Err(TaskError::ShutDown)), "{result:?}");
                }
                Err(refused) => assert!(matches!(refused.error, SubmitError::ShutDown)),
            })
        });
        let closer = fixture.clone();
        let closing = spawn(move || {
            closer.pool.as_pool().close(closer.owner, Shutdown::Drain);
            closer.pool.as_pool().close(closer.owner, Shutdown::Abort);
        });
        let cut = fixture.cut_and_answer();
        closing.join().unwrap();
        for caller in callers {
            caller.join().unwrap();
        }
        fixture.finish(cut);
    }

    /// Of two who wait for the one place, one gives up: the other gets in all the same.
    pub(super) fn a_caller_who_gives_up_passes_its_turn_on() {
        let fixture = pool(1);
        let held = fixture.pool.try_submit(task(0.0)).unwrap();
        let pool = fixture.pool.clone();
        let fickle = spawn(move || {
            let mut submitting = pin!(pool.submit_async(task(1.0)));
            let waker = waker();
            let _ = submitting.as_mut().poll(&mut Context::from_waker(&waker));
        });
        let pool = fixture.pool.clone();
        let patient = spawn(move || pool.submit(task(2.0)).unwrap().wait());
        let over = Arc::new(AtomicBool::new(false));
        let (cutter, until) = (fixture.clone(), Arc::clone(&over));
        let cutting = spawn(move || {
            let mut cut = 0;
            while !until.load(Ordering::SeqCst) {
                cut += cutter.cut_and_answer();
                shuttle::thread::yield_now();
            }
            cut
        });
        assert!(is(&patient.join().unwrap(), 2.0));
        fickle.join().unwrap();
        assert!(is(&held.wait(), 0.0));
        over.store(true, Ordering::SeqCst);
        fixture.finish(cutting.join().unwrap());
    }

    /// Of two who wait for the one place, the more urgent one gets it, and both are answered.
    pub(super) fn the_most_urgent_caller_gets_in() {
        let fixture = pool(1);
        let held = fixture.pool.try_submit(task(0.0)).unwrap();
        let callers = [(1.0, 5), (2.0, -5)].map(|(value, priority)| {
            let pool = fixture.pool.clone();
            spawn(move || {
                let request = task(value).priority(Priority(priority));
                assert!(is(&pool.submit(request).unwrap().wait(), value));
            })
        });
        let cutter = fixture.clone();
        let cutting = spawn(move || {
            let mut cut = 0;
            while cut < 3 {
                cut += cutter.cut_and_answer();
                shuttle::thread::yield_now();
            }
            cut
        });
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(is(&held.wait(), 0.0));
        fixture.finish(cutting.join().unwrap());
    }

    /// An urgent task takes the place of one that is being cut, or cancelled.
    pub(super) fn an_eviction_meets_a_cut() {
        let fixture = pool_with(PoolOptions::default().capacity(1).eviction(true));
        let background = fixture.pool.try_submit(task(1.0).priority(Priority::BACKGROUND)).unwrap();
        let pool = fixture.pool.clone();
        let urgent = spawn(move || pool.submit(task(2.0).priority(Priority::URGENT)).unwrap());
        let cut = fixture.cut_and_answer();
        let urgent = urgent.join().unwrap();
        fixture.finish(cut);
        let result = background.wait();
        assert!(is(&result, 1.0) || matches!(result, Err(TaskError::Evicted { .. })), "{result:?}");
        assert!(is(&urgent.wait(), 2.0));
    }

    fn splitting(capacity: usize) -> Fixture {
        let rows = Some(4);
        pool_with(
            PoolOptions::default().max_rows(2).capacity(capacity).capacity_rows(rows).split_large_tasks(true),
        )
    }

    fn large() -> Request<FakeTensor> {
        Request::new(vec![FakeTensor::rows(&[[1.0], [2.0], [3.0], [4.0]])])
    }

    /// A ticket is dropped while its task leaves in parts, and another task waits.
    pub(super) fn a_split_task_meets_a_cancel() {
        let fixture = splitting(2);
        let split = fixture.pool.try_submit(large()).unwrap();
        let pool = fixture.pool.clone();
        let other = spawn(move || assert!(is(&pool.submit(task(9.0)).unwrap().wait(), 9.0)));
        let dropping = spawn(move || drop(split));
        let mut cut = fixture.cut_and_answer() + fixture.cut_and_answer();
        dropping.join().unwrap();
        while cut == 0 || fixture.pool.counts().submitted < 2 || fixture.pool.counts().waiting > 0 {
            cut += fixture.cut_and_answer();
            shuttle::thread::yield_now();
        }
        fixture.finish(cut);
        other.join().unwrap();
    }

    /// A part fails: what is left of its task makes room for a caller who waits.
    pub(super) fn a_part_that_fails_lets_a_caller_in() {
        let fixture = splitting(1);
        let split = fixture.pool.try_submit(large()).unwrap();
        let first = fixture.pool.as_pool().cut(&Terms::new(fixture.clock.now(), usize::MAX)).unwrap();
        let pool = fixture.pool.clone();
        let patient = spawn(move || pool.submit(task(9.0)).unwrap().wait());
        let failing = spawn(move || {
            for task in first.tasks {
                task.reply.answer(Err(TaskError::ShutDown));
            }
        });
        failing.join().unwrap();
        assert!(matches!(split.wait(), Err(TaskError::ShutDown)));
        let mut cut = 0;
        while cut == 0 {
            cut += fixture.cut_and_answer();
            shuttle::thread::yield_now();
        }
        assert!(is(&patient.join().unwrap(), 9.0));
        // The one whose part has failed was cut.
        fixture.finish(cut + 1);
    }
}
