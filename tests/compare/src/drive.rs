//! The callers: they keep a number of tasks outstanding for a time, and note how long answers take.
//!
//! A round is measured from its first answer to its last, and what counts are the batches that end between the
//! two. The first batch does not: it began earlier, and has few rows, because nothing else waited yet.

use crate::Result;
use crate::row::{Sample, micros};
use crate::work::{Tasks, Work, ran_so_far};
use rustix::time::{ClockId, clock_gettime};
use skep_runtime_core::Device;
use std::collections::VecDeque;
use std::future::Future;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Threads that submit, where more than one task is outstanding.
pub(crate) const CALLERS: usize = 2;

/// Where many tasks are outstanding, the latency of one in so many is taken: asking for the time is a good
/// part of what a null task costs.
const LATENCY_OF_ONE_IN: usize = 8;

/// Bare calls of one round, at least.
const FEWEST_CALLS: usize = 4;

/// One round of a system, of about this time.
pub(crate) type Round<'a> = Box<dyn FnMut(Duration) -> Result<Sample> + 'a>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Tasks in flight at any moment.
    pub(crate) outstanding: usize,
    /// Pools that the tasks go to, one after the other.
    pub(crate) pools: usize,
}

impl Load {
    fn latency_of_one_in(self) -> usize {
        if self.outstanding == 1 { 1 } else { LATENCY_OF_ONE_IN }
    }
}

/// A system whose callers are threads that wait.
pub(crate) trait Blocking<T>: Sync {
    type Pending;
    fn submit(&self, pool: usize, task: Vec<T>) -> Self::Pending;
    fn wait(&self, pending: Self::Pending) -> Vec<T>;
    /// Time for which the device has run batches so far, where the system tells.
    fn busy(&self) -> Option<Duration> {
        None
    }
}

/// A system whose callers are asynchronous tasks.
pub(crate) trait Awaited<T>: Clone + Send + Sync + 'static {
    fn call(&self, pool: usize, task: Vec<T>) -> impl Future<Output = Vec<T>> + Send;
}

/// Rounds of a system whose callers are threads: one thread where one task is outstanding, else [`CALLERS`],
/// each of which waits for its oldest task when it has its share outstanding.
pub(crate) fn blocking<'a, D: Device + Clone, S: Blocking<D::Tensor> + 'a>(
    system: S,
    work: &Work<D>,
    load: Load,
) -> Round<'a> {
    let mut callers: Vec<_> = (0..load.outstanding.min(CALLERS)).map(|_| work.tasks()).collect();
    let each = Load { outstanding: load.outstanding.div_ceil(callers.len()), ..load };
    Box::new(move |time| {
        let (system, measure) = (&system, &Measure::default());
        let latencies = std::thread::scope(|scope| {
            let threads: Vec<_> = callers
                .iter_mut()
                .enumerate()
                .map(|(i, tasks)| scope.spawn(move || call_and_wait(system, tasks, each, i, time, measure)))
                .collect();
            let all = threads.into_iter().map(|thread| thread.join().map_err(|_| "a caller panicked"));
            all.collect::<std::result::Result<Vec<_>, _>>()
        })?;
        measure.end(latencies.concat(), || system.busy())
    })
}

/// In µs.
pub(crate) type Latencies = Vec<f64>;

fn call_and_wait<T, S: Blocking<T>>(
    system: &S,
    tasks: &mut Tasks<T>,
    load: Load,
    caller: usize,
    time: Duration,
    measure: &Measure,
) -> Latencies {
    let Load { outstanding, pools } = load;
    let one_in = load.latency_of_one_in();
    let mut flying: VecDeque<(S::Pending, Option<Instant>)> = VecDeque::with_capacity(outstanding);
    let mut latencies = Latencies::new();
    // Callers begin at different pools, or all would fill the same one at the same time.
    let first_pool = caller * pools / CALLERS;
    let land = |(pending, begun): (_, Option<Instant>), latencies: &mut Latencies| {
        black_box(system.wait(pending));
        latencies.extend(begun.map(|begun| micros(begun.elapsed())));
        measure.begin(|| system.busy());
    };
    let start = Instant::now();
    for i in 0.. {
        let timed = (i % one_in == 0).then(Instant::now);
        if timed.is_some_and(|now| now - start >= time) {
            break;
        }
        flying.push_back((system.submit((first_pool + i) % pools, tasks()), timed));
        if flying.len() == outstanding
            && let Some(oldest) = flying.pop_front()
        {
            land(oldest, &mut latencies);
        }
    }
    for task in flying {
        land(task, &mut latencies);
    }
    latencies
}

