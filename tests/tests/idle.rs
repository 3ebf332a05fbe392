//! A runtime with nothing to do does nothing: its threads are not even woken.
//!
//! A process of its own, because it looks at the threads of the process by their names.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use skep_pool::PoolOptions;
use skep_runtime_core::RuntimeBuilder;
use skep_tests::Subject;
use skep_tests::kit::{Log, all_succeed, columns, drain, pool_of, rows_block};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

struct Fake;

impl Subject for Fake {
    type Device = skep_runtime_core::testing::FakeDevice;

    fn device() -> Self::Device {
        skep_runtime_core::testing::FakeDevice::new()
    }
}

/// How often each of the runtime's threads has gone to sleep so far, by its number and name.
fn switches() -> BTreeMap<(u32, String), u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread that ends meanwhile is one of the last runtime's.
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    statuses
        .map(|status| {
            let thread = (field(&status, "Pid:").parse().unwrap(), field(&status, "Name:"));
            (thread, field(&status, "voluntary_ctxt_switches:").parse().unwrap())
        })
        .filter(|((_, name), _)| name.starts_with("skep-"))
        .collect()
}

fn sleeps_through<S: Subject>() {
    let mut builder = RuntimeBuilder::new(S::device());
    let device = Arc::clone(builder.device());
    let log = Log::new();
    let log_rows = log.clone();
    let block = rows_block(&device, "same", move |rows| {
        log_rows.push(rows.len());
        Ok(rows)
    });
    // A delay that has passed and a deadline that has not are no reasons to wake up again and again.
    let options = PoolOptions::default().min_rows(2).max_delay(Some(Duration::from_millis(1)));
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    all_succeed((0u8..50).map(|v| {
        let request = skep_runtime_core::Request::new(columns(&*device, &[f32::from(v)]));
        pool.submit(request.deadline(Duration::from_hours(1))).unwrap()
    }));
    assert_eq!(log.take().iter().sum::<usize>(), 50);

    let before = switches();
    assert!(before.len() >= 4, "the runtime's threads are seen: {before:?}");
    // This is the one place that needs real time to pass: nothing is sent, so it does.
    let (_sender, nothing) = channel::<()>();
    nothing.recv_timeout(Duration::from_secs(2)).unwrap_err();
    for (thread, after) in switches() {
        // Going to sleep after the last batch counts once, and being told of it by another thread once more.
        let woken = after - before[&thread];
        assert!(woken <= 3, "idle thread {thread:?} was woken {woken} times");
    }
    drain(runtime);
}

#[test]
fn idle_runtimes_sleep() {
    if !Path::new("/proc/self/task").exists() {
        println!("skipped: this system has no /proc");
        return;
    }
    sleeps_through::<Fake>();
    #[cfg(feature = "candle")]
    sleeps_through::<skep_tests::backends::Candle>();
    #[cfg(feature = "ort")]
    sleeps_through::<skep_tests::backends::Ort>();
    #[cfg(feature = "tch")]
    sleeps_through::<skep_tests::backends::Tch>();
}
