//! What the runtime itself costs, on a fake device whose block does nothing, so that nothing else is
//! measured. The floor beside it is what no runtime can go below: one queue, one thread that drains it
//! greedily, one-shot replies, and none of the features.
//!
//! Device: the processor; there is nothing to synchronise.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[cfg(feature = "backend")]
#[path = "../examples/common/backend.rs"]
#[allow(dead_code, reason = "the demos use all of it")]
mod backend;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served, TaskPool};
use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
use skep_runtime_core::{Device, DeviceError, Observer, RunningRuntime, RuntimeBuilder, TensorOps, Ticket};
use skep_stats::Stats;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads that submit. Each keeps `outstanding / CLIENTS` tasks in flight.
const CLIENTS: usize = 2;

fn null_block(name: &str) -> FnBlock<FakeDevice> {
    FnBlock::rows(name, 1, |x: &[FakeTensor]| Ok(vec![x[0].clone()]))
}

fn serve(
    pools: usize,
    observer: Option<Arc<dyn Observer>>,
) -> (RunningRuntime<FakeDevice>, Vec<Served<FakeDevice>>) {
    let mut builder = RuntimeBuilder::new(FakeDevice::new());
    if let Some(observer) = observer {
        builder = builder.observer(observer);
    }
    let options = ServeOptions::forward(PoolOptions::default().capacity(4096));
    let blocks = (0..pools)
        .map(|i| builder.serve(null_block(&format!("null.{i}")), options.clone()).expect("a valid block"))
        .collect();
    (builder.start().expect("threads"), blocks)
}

fn task() -> Vec<FakeTensor> {
    vec![FakeTensor::rows(&[[1.0]])]
}

/// A system that answers tasks one by one: ours or the floor.
trait System: Clone + Send + 'static {
    type Pending;
    fn submit(&self) -> Self::Pending;
    fn wait(pending: Self::Pending) -> Vec<FakeTensor>;
}

impl System for TaskPool<FakeDevice> {
    type Pending = Ticket<FakeTensor>;

    fn submit(&self) -> Self::Pending {
        self.submit(task()).expect("room")
    }

    fn wait(pending: Self::Pending) -> Vec<FakeTensor> {
        pending.wait().expect("an answer")
    }
}

type FloorTask = (Vec<FakeTensor>, oneshot::Sender<Vec<FakeTensor>>);

#[derive(Clone)]
struct Floor(flume::Sender<FloorTask>);

impl Floor {
    fn start() -> Self {
        let (send, receive) = flume::bounded::<FloorTask>(4096);
        std::thread::spawn(move || {
            let mut batch = Vec::new();
            while let Ok(first) = receive.recv() {
                batch.push(first);
                batch.extend(receive.try_iter().take(63));
                for (inputs, reply) in batch.drain(..) {
                    reply.send(black_box(inputs)).ok();
                }
            }
        });
        Self(send)
    }
}

impl System for Floor {
    type Pending = oneshot::Receiver<Vec<FakeTensor>>;

    fn submit(&self) -> Self::Pending {
        let (reply, pending) = oneshot::channel();
        self.0.send((task(), reply)).expect("a running thread");
        pending
    }

    fn wait(pending: Self::Pending) -> Vec<FakeTensor> {
        pending.recv().expect("an answer")
    }
}