/// Rounds of a system whose callers are asynchronous tasks, as many as tasks are outstanding, on tokio's
/// threads, as many as there are [`CALLERS`].
pub(crate) fn awaited<'a, D: Device + Clone, S: Awaited<D::Tensor>>(
    runtime: &'a tokio::runtime::Runtime,
    system: S,
    work: &Work<D>,
    load: Load,
) -> Round<'a> {
    let one_in = load.latency_of_one_in();
    let mut callers: Vec<_> = (0..load.outstanding).map(|_| work.tasks()).collect();
    Box::new(move |time| {
        let (measure, start) = (Arc::new(Measure::default()), Instant::now());
        let running: Vec<_> = callers
            .drain(..)
            .enumerate()
            .map(|(caller, mut tasks)| {
                let (system, measure) = (system.clone(), Arc::clone(&measure));
                runtime.spawn(async move {
                    let mut latencies = Latencies::new();
                    for i in 0.. {
                        let timed = (i % one_in == 0).then(Instant::now);
                        if timed.is_some_and(|now| now - start >= time) {
                            break;
                        }
                        // Always the same pool, so that each has as many tasks outstanding as those of threads.
                        black_box(system.call(caller % load.pools, tasks()).await);
                        latencies.extend(timed.map(|timed| micros(timed.elapsed())));
                        measure.begin(|| None);
                    }
                    (latencies, tasks)
                })
            })
            .collect();
        let mut all = Latencies::new();
        for task in running {
            let (latencies, tasks) = runtime.block_on(task)?;
            all.extend(latencies);
            callers.push(tasks);
        }
        measure.end(all, || None)
    })
}

/// Rounds of calls from one thread, without any system: `batch` tasks each, to each of `blocks` blocks in turn.
pub(crate) fn bare<'a, D: Device + Clone>(work: &Work<D>, batch: usize, blocks: usize) -> Result<Round<'a>> {
    bare_together(&[work], batch, blocks)
}

/// The same from as many threads as there are works, at the same time.
pub(crate) fn bare_together<'a, D: Device + Clone>(
    works: &[&Work<D>],
    batch: usize,
    blocks: usize,
) -> Result<Round<'a>> {
    let callers = works
        .iter()
        .map(|work| Ok((work.tasks(), (0..blocks).map(|_| work.module()).collect::<Result<Vec<_>>>()?)));
    let mut callers = callers.collect::<Result<Vec<_>>>()?;
    Ok(Box::new(move |time| {
        let (callers, measure) = (&mut callers, &Measure::default());
        // Threads of their own, because a device may bind itself to a thread for good.
        let latencies = std::thread::scope(|scope| {
            let calls = callers.iter_mut().map(|(tasks, modules)| {
                scope.spawn(move || {
                    for module in modules.iter() {
                        module.bind().map_err(|error| error.to_string())?;
                    }
                    let (start, mut latencies) = (Instant::now(), Latencies::new());
                    // Of slow models a few calls all the same: the first one is not measured.
                    for call in 0.. {
                        if call >= FEWEST_CALLS && start.elapsed() >= time {
                            break;
                        }
                        let begun = Instant::now();
                        let parts = (0..batch).map(|_| tasks()).collect();
                        black_box(modules[call % blocks].run(parts).map_err(|error| error.to_string())?);
                        latencies.push(micros(begun.elapsed()));
                        measure.begin(|| None);
                    }
                    Ok::<_, String>(latencies)
                })
            });
            let calls: Vec<_> = calls.collect();
            let all =
                calls.into_iter().map(|call| call.join().map_err(|_| "the block panicked".to_owned())?);
            all.collect::<std::result::Result<Vec<_>, _>>()
        })?;
        measure.end(latencies.concat(), || None)
    }))
}

/// What is read off the machine at the beginning of a measurement, which is the first answer.
#[derive(Default)]
pub(crate) struct Measure(OnceLock<Begin>);

struct Begin {
    batches: u64,
    rows: u64,
    start: Instant,
    cpu: f64,
    busy: Option<Duration>,
}

impl Measure {
    /// Called with each answer, of which the first begins the measurement.
    pub(crate) fn begin(&self, busy: impl FnOnce() -> Option<Duration>) {
        self.0.get_or_init(|| {
            // What costs most to ask goes first: adding up the stats of thousands of pools takes a while.
            let (busy, cpu) = (busy(), cpu_seconds());
            let (batches, rows) = ran_so_far();
            Begin { batches, rows, start: Instant::now(), cpu, busy }
        });
    }

    pub(crate) fn end(
        &self,
        latencies_us: Latencies,
        busy: impl FnOnce() -> Option<Duration>,
    ) -> Result<Sample> {
        let begin = self.0.get().ok_or("no task was answered")?;
        let seconds = begin.start.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - begin.cpu;
        let (batches, rows) = ran_so_far();
        let rows = rows - begin.rows;
        let busy = begin.busy.zip(busy()).map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        Ok(Sample {
            tasks: rows,
            rows,
            batches: batches - begin.batches,
            seconds,
            cpu_seconds,
            latencies_us,
            device_busy: busy.map(|busy| busy / seconds),
        })
    }
}

/// What this process has used of all processors together.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
