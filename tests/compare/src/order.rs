//! The order of work in time: short tasks beside long ones, callers who wait for their answers, many pools.

use crate::Result;
use crate::args::Args;
use crate::backend::{self, BackendDevice};
use crate::contest::Contest;
use crate::drive::{Latencies, Load, Round, awaited, bare, blocking};
use crate::null;
use crate::report::Results;
use crate::row::{Sample, micros};
use crate::scenarios::tokio;
use crate::systems::CAPACITY;
use crate::systems::batch_aint_one::BatchAintOne;
use crate::systems::floor::Floor;
use crate::systems::skep::{Observed, Skep};
use crate::work::{Tasks, Work};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::{Device, Fair, Flow, Request, RunningRuntime, RuntimeBuilder};
use skep_stats::{Snapshot, Stats};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A runtime with one pool, as asynchronous callers see it.
struct Served<D: Device> {
    pool: TaskPool<D>,
    stats: Stats,
    _runtime: RunningRuntime<D>,
}

fn serve(
    builder: RuntimeBuilder<BackendDevice>,
    work: &Work<BackendDevice>,
    max_rows: usize,
) -> Result<Arc<Served<BackendDevice>>> {
    let stats = Stats::new();
    let mut builder = builder.observer(stats.observer());
    let options = PoolOptions::default().max_rows(max_rows).capacity(CAPACITY);
    let pool = builder.serve(work.block("block")?, ServeOptions::forward(options))?.forward;
    Ok(Arc::new(Served { pool, stats, _runtime: builder.start()? }))
}

/// Callers who wait for each answer before they send the next task.
struct Callers {
    /// The first so many are counted; the others are there.
    counted: usize,
    tasks: Vec<Tasks<<BackendDevice as skep_runtime_core::TensorOps>::Tensor>>,
}

impl Callers {
    fn new(counted: (&Work<BackendDevice>, usize), others: (&Work<BackendDevice>, usize)) -> Self {
        let of =
            |(work, callers): (&Work<BackendDevice>, usize)| (0..callers).map(|_| work.tasks()).collect();
        let (mut tasks, more): (Vec<_>, Vec<_>) = (of(counted), of(others));
        tasks.extend(more);
        Self { counted: counted.1, tasks }
    }
}

/// The device time of the flows of callers that are counted, and of the others.
fn device_time(snapshot: &Snapshot, counted: usize) -> (Duration, Duration) {
    let mut sums = (Duration::ZERO, Duration::ZERO);
    for flow in &snapshot.total.flows {
        let is_counted = flow.of.is_some_and(|flow| usize::try_from(flow).is_ok_and(|flow| flow <= counted));
        let sum = if is_counted { &mut sums.0 } else { &mut sums.1 };
        *sum += flow.device;
    }
    sums
}

