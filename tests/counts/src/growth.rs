//! How the cost of one operation grows with what waits: `cargo xtask bench growth` prints the table.
//!
//! Everything happens on one thread, at the pool itself, with tensors that are numbers, so that nothing but the queue
//! and the answers is measured.

use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::pool::{Pool, Settled, Terms};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    BatchEvent, Clock, Counts, DType, DeviceError, Dim, Dims, HostTensor, Meter, Pass, PoolId, Priority,
    Request, RuntimeId, Schema, TaskHeader, TensorInfo, TensorOps, TensorSpec, Ticket,
};
use skep_stats::Stats;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const SHAPES: [usize; 3] = [1_000, 16_000, 256_000];
const WAITERS: usize = 4_000;
const POOLS: u32 = 10_000;

/// A tensor of one row, of so many elements.
struct Row(usize);

struct Rows;

impl TensorOps for Rows {
    type Tensor = Row;

    fn describe(&self, tensor: &Row) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: DType::F32, dims: Dims::from([1, tensor.0]) })
    }

    fn join(&self, _: Vec<Row>) -> Result<Row, DeviceError> {
        Err(DeviceError::operation("nothing is joined"))
    }

    fn split(&self, _: &Row, _: &[usize]) -> Result<Vec<Row>, DeviceError> {
        Err(DeviceError::operation("nothing is split"))
    }

    fn index_outside(&self, _: &Row, _: u64) -> Result<Option<i64>, DeviceError> {
        Ok(None)
    }

    fn from_host(&self, _: &HostTensor) -> Result<Row, DeviceError> {
        Err(DeviceError::operation("nothing is read"))
    }

    fn to_host(&self, _: &Row) -> Result<HostTensor, DeviceError> {
        Err(DeviceError::operation("nothing is written"))
    }
}

struct Bench {
    pool: TaskPool<Rows>,
    contract: Arc<dyn Pool<Row>>,
    clock: Arc<ManualClock>,
    owner: RuntimeId,
}

impl Bench {
    fn new(capacity: usize, max_rows: usize, dim: Dim) -> Self {
        let clock = ManualClock::new();
        let schema =
            Schema::new(vec![TensorSpec::new("x", DType::F32, [Dim::Batch, dim])]).expect("a schema");
        let options = PoolOptions::default().capacity(capacity).max_rows(max_rows);
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let pool = TaskPool::new("pool".to_owned(), Pass::Forward, Arc::new(Rows), schema, options, time);
        let pool = pool.expect("good options");
        let (contract, owner) = (pool.as_pool(), RuntimeId::next());
        assert!(contract.claim(owner), "nobody else has it");
        Self { pool, contract, clock, owner }
    }

    fn plain(capacity: usize, max_rows: usize) -> Self {
        Self::new(capacity, max_rows, Dim::Fixed(1))
    }

    fn submit(&self, request: Request<Row>) -> Ticket<Row> {
        self.pool.try_submit(request).expect("room")
    }

    /// Cuts one batch as the runtime does, and answers its tasks. Returns how many there were.
    fn cut(&self) -> usize {
        let terms = Terms::new(self.clock.now(), usize::MAX);
        let Some(batch) = self.contract.cut(&terms) else { return 0 };
        self.contract.after_cut();
        let tasks = batch.tasks.len();
        for task in batch.tasks {
            task.reply.answer(Ok(Vec::new()));
        }
        tasks
    }

    /// Cuts everything, and returns the number of batches and the time of the cuts.
    fn cut_all(&self) -> (usize, Duration) {
        let start = Instant::now();
        let mut batches = 0;
        while self.cut() > 0 {
            batches += 1;
        }
        (batches, start.elapsed())
    }

    fn expire(&self) -> usize {
        let mut expired = self.contract.expire(self.owner, self.clock.now());
        self.contract.after_cut();
        Settled::deliver_all(&mut expired.settled);
        expired.settled.len()
    }
}

fn task() -> Request<Row> {
    Request::new(vec![Row(1)])
}

/// All numbers below `n` once, in an order that looks random and is the same each time.
fn shuffled(n: usize) -> Vec<usize> {
    let mut numbers: Vec<_> = (0..n).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..n).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(at, usize::try_from(state % (at as u64 + 1)).unwrap_or(at));
    }
    numbers
}

