//! Which pool runs next.

use crate::Subject;
use crate::kit::{
    Hooked, Log, On, Operation, all_succeed, answer, columns, drain, gated, new_builder, pool_of, receive,
    rows_block,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::{Device, Priority, Request, RuntimeBuilder, Ticket};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

fn one_row() -> PoolOptions {
    PoolOptions::default().max_rows(1)
}

/// A pool whose block logs its rows.
fn logged<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    name: &str,
    log: &Log<f32>,
    options: PoolOptions,
) -> TaskPool<D> {
    let log = log.clone();
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, name, move |rows| {
        for &v in &rows {
            log.push(v);
        }
        Ok(rows)
    });
    pool_of(builder, block, options)
}

fn submit<D: Device>(device: &D, pool: &TaskPool<D>, value: f32, priority: i32) -> Ticket<D::Tensor> {
    pool.try_submit(Request::new(columns(device, &[value])).priority(Priority(priority))).unwrap()
}

fn order<S: Subject>(prefetch: usize, tasks: &[(bool, i32)]) -> Result<(), TestCaseError> {
    let (mut builder, clock) = new_builder(S::device(), prefetch);
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let pools = ["left", "right"].map(|name| logged(&mut builder, name, &log, one_row()));
    let runtime = builder.build().unwrap();
    let mut expected = Vec::new();
    let tickets: Vec<_> = tasks
        .iter()
        .zip(0u8..)
        .map(|(&(right, priority), number)| {
            clock.advance(Duration::from_micros(1));
            expected.push((priority, number));
            submit(&*device, &pools[usize::from(right)], f32::from(number), priority)
        })
        .collect();
    let runtime = runtime.start().unwrap();
    for ticket in tickets {
        prop_assert!(answer(ticket).is_ok());
    }
    drain(runtime);
    expected.sort_unstable();
    prop_assert_eq!(log.take(), expected.iter().map(|&(_, number)| f32::from(number)).collect::<Vec<_>>());
    Ok(())
}

/// Two pools, mixed priorities: served by (priority, submit time) exactly, with any prefetch.
pub fn pools_are_served_in_sorted_order<S: Subject>() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(48) });
    let cases = (0usize..3, prop::collection::vec((any::<bool>(), -3i32..4), 1..50));
    runner.run(&cases, |(prefetch, tasks)| order::<S>(prefetch, &tasks)).unwrap();
}

/// Without prefetch, a task that arrives while a batch runs and is more urgent than all others is next.
pub fn the_most_urgent_is_next_without_prefetch<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, one_row());
    let [left, right] = ["left", "right"].map(|name| logged(&mut builder, name, &log, one_row()));
    let runtime = builder.start().unwrap();
    let mut tickets = vec![submit(&*device, &held, 0.0, 0)];
    gate.entered();
    for (pool, value, priority) in [(&left, 1.0, 2), (&right, 2.0, 1), (&left, 3.0, 1), (&right, 4.0, -1)] {
        tickets.push(submit(&*device, pool, value, priority));
    }
    gate.open();
    all_succeed(tickets);
    // 2 and 3 are equally urgent and equally old, so they may come in any order.
    let order = log.take();
    assert_eq!((order[0], order[3]), (4.0, 1.0), "{order:?}");
    drain(runtime);
}

/// With a prefetch of N, an urgent task waits behind the batch that runs and N batches, and no more.
pub fn an_urgent_task_waits_for_the_prefetched_and_no_more<S: Subject>() {
    for prefetch in [1, 2] {
        let (gathering, gathered) = channel();
        let device: On<S> = Hooked::new(S::device()).hook(move |operation| {
            if operation == Operation::Gather && std::thread::current().name() == Some("skep-loader") {
                gathering.send(()).ok();
            }
            Ok(())
        });
        let (mut builder, clock) = new_builder(device, prefetch);
        let device = Arc::clone(builder.device());
        let log = Log::new();
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, one_row());
        let pools = ["left", "right"].map(|name| logged(&mut builder, name, &log, one_row()));
        let runtime = builder.start().unwrap();
        let mut tickets = vec![submit(&*device, &held, 0.0, 0)];
        gate.entered();
        for number in 1u8..=4 {
            clock.advance(Duration::from_micros(1));
            tickets.push(submit(&*device, &pools[usize::from(number % 2)], f32::from(number), 0));
        }
        // The loader has cut as many as it may; all the others wait in their pools.
        (0..prefetch).for_each(|_| receive(&gathered));
        tickets.push(submit(&*device, &pools[0], 9.0, -1));
        gate.open();
        all_succeed(tickets);
        let mut expected = vec![1.0, 2.0, 3.0, 4.0];
        expected.insert(prefetch, 9.0);
        assert_eq!(log.take(), expected, "prefetch {prefetch}");
        drain(runtime);
    }
}

/// A pool's urgency is that of its most urgent task that still waits, not of one that was cancelled.
pub fn a_cancelled_urgent_task_lends_no_urgency<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, one_row());
    let [left, right] = ["left", "right"].map(|name| logged(&mut builder, name, &log, one_row()));
    let runtime = builder.start().unwrap();
    let mut tickets = vec![submit(&*device, &held, 0.0, 0)];
    gate.entered();
    tickets.push(submit(&*device, &left, 1.0, 5));
    drop(submit(&*device, &left, 2.0, -5));
    tickets.push(submit(&*device, &right, 3.0, 0));
    gate.open();
    all_succeed(tickets);
    assert_eq!(log.take(), [3.0, 1.0]);
    drain(runtime);
}

/// A pool that has run its urgent task is as urgent as what it has left.
pub fn an_urgent_task_that_ran_lends_no_urgency<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let [left, right] = ["left", "right"].map(|name| logged(&mut builder, name, &log, one_row()));
    let runtime = builder.build().unwrap();
    let tasks = [(&left, 1.0, -5), (&left, 2.0, 5), (&right, 3.0, 0), (&right, 4.0, 6)];
    let tickets = tasks.map(|(pool, value, priority)| submit(&*device, pool, value, priority));
    let runtime = runtime.start().unwrap();
    all_succeed(tickets);
    assert_eq!(log.take(), [1.0, 3.0, 2.0, 4.0]);
    drain(runtime);
}

/// Tasks that name no priority have their pool's.
pub fn pools_have_a_priority<S: Subject>() {
    let (mut builder, clock) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let options = |priority| one_row().priority(priority);
    let slow = logged(&mut builder, "slow", &log, options(Priority::BACKGROUND));
    let quick = logged(&mut builder, "quick", &log, options(Priority::URGENT));
    let runtime = builder.build().unwrap();
    let tickets = [(&slow, 1.0), (&quick, 2.0), (&slow, 3.0), (&quick, 4.0)].map(|(pool, value)| {
        clock.advance(Duration::from_micros(1));
        pool.try_submit(columns(&*device, &[value])).unwrap()
    });
    let runtime = runtime.start().unwrap();
    all_succeed(tickets);
    assert_eq!(log.take(), [2.0, 4.0, 1.0, 3.0]);
    drain(runtime);
}