/// Time for `tasks` tasks with `outstanding` of them in flight at any moment.
fn saturate<S: System>(system: &S, outstanding: usize, tasks: u64) -> Duration {
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let system = system.clone();
            std::thread::spawn(move || {
                let mut flying = VecDeque::with_capacity(outstanding);
                for _ in 0..tasks.div_ceil(CLIENTS as u64) {
                    if flying.len() == outstanding.div_ceil(CLIENTS) {
                        flying.pop_front().map(S::wait).map(black_box);
                    }
                    flying.push_back(system.submit());
                }
                for pending in flying {
                    black_box(S::wait(pending));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no panic");
    }
    start.elapsed()
}

fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round_trip");
    let floor = Floor::start();
    group.bench_function("floor", |b| b.iter(|| Floor::wait(floor.submit())));
    let (_runtime, blocks) = serve(1, None);
    group.bench_function("skep", |b| b.iter(|| TaskPool::wait(System::submit(&blocks[0].forward))));
    let stats = Stats::new();
    let (_runtime, blocks) = serve(1, Some(stats.observer()));
    group
        .bench_function("skep_with_stats", |b| b.iter(|| TaskPool::wait(System::submit(&blocks[0].forward))));
    let (_runtime, blocks) = serve(10_000, None);
    group.bench_function("skep_beside_9999_idle_pools", |b| {
        b.iter(|| TaskPool::wait(System::submit(&blocks[5000].forward)));
    });
    group.finish();
}

fn saturation(c: &mut Criterion) {
    let mut group = c.benchmark_group("saturation");
    group.throughput(Throughput::Elements(1));
    let floor = Floor::start();
    let stats = Stats::new();
    let (_runtime, blocks) = serve(1, Some(stats.observer()));
    for outstanding in [8, 64, 512] {
        group.bench_function(BenchmarkId::new("floor", outstanding), |b| {
            b.iter_custom(|tasks| saturate(&floor, outstanding, tasks));
        });
        group.bench_function(BenchmarkId::new("skep_with_stats", outstanding), |b| {
            b.iter_custom(|tasks| saturate(&blocks[0].forward, outstanding, tasks));
        });
    }
    group.finish();
}

/// One batch of each of many ready pools: what it costs to find the most urgent one, cut and run it.
fn choose(c: &mut Criterion) {
    let mut group = c.benchmark_group("choose_among_ready_pools");
    group.throughput(Throughput::Elements(1));
    for pools in [1, 100, 10_000] {
        let (_runtime, blocks) = serve(pools, None);
        group.bench_function(BenchmarkId::from_parameter(pools), |b| {
            b.iter_custom(|batches| {
                let start = Instant::now();
                for round in 0..batches.div_ceil(pools as u64) {
                    let left = usize::try_from(batches - round * pools as u64).unwrap_or(pools);
                    let tickets: Vec<_> =
                        blocks.iter().take(left).map(|block| System::submit(&block.forward)).collect();
                    for ticket in tickets {
                        black_box(TaskPool::wait(ticket));
                    }
                }
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// 10,000 tasks before a pool that makes batches of up to 64 rows, on a device with room for 24, and before one
/// whose batches are no larger than that from the start: what it costs to find out.
fn taken_apart(c: &mut Criterion) {
    const TASKS: usize = 10_000;
    const ROOM: usize = 24;
    let mut group = c.benchmark_group("taken_apart");
    group.throughput(Throughput::Elements(TASKS as u64)).sample_size(10);
    for (name, max_rows) in [("max_rows_24", ROOM), ("max_rows_64_room_for_24", 64)] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| run_all(TASKS, max_rows, ROOM)).sum());
        });
    }
    group.finish();
}

/// The time from the start of a runtime to the last answer of `tasks` tasks that were there before. A batch takes
/// 100 µs and 5 µs a row, also when there turns out to be no room for it.
fn run_all(tasks: usize, max_rows: usize, room: usize) -> Duration {
    let mut builder = RuntimeBuilder::new(FakeDevice::new());
    let block = FnBlock::rows("small", 1, move |x: &[FakeTensor]| {
        let rows = x[0].values().len();
        let end = Instant::now() + Duration::from_micros(100 + 5 * rows as u64);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        if rows > room {
            let (device, message) = ("fake".to_owned(), format!("{rows} rows, room for {room}"));
            return Err(DeviceError::OutOfMemory { device, message }.into());
        }
        Ok(vec![x[0].clone()])
    });
    let options = PoolOptions::default().capacity(tasks).max_rows(max_rows);
    let pool = builder.serve(block, ServeOptions::forward(options)).expect("a valid block").forward;
    let pending: Vec<_> = (0..tasks).map(|_| System::submit(&pool)).collect();
    let start = Instant::now();
    let _runtime = builder.start().expect("threads");
    for pending in pending {
        black_box(TaskPool::wait(pending));
    }
    start.elapsed()
}

/// Joining 64 one-row tasks of 1,024 `f32` into a batch on the processor, and cutting it up again.
#[cfg(feature = "backend")]
fn gather_scatter(c: &mut Criterion) {
    use backend::BACKEND;
    use skep_runtime_core::HostTensor;

    let mut group = c.benchmark_group(format!("gather_scatter_{BACKEND}_cpu"));
    group.throughput(Throughput::Bytes(64 * 1024 * 4));
    let device = backend::cpu(None).expect("the processor");
    let row = HostTensor::from_f32(&[1, 1024], &[0.5; 1024]).expect("1,024 values");
    let parts: Vec<_> = (0..64).map(|_| device.from_host(&row).expect("a tensor")).collect();
    group.bench_function("gather", |b| b.iter(|| device.gather(black_box(&parts)).expect("room")));
    group.bench_function("scatter", |b| {
        b.iter_batched(
            || device.gather(&parts).expect("room"),
            |batch| device.scatter(batch, &[1; 64]).expect("rows"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

#[cfg(not(feature = "backend"))]
fn gather_scatter(_: &mut Criterion) {}

criterion_group!(benches, round_trip, saturation, choose, taken_apart, gather_scatter);
criterion_main!(benches);
