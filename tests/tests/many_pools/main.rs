//! 5,000 idle pools: no thread for any of them, little memory, and one that is busy answers. And what a task
//! takes that waits, and what is left of many that are over.
//!
//! A process of its own, because it counts the threads and the memory of the process; and one test, so that
//! nothing else is counted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod unsafe_counting;

use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
use skep_runtime_core::{DType, Pass, Request, RuntimeBuilder, Schema, SystemClock, TensorSpec};
use skep_tests::Subject;
use skep_tests::kit::threads;
use skep_tests::suite::many_pools::ManyPools;
use std::sync::Arc;
use std::time::Duration;
use unsafe_counting::allocated;

struct Fake;

impl Subject for Fake {
    type Device = FakeDevice;

    fn device() -> FakeDevice {
        FakeDevice::new()
    }
}

#[test]
fn what_waits_costs_little_memory_and_no_thread() {
    idle_pools_cost_little_memory_and_no_thread();
    a_waiting_task_takes_little_memory_beside_its_tensors();
    nothing_is_left_of_tasks_that_are_over();
}

fn idle_pools_cost_little_memory_and_no_thread() {
    const FEW: usize = 5;
    const MANY: usize = 5_000;

    // Each runtime goes on until all are measured: a thread that was joined may be listed for a moment longer.
    let mut started = Vec::new();
    let mut measure = |count: usize| {
        let before = (allocated(), threads());
        let pools = ManyPools::start::<Fake>(count);
        let costs = (allocated() - before.0, threads().zip(before.1).map(|(now, before)| now - before));
        started.push(pools);
        costs
    };
    measure(FEW); // what is allocated once in a process
    let (few_bytes, few_threads) = measure(FEW);
    let (many_bytes, many_threads) = measure(MANY);
    for pools in started {
        pools.answer_every(999);
    }

    let each = (many_bytes - few_bytes) / (MANY - FEW);
    println!("an idle pool and its block take {each} bytes, their schemas included");
    assert!(each < 3456, "an idle pool takes {each} bytes");
    match (few_threads, many_threads) {
        (Some(few), Some(many)) => assert_eq!(few, many, "threads with {FEW} and with {MANY} pools"),
        _ => println!("threads are not counted: this system has no /proc"),
    }
}

fn a_waiting_task_takes_little_memory_beside_its_tensors() {
    const TASKS: usize = 1000;

    let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
    let options = PoolOptions::default().capacity(TASKS);
    let pool = TaskPool::new(
        "x".to_owned(),
        Pass::Forward,
        Arc::new(FakeDevice::new()),
        schema,
        options,
        Arc::new(SystemClock),
    );
    let pool = pool.unwrap();
    let requests: Vec<_> = (0..TASKS).map(|_| vec![FakeTensor::rows(&[[1.0]])]).collect();
    let mut tickets = Vec::with_capacity(TASKS);
    let before = allocated();
    tickets.extend(requests.into_iter().map(|request| pool.try_submit(request).unwrap()));
    // The room for the requests themselves was given back.
    let each = (allocated() + TASKS * size_of::<Vec<FakeTensor>>() - before) / TASKS;
    println!("a waiting task takes {each} bytes, its tensors not included");
    assert!(each < 288, "a waiting task takes {each} bytes");
}

/// Tasks that were answered, failed, cancelled, or had a deadline that did not pass.
fn nothing_is_left_of_tasks_that_are_over() {
    const TASKS: usize = 100_000;
    const TOGETHER: usize = 50;

    let mut builder = RuntimeBuilder::new(FakeDevice::new());
    let block = FnBlock::rows("picky", 1, |x: &[FakeTensor]| {
        if x[0].values().contains(&7.0) { Err("not 7".into()) } else { Ok(vec![x[0].clone()]) }
    });
    let pool = builder.serve(block, ServeOptions::forward(PoolOptions::default())).unwrap().forward;
    let runtime = builder.start().unwrap();
    let run = |tasks: usize| {
        for _ in 0..tasks / TOGETHER {
            let tickets: Vec<_> = (0..TOGETHER)
                .map(|i| {
                    let request = Request::from(vec![FakeTensor::rows(&[[(i % 10) as f32]])]);
                    let in_time = Duration::from_mins(1);
                    pool.submit(if i % 3 == 0 { request.deadline(in_time) } else { request }).unwrap()
                })
                .collect();
            for (i, ticket) in tickets.into_iter().enumerate() {
                match i % 10 {
                    5 => drop(ticket),
                    7 => assert!(ticket.wait().is_err()),
                    _ => assert!(ticket.wait().is_ok()),
                }
            }
        }
    };
    run(TASKS / 10);
    let before = allocated();
    run(TASKS);
    let left = allocated().saturating_sub(before);
    println!("{TASKS} tasks that are over have left {left} bytes");
    assert!(left < 16 * 1024, "{left} bytes are left of {TASKS} tasks");
    drop(runtime);
}