/// Rounds of callers, each a flow. Only answers of those that are counted are.
fn rounds(
    runtime: &::tokio::runtime::Runtime,
    served: Arc<Served<BackendDevice>>,
    mut callers: Callers,
    others_share: Arc<std::sync::Mutex<Vec<f64>>>,
) -> Round<'_> {
    Box::new(move |time| {
        let (answered, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let before = device_time(&served.stats.snapshot(), callers.counted);
        let counted = callers.counted;
        let running: Vec<_> = callers
            .tasks
            .drain(..)
            .enumerate()
            .map(|(caller, mut tasks)| {
                let (served, answered) = (Arc::clone(&served), Arc::clone(&answered));
                runtime.spawn(async move {
                    let mut latencies = Latencies::new();
                    let flow = Flow(u32::try_from(caller + 1).unwrap_or(u32::MAX));
                    loop {
                        let begun = Instant::now();
                        if begun - start >= time {
                            return (caller, latencies, tasks);
                        }
                        let request = Request::new(tasks()).flow(flow);
                        let ticket = served.pool.submit_async(request).await.expect("a task that fits");
                        black_box(ticket.await.expect("a block that does not fail"));
                        if caller < counted {
                            latencies.push(micros(begun.elapsed()));
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let mut all = Latencies::new();
        for caller in running {
            let (_, latencies, tasks) = runtime.block_on(caller)?;
            all.extend(latencies);
            callers.tasks.push(tasks);
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = device_time(&served.stats.snapshot(), counted);
        let (mine, others) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        if let Ok(mut shares) = others_share.lock() {
            shares.push(others.as_secs_f64() / (mine + others).as_secs_f64().max(f64::MIN_POSITIVE));
        }
        let tasks = answered.load(Ordering::Relaxed);
        Ok(Sample {
            tasks,
            rows: tasks,
            batches: 0,
            seconds,
            cpu_seconds: f64::NAN,
            latencies_us: all,
            device_busy: None,
        })
    })
}

const SHORT: usize = 16;
const LONG: usize = 320;
const SHORT_CALLERS: usize = 16;
/// So long is a round at least: a batch of long texts takes a second or two, and each must have its share.
const ROUND: Duration = Duration::from_secs(20);

/// What short texts keep of their throughput when long ones come: `rows/s ×` of the table.
pub(crate) fn short_beside_long(args: &Args, results: &mut Results) -> Result<()> {
    let Some(folder) = &args.minilm else {
        results.skip("short-beside-long", "the model is not on this machine");
        return Ok(());
    };
    let [short, long] = [SHORT, LONG].map(|tokens| backend::minilm(folder, tokens));
    let (short, long) = (short?, long?);
    let runtime = tokio()?;
    let workload = format!("MiniLM, {SHORT_CALLERS} callers of {SHORT} tokens, {}", backend::NAME);
    let mut contest = Contest::new(&workload, SHORT_CALLERS).with_kept();
    let mut shares = Vec::new();
    for (name, others, fair) in [
        ("alone", 0, true),
        ("beside 2 of 320 tokens, oldest first", 2, false),
        ("beside 2 of 320 tokens, fair", 2, true),
        ("beside 16 of 320 tokens, oldest first", 16, false),
        ("beside 16 of 320 tokens, fair", 16, true),
    ] {
        let builder = RuntimeBuilder::new(short.device());
        let builder = if fair { builder.policy(Arc::new(Fair::new())) } else { builder };
        let share = Arc::default();
        shares.push((name, others, Arc::clone(&share)));
        let callers = Callers::new((&short, SHORT_CALLERS), (&long, others));
        contest.enter(name, rounds(&runtime, serve(builder, &short, 32)?, callers, share));
    }
    contest.run(args, args.long().max(ROUND), results)?;
    for (name, others, share) in shares.into_iter().filter(|(_, others, _)| *others > 0) {
        // The first round does not count.
        let share = share.lock().map(|share| share.iter().skip(1).copied().collect());
        let mut share: Vec<f64> = share.unwrap_or_default();
        if share.is_empty() {
            continue;
        }
        share.sort_unstable_by(f64::total_cmp);
        let (all, middle) = (SHORT_CALLERS + others, share.get(share.len() / 2).copied().unwrap_or(f64::NAN));
        let of_theirs = middle * all as f64 / others as f64;
        results.note(format!(
            "{name}: the long ones had {:.1} % of the device time, {of_theirs:.2} of their {others}/{all}.",
            middle * 100.0
        ));
    }
    Ok(())
}

/// Callers who come back as soon as they are answered: rows a batch and tasks a second, cut just in time with a wait for
/// company, and cut as soon as there is room.
pub(crate) fn closed_loop(args: &Args, results: &mut Results) -> Result<()> {
    const CALLERS: usize = 64;
    let millis = Duration::from_millis;
    for (name, fixed, per_row) in [
        ("10 ms", millis(10), Duration::ZERO),
        ("2 ms and 0.125 ms a row", millis(2), Duration::from_micros(125)),
        ("0.25 ms a row", Duration::ZERO, Duration::from_micros(250)),
    ] {
        let work = null::taking(fixed, per_row)?;
        let runtime = tokio()?;
        let workload = format!("{CALLERS} callers, a block of {name}");
        let load = Load { outstanding: CALLERS, pools: 1 };
        let mut contest = Contest::new(&workload, CALLERS);
        let start = |builder| Skep::built(builder, &work, 1, Observed::Stats, CALLERS);
        let builder = || RuntimeBuilder::new(work.device());
        contest.enter("skep", awaited(&runtime, start(builder())?, &work, load));
        for prefetch in 0..3 {
            let early = builder().prefetch(prefetch).just_in_time(false).linger(false);
            let name = format!("skep, as early as there is room, prefetch {prefetch}");
            contest.enter(&name, awaited(&runtime, start(early)?, &work, load));
        }
        contest.run(args, args.long(), results)?;
    }
    Ok(())
}

/// Few tasks for each of many blocks.
pub(crate) fn pools(args: &Args, results: &mut Results) -> Result<()> {
    const POOLS: usize = 16;
    const OUTSTANDING: usize = 256;
    let work = backend::ffn()?;
    let workload = format!("ffn, {}, {OUTSTANDING} tasks over {POOLS} pools", backend::NAME);
    let load = Load { outstanding: OUTSTANDING, pools: POOLS };
    let (runtime, rows) = (tokio()?, OUTSTANDING / POOLS);
    let mut contest = Contest::new(&workload, OUTSTANDING);
    contest.enter(&format!("bare call, {rows} rows, in turn"), bare(&work, rows, POOLS)?);
    // What is left of that when callers make the tasks and take the answers, as those of all systems below do.
    contest.enter(
        "bare call with callers, awaited",
        awaited(&runtime, Floor::of_full_batches(&work, POOLS, rows)?, &work, load),
    );
    contest.enter("floor, awaited", awaited(&runtime, Floor::start(&work, POOLS)?, &work, load));
    contest.enter("floor", blocking(Floor::start(&work, POOLS)?, &work, load));
    contest.enter("skep", blocking(Skep::start(&work, POOLS, Observed::Stats)?, &work, load));
    contest
        .enter("skep, awaited", awaited(&runtime, Skep::start(&work, POOLS, Observed::Stats)?, &work, load));
    let peer = runtime.block_on(async { BatchAintOne::start(&work, POOLS) })?;
    contest.enter("batch-aint-one, awaited", awaited(&runtime, peer, &work, load));
    contest.run(args, args.long(), results)
}
