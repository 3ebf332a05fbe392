//! Work whose instructions are counted: `cargo xtask bench --check` runs this under callgrind, with two numbers
//! of tasks, and takes the difference.
//!
//! Everything happens on one thread, so that the count is the same every time: the tasks are submitted before
//! the runtime is started, and then the main thread is the device thread. What a hand-over to another thread
//! costs is not in here; that is time, and not instructions.
//!
//! Asked for `growth`, it [measures](growth) instead.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a program that measures: what is not as expected ends it"
)]

mod growth;

use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
use skep_runtime_core::{Handle, RuntimeBuilder, Shutdown};
use skep_stats::Stats;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The one that the comparison uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "expected lone, batched or choice and a number of tasks, or growth";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &*arguments {
        [scenario, tasks] => match (scenario.as_str(), tasks.parse::<usize>()) {
            // A batch of its own for each task, of one pool.
            ("lone", Ok(tasks)) => run(1, 1, tasks, true),
            // Full batches of one pool.
            ("batched", Ok(tasks)) => run(1, 64, tasks, true),
            // 1,000 pools that are ready all the time, one-row batches. Without stats: the memory for each
            // pool's histograms would be the most of it, and depends on how long things take.
            ("choice", Ok(tasks)) => run(1000, 1, tasks, false),
            _ => Err(USAGE.into()),
        },
        [growth] if growth == "growth" => {
            growth::measure();
            Ok(())
        }
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers `tasks` tasks of one row in each of `pools` pools.
fn run(pools: usize, max_rows: usize, tasks: usize, observed: bool) -> Result<()> {
    let stop: Arc<OnceLock<Handle<FakeDevice>>> = Arc::default();
    let left = Arc::new(AtomicUsize::new(pools * tasks));
    let stats = Stats::new();
    // Nothing takes this long, so no other thread is asked for help.
    let mut builder = RuntimeBuilder::new(FakeDevice::new()).hand_over(Duration::from_hours(1));
    if observed {
        builder = builder.observer(stats.observer());
    }
    let options = PoolOptions::default().max_rows(max_rows).capacity(tasks);
    let served = (0..pools).map(|i| {
        let (stop, left) = (Arc::clone(&stop), Arc::clone(&left));
        let block = FnBlock::rows(&format!("null.{i}"), 1, move |x: &[FakeTensor]| {
            let rows = x[0].dims()[0];
            if left.fetch_sub(rows, Ordering::Relaxed) == rows
                && let Some(handle) = stop.get()
            {
                // On the runtime's own thread this begins the shutdown and refuses to wait for it.
                handle.shutdown(Shutdown::Drain, Duration::ZERO).ok();
            }
            Ok(vec![x[0].clone()])
        });
        Ok(builder.serve(block, ServeOptions::forward(options.clone()))?.forward)
    });
    let served: Vec<TaskPool<FakeDevice>> = served.collect::<Result<_>>()?;
    let runtime = builder.build()?;
    stop.set(runtime.handle()).map_err(|_| "the handle was set before")?;
    let mut tickets = Vec::with_capacity(pools * tasks);
    for _ in 0..tasks {
        for pool in &served {
            tickets.push(pool.try_submit(vec![FakeTensor::rows(&[[1.0]])])?);
        }
    }
    runtime.run()?;
    for ticket in tickets {
        let outputs = ticket.wait()?;
        if outputs[0].values() != [1.0] {
            return Err(format!("an answer is {:?}, expected [1.0]", outputs[0].values()).into());
        }
    }
    let (answered, expected) = (stats.snapshot().total.succeeded, (pools * tasks) as u64);
    if !observed || answered == expected {
        Ok(())
    } else {
        Err(format!("{answered} tasks are counted, expected {expected}").into())
    }
}
