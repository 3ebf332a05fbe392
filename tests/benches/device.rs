//! What the runtime leaves of a device: real blocks on the device that `SKEP_DEVICE` names, called through the
//! runtime and, beside it, directly.
//!
//! - `round_trip_on_*`: one lone task of one row through a block that only passes it on. `bare` is what
//!   the device itself takes for it: the row placed on it, and brought back.
//! - `ffn_1024_4096_1024_on_*`: batches of one-row tasks from callers that keep the runtime saturated; `bare`
//!   calls the same block with a whole batch that is already on the device. One iteration is one batch.
//!
//! The device is part of each name, and synchronised before the clock stops.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../examples/common/backend.rs"]
mod backend;

use backend::skep::blocks::{Activation, Ffn, Nop};
use backend::skep::pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use backend::skep::runtime::{Backend, Device, HostTensor, RunningRuntime, RuntimeBuilder, TensorOps};
use backend::skep::stats::Stats;
use backend::{BACKEND, DemoBlock, DemoDevice, device};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// As the demos: glibc gives memory back to the system after every batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEATURES: usize = 1024;
const FFN: Ffn = Ffn { input: FEATURES, hidden: 4096, output: FEATURES, activation: Activation::Gelu };

/// Threads that submit.
const CLIENTS: usize = 2;

/// So many batches wait or run at any moment.
const BATCHES_AHEAD: usize = 4;

/// Rows in a batch. A GPU needs more to be busy, and a processor takes seconds for them.
fn batch_sizes(device: &DemoDevice) -> &'static [usize] {
    if device.is_host() { &[64] } else { &[64, 1024] }
}

fn chosen() -> DemoDevice {
    device(None).expect("the device that SKEP_DEVICE names")
}

/// A group's name, with the backend and the device.
fn on(device: &DemoDevice, what: &str) -> String {
    format!("{what}_on_{BACKEND}_{}", device.name())
}

fn rows(device: &DemoDevice, rows: usize) -> <DemoDevice as TensorOps>::Tensor {
    let values = vec![0.5; rows * FEATURES];
    let host = HostTensor::from_f32(&[rows, FEATURES], &values).expect("as many values as elements");
    device.from_host(&host).expect("room")
}

fn round_trip(c: &mut Criterion) {
    let device = chosen();
    let mut group = c.benchmark_group(on(&device, "round_trip"));
    device.bind_thread().expect("a thread that the device accepts");
    group.bench_function("bare", |b| {
        b.iter(|| {
            let placed = device.gather(&[rows(&device, 1)]).expect("room");
            black_box(device.scatter(placed, &[1]).expect("one row"))
        });
    });
    let mut builder = RuntimeBuilder::new(device.clone());
    let nop = DemoBlock::of("nop", Nop { size: FEATURES }).expect("a valid block");
    let pool = builder.serve(nop, ServeOptions::forward(PoolOptions::default())).expect("a name of its own");
    let _runtime = builder.start().expect("threads");
    group.bench_function("runtime", |b| b.iter(|| black_box(ask(&device, &pool.forward).wait())));
    group.finish();
}

fn ffn(c: &mut Criterion) {
    let device = chosen();
    let mut group = c.benchmark_group(on(&device, "ffn_1024_4096_1024"));
    // A batch takes so long that few fit into a sample.
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(10));
    device.bind_thread().expect("a thread that the device accepts");
    for &size in batch_sizes(&device) {
        group.throughput(Throughput::Elements(size as u64));
        let mut block = DemoBlock::of("bare", FFN).expect("a valid block");
        block.load(&device).expect("room");
        let batch = [device.gather(&[rows(&device, size)]).expect("room")];
        group.bench_function(BenchmarkId::new("bare", size), |b| {
            b.iter_custom(|batches| {
                let start = Instant::now();
                for _ in 0..batches {
                    black_box(block.forward(&batch).expect("outputs"));
                }
                device.synchronize().expect("a device that lives");
                start.elapsed()
            });
        });
        let (_runtime, pool, stats) = serve(&device, size);
        group.bench_function(BenchmarkId::new("runtime", size), |b| {
            b.iter_custom(|batches| saturate(&device, &pool, size, batches));
        });
        eprintln!("batches had {:.1} rows of {size}", stats.snapshot().total.mean_batch_rows);
    }
    group.finish();
}

fn serve(device: &DemoDevice, size: usize) -> (RunningRuntime<DemoDevice>, TaskPool<DemoDevice>, Stats) {
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(device.clone()).observer(stats.observer());
    let options = PoolOptions::default().max_rows(size).capacity(size * BATCHES_AHEAD * 2);
    let block = DemoBlock::of("ffn", FFN).expect("a valid block");
    let pool = builder.serve(block, ServeOptions::forward(options)).expect("a name of its own").forward;
    (builder.start().expect("threads"), pool, stats)
}

type Ticket = backend::skep::runtime::Ticket<<DemoDevice as TensorOps>::Tensor>;

fn ask(device: &DemoDevice, pool: &TaskPool<DemoDevice>) -> Ticket {
    pool.submit(vec![rows(device, 1)]).expect("room")
}

/// Time until so many batches of one-row tasks are answered, by clients that do not wait for each other.
fn saturate(device: &DemoDevice, pool: &TaskPool<DemoDevice>, size: usize, batches: u64) -> Duration {
    let tasks = size as u64 * batches;
    let start = Instant::now();
    let client = |share: u64| {
        let (device, pool) = (device.clone(), pool.clone());
        std::thread::spawn(move || {
            let mut flying = VecDeque::new();
            for _ in 0..share {
                if flying.len() == size * BATCHES_AHEAD / CLIENTS {
                    flying.pop_front().map(Ticket::wait).map(black_box);
                }
                flying.push_back(ask(&device, &pool));
            }
            for ticket in flying {
                black_box(ticket.wait().expect("an answer"));
            }
        })
    };
    let first = tasks / CLIENTS as u64;
    let clients = [client(first), client(tasks - first)];
    for client in clients {
        client.join().expect("no panic");
    }
    start.elapsed()
}

criterion_group!(benches, round_trip, ffn);
criterion_main!(benches);