fn each(time: Duration, n: usize) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6 / n as f64)
}

/// Submitting with deadlines that all differ, beside none, and what an expired one costs.
fn deadlines(n: usize) -> [String; 3] {
    let order = shuffled(n);
    let submit = |deadline: &dyn Fn(usize) -> Option<Duration>| {
        let bench = Bench::plain(n, 64);
        let mut tickets = Vec::with_capacity(n);
        let start = Instant::now();
        tickets.extend(order.iter().map(|&i| bench.submit(task().deadline(deadline(i)))));
        (start.elapsed(), bench, tickets)
    };
    let (without, bench, tickets) = submit(&|_| None);
    bench.cut_all();
    drop(tickets);
    let (with, bench, tickets) = submit(&|i| Some(Duration::from_micros(1 + i as u64)));
    let steps = 1_000.min(n);
    let (mut expired, start) = (0, Instant::now());
    for _ in 0..=steps {
        bench.clock.advance(Duration::from_micros((n / steps) as u64));
        expired += bench.expire();
    }
    let took = start.elapsed();
    assert!(expired == n && tickets.iter().all(Ticket::is_done), "{expired} of {n} expired");
    [each(without, n), each(with, n), each(took, n)]
}

/// Cancelling all of what waits in random order.
fn cancel(n: usize, max_rows: usize) -> String {
    let bench = Bench::plain(n, max_rows);
    let mut tickets: Vec<_> = (0..n).map(|_| Some(bench.submit(task()))).collect();
    let order = shuffled(n);
    let start = Instant::now();
    for i in order {
        drop(tickets[i].take());
    }
    let took = start.elapsed();
    assert_eq!(bench.pool.counts().cancelled, n as u64);
    format!("{:.3} s", took.as_secs_f64())
}

/// As many priorities as tasks: submitting them, and cutting all.
fn priorities(n: usize) -> String {
    let bench = Bench::plain(n, 64);
    let order = shuffled(n);
    let mut tickets = Vec::with_capacity(n);
    let start = Instant::now();
    tickets.extend(order.iter().map(|&i| {
        let priority = Priority(i32::try_from(i).unwrap_or(i32::MAX));
        bench.submit(task().priority(priority))
    }));
    let submitted = start.elapsed();
    let (_, cut) = bench.cut_all();
    assert!(tickets.iter().all(Ticket::is_done));
    format!("{:.3} + {:.3} s", submitted.as_secs_f64(), cut.as_secs_f64())
}

/// As many shapes as tasks: each is a batch of its own.
fn shapes(n: usize) -> [String; 2] {
    let bench = Bench::new(n, 64, Dim::free("n", n));
    let mut tickets = Vec::with_capacity(n);
    let start = Instant::now();
    tickets.extend(shuffled(n).iter().map(|&i| {
        bench.clock.advance(Duration::from_nanos(1));
        bench.submit(Request::new(vec![Row(i + 1)]))
    }));
    let submitted = start.elapsed();
    let (batches, took) = bench.cut_all();
    assert_eq!(batches, n);
    [each(submitted, n), each(took, n)]
}

/// Choosing and cutting batches of 64 while so many wait.
fn choose(n: usize) -> String {
    const BATCHES: usize = 100;
    let bench = Bench::plain(n + 64 * BATCHES, 64);
    let mut tickets: Vec<_> = (0..n + 64 * BATCHES).map(|_| bench.submit(task())).collect();
    let mut cut = Vec::with_capacity(BATCHES);
    let start = Instant::now();
    for _ in 0..BATCHES {
        cut.push(bench.contract.cut(&Terms::new(bench.clock.now(), usize::MAX)));
    }
    let took = start.elapsed();
    black_box(&mut tickets);
    drop(cut);
    bench.cut_all();
    each(took, BATCHES)
}

struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Callers who wait for room, each with a deadline of its own: how often they are woken in all.
fn waiters() -> String {
    let bench = Bench::plain(1, 64);
    let _held = bench.submit(task());
    let counting = Arc::new(CountingWaker(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&counting));
    let mut context = Context::from_waker(&waker);
    let mut callers: Vec<_> = (0..WAITERS)
        .map(|i| {
            let request = task().deadline(Duration::from_micros(1 + i as u64));
            Box::pin(bench.pool.submit_async(request))
        })
        .collect();
    assert!(callers.iter_mut().all(|caller| caller.as_mut().poll(&mut context).is_pending()));
    let start = Instant::now();
    for _ in 0..WAITERS {
        bench.clock.advance(Duration::from_micros(1));
        bench.expire();
    }
    let took = start.elapsed();
    let refused = |poll: Poll<Result<_, _>>| matches!(poll, Poll::Ready(Err(_)));
    assert!(callers.iter_mut().all(|caller| refused(caller.as_mut().poll(&mut context))));
    format!("{} wake-ups, {} each", counting.0.load(Ordering::SeqCst), each(took, WAITERS))
}

struct Quiet;

impl Meter for Quiet {
    fn name(&self) -> &'static str {
        "a_block_forward"
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }
}

/// What pools take in the stats that have had ten batches each, and how long a snapshot of them takes.
fn snapshot() -> [String; 2] {
    let stats = Stats::new();
    let observer = stats.observer();
    let start = Instant::now();
    observer.started("none", start);
    for pool in 0..POOLS {
        observer.pool_added(PoolId::new(pool), Arc::new(Quiet));
    }
    let before = resident();
    for pool in 0..POOLS {
        for batch in 0..10 {
            let micros = |n: u32| Duration::from_micros(u64::from(n * (batch + 1) + pool % 97));
            let tasks = [TaskHeader::new(1, start)];
            let mut event = BatchEvent::new(PoolId::new(pool), Pass::Forward, &tasks, start + micros(100));
            (event.gather, event.device, event.scatter) = (micros(7), micros(300), micros(9));
            event.done = event.cut + micros(400);
            (event.rows, event.tasks_succeeded) = (1, 1);
            observer.batch(&event);
        }
    }
    let memory = match (before, resident()) {
        (Some(before), Some(after)) => format!("{} bytes", after.saturating_sub(before) / POOLS as usize),
        _ => "not told".to_owned(),
    };
    let times = (0..10).map(|_| {
        let start = Instant::now();
        assert_eq!(black_box(stats.snapshot()).pools.len(), POOLS as usize);
        start.elapsed()
    });
    let best = times.min().unwrap_or_default();
    [memory, format!("{:.1} ms", best.as_secs_f64() * 1e3)]
}

/// Memory of this process; `None` where the system does not tell.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

/// Measures, and prints the table.
pub(crate) fn measure() {
    // First, because the memory that others have left would be taken again.
    let [memory, time] = snapshot();
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["what waits", "few", "more", "many", "wanted"]);
    let mut add = |what: &str, cells: [String; 3], wanted: &str| {
        let [few, more, many] = cells;
        table.add_row([what.to_owned(), few, more, many, wanted.to_owned()]);
    };
    add("tasks", SIZES.map(|n| n.to_string()), "");
    let [a, b, c] = SIZES.map(deadlines);
    add("submit, no deadline, each", [a[0].clone(), b[0].clone(), c[0].clone()], "");
    add("submit, deadlines all different, each", [a[1].clone(), b[1].clone(), c[1].clone()], "within 20 %");
    add("expire, each", [a[2].clone(), b[2].clone(), c[2].clone()], "at most 1 µs");
    add("cancel all in random order", SIZES.map(|n| cancel(n, 64)), "1M below 1 s");
    add("the same, batches of 8 rows", SIZES.map(|n| cancel(n, 8)), "1M below 1 s");
    add("priorities all different, submit + cut", SIZES.map(priorities), "1M below 2 s");
    add("choose and cut 64, plain queue, per batch", SIZES.map(choose), "no growth to speak of");
    add("shapes all different", SHAPES.map(|n| n.to_string()), "");
    let [a, b, c] = SHAPES.map(shapes);
    add("submit, each", [a[0].clone(), b[0].clone(), c[0].clone()], "no growth beyond log n");
    add("cut, per batch", [a[1].clone(), b[1].clone(), c[1].clone()], "no growth beyond log n");
    println!("{table}");
    println!(
        "{WAITERS} callers in line with deadlines of their own: {} (wanted: one wake-up each)",
        waiters()
    );
    println!(
        "stats of {POOLS} pools with ten batches each: {memory} a pool (wanted: at most 8 KB), a snapshot {time} (wanted: at most 20 ms)"
    );
}
