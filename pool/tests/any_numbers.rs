//! Settings and requests of any numbers: refused with an error that names them, or served. Never a panic, and
//! never a task without an answer.
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use proptest::prelude::*;
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::pool::{Settled, Terms};
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock, ManualClock};
use skep_runtime_core::{
    Clock, DType, FailureRules, Pass, Priority, Request, RuntimeBuilder, RuntimeId, Schema, Shutdown,
    StartError, TaskError, TensorSpec,
};
use std::sync::Arc;
use std::time::Duration;

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0usize..6, 1 => any::<usize>(), 1 => Just(usize::MAX)]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        3 => (0u64..50).prop_map(Duration::from_millis),
        1 => (any::<u64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
        1 => Just(Duration::MAX),
    ]
}

fn options() -> impl Strategy<Value = PoolOptions> {
    let rules = (any::<bool>(), any::<bool>(), any::<bool>(), prop::option::of(any::<bool>()));
    let split = (any::<bool>(), any::<bool>());
    let room = (size(), prop::option::of(size()), prop_oneof![Just(0), size()], any::<bool>());
    let delay = prop_oneof![1 => Just((1, None)), 1 => (size(), prop::option::of(time()))];
    let deadlines = (prop::option::of(time()), prop::option::of(time()));
    (size(), (delay, deadlines), room, any::<i32>(), split, rules).prop_map(
        |(max_rows, (delay, (deadline, max_deadline)), room, priority, split, rules)| {
            let ((min_rows, max_delay), (capacity, capacity_rows, reserve, eviction)) = (delay, room);
            let ((split_large_tasks, split_backward), (rerun, check_finite, answer_in_time, finite_inputs)) =
                (split, rules);
            PoolOptions::default()
                .max_rows(max_rows)
                .min_rows(min_rows)
                .max_delay(max_delay)
                .capacity(capacity)
                .capacity_rows(capacity_rows)
                .reserve(reserve)
                .eviction(eviction)
                .priority(Priority(priority))
                .deadline(deadline)
                .max_deadline(max_deadline)
                .split_large_tasks(split_large_tasks)
                .split_backward(split_backward)
                .answer_in_time(answer_in_time)
                .finite_inputs(finite_inputs)
                .failures(FailureRules::default().rerun(rerun).check_finite(check_finite))
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Submit { rows: usize, priority: i32, deadline: Option<Duration> },
    DropFirst,
    Advance(u64),
    Cut(usize),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..9, any::<i32>(), prop::option::of(time()))
            .prop_map(|(rows, priority, deadline)| Step::Submit { rows, priority, deadline }),
        1 => Just(Step::DropFirst),
        1 => (0u64..40).prop_map(Step::Advance),
        3 => size().prop_map(Step::Cut),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    #[test]
    fn a_pool_of_any_options_answers_every_task(
        options in options(),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let clock = ManualClock::new();
        let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let device = Arc::new(FakeDevice::new());
        let new = TaskPool::new("pool".to_owned(), Pass::Forward, device, schema, options, Arc::clone(&clock) as Arc<_>);
        let pool = match new {
            Ok(pool) => pool,
            Err(error) => {
                prop_assert!(matches!(error, StartError::Setting { .. }), "{error}");
                return Ok(());
            }
        };
        let (contract, mut tickets, mut cut) = (pool.as_pool(), Vec::new(), 0);
        let owner = RuntimeId::next();
        prop_assert!(contract.claim(owner));
        for step in steps {
            match step {
                Step::Submit { rows, priority, deadline } => {
                    let tensor = FakeTensor::new(DType::F32, &[rows, 1], Vec::new());
                    let request = Request::new(vec![tensor]).priority(Priority(priority)).deadline(deadline);
                    tickets.extend(pool.try_submit(request));
                }
                Step::DropFirst => drop((!tickets.is_empty()).then(|| tickets.remove(0))),
                Step::Advance(millis) => clock.advance(Duration::from_millis(millis)),
                Step::Cut(most_rows) => {
                    contract.look(clock.now(), most_rows);
                    let Some(batch) = contract.cut(&Terms::new(clock.now(), most_rows)) else { continue };
                    for piece in batch.pieces {
                        let tensors = (piece.slice)(piece.rows).unwrap();
                        prop_assert_eq!(tensors[0].dims()[0], batch.tasks[piece.place].header.rows);
                    }
                    for task in batch.tasks {
                        let outputs = vec![FakeTensor::new(DType::F32, &[task.header.rows, 1], Vec::new())];
                        cut += u64::from(task.reply.settle(Ok(outputs)).is_some());
                    }
                }
                Step::Expire => {
                    contract.expire(owner, clock.now()).settled.into_iter().for_each(Settled::deliver);
                    contract.after_cut();
                }
            }
        }
        contract.close(owner, Shutdown::Abort);
        for ticket in tickets {
            let answer = ticket.wait_timeout(Duration::ZERO);
            prop_assert!(matches!(
                answer,
                Ok(Ok(_) | Err(TaskError::ShutDown | TaskError::Expired { .. } | TaskError::Evicted { .. }))
            ), "{answer:?}");
        }
        let counts = pool.counts();
        let uncut = counts.refused + counts.cancelled + counts.expired + counts.evicted + counts.shut_down;
        prop_assert_eq!((counts.waiting, counts.waiting_rows), (0, 0));
        prop_assert_eq!(counts.submitted, uncut + cut);
    }

    #[test]
    fn a_runtime_of_any_settings_is_refused_or_built(
        (prefetch, senders, hand_over, spin) in (size(), size(), time(), time()),
        (forward, backward) in (options(), options()),
    ) {
        let settings = RuntimeBuilder::new(FakeDevice::new());
        let mut builder = settings.prefetch(prefetch).senders(senders).hand_over(hand_over).spin(spin);
        let block = FnBlock::rows("same", 1, |x: &[FakeTensor]| Ok(x.to_vec()));
        let block = block.with_backward(|x: &[FakeTensor], _: &[FakeTensor]| Ok(x.to_vec()));
        let served = builder.serve(block, ServeOptions::forward(forward).backward(backward));
        if let Err(error) = &served {
            prop_assert!(matches!(error, StartError::Setting { .. }), "{error}");
        }
        match builder.build() {
            Ok(_) => {
                prop_assert!(prefetch <= 64 && (1..=64).contains(&senders));
                prop_assert!(spin <= Duration::from_millis(10));
            }
            Err(error) => prop_assert!(matches!(error, StartError::Setting { .. }), "{error}"),
        }
    }
}
