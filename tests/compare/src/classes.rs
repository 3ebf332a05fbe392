//! Classes in time: urgent tasks before a queue that is always full, and the least urgent ones behind it.

use crate::Result;
use crate::args::Args;
use crate::contest::Contest;
use crate::drive::{Latencies, Measure, Round};
use crate::null::{self, NullDevice};
use crate::report::Results;
use crate::row::micros;
use crate::scenarios::tokio;
use crate::systems::CAPACITY;
use crate::work::Work;
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::pool::Policy;
use skep_runtime_core::{
    Aging, BatchEvent, Observer, OldestFirst, Priority, Request, RunningRuntime, RuntimeBuilder,
};
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the batches of one class took, the time before they were gathered left out.
#[derive(Debug)]
struct Took {
    class: Priority,
    micros: Mutex<Latencies>,
}

impl Took {
    fn take(&self) -> Latencies {
        std::mem::take(&mut *self.micros.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Took {
    fn batch(&self, event: &BatchEvent<'_>) {
        if event.tasks.iter().any(|task| task.priority == self.class) {
            let took = micros(event.gather + event.device + event.scatter);
            self.micros.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        }
    }
}

/// A runtime with one pool, and callers of two classes.
struct Classes {
    pool: TaskPool<NullDevice>,
    took: Arc<Took>,
    _runtime: RunningRuntime<NullDevice>,
    /// The callers who fill the queue, and their class. They come back as soon as they are answered.
    crowd: (usize, Priority),
    /// The class of the one caller beside them, who rests between two tasks.
    one: Option<Priority>,
}

/// How long the one caller rests.
const REST: Duration = Duration::from_millis(100);

/// Whose answers are counted, and what is taken for their latency.
#[derive(Clone, Copy, Debug)]
enum Counted {
    /// All answers, with the latencies of the one caller.
    All,
    /// Those of the one caller, with what its batches took.
    Batches,
    /// Those of the one caller, from when they were submitted.
    One,
}

impl Classes {
    fn new(
        builder: RuntimeBuilder<NullDevice>,
        work: &Work<NullDevice>,
        max_rows: usize,
        crowd: (usize, Priority),
        one: Option<Priority>,
    ) -> Result<Self> {
        let class = one.unwrap_or_default();
        let took = Arc::new(Took { class, micros: Mutex::default() });
        let mut builder = builder.observer(Arc::clone(&took) as Arc<dyn Observer>);
        let options = PoolOptions::default().max_rows(max_rows).capacity(CAPACITY);
        let pool = builder.serve(work.block("block")?, ServeOptions::forward(options))?.forward;
        Ok(Self { pool, took, _runtime: builder.start()?, crowd, one })
    }

    fn rounds<'a>(
        self,
        runtime: &'a ::tokio::runtime::Runtime,
        work: &'a Work<NullDevice>,
        counted: Counted,
    ) -> Round<'a> {
        Box::new(move |time| {
            // All of it, or the runtime would stay behind and end.
            let this = &self;
            let (measure, start) = (Arc::new(Measure::default()), Instant::now());
            this.took.take();
            let crowd: Vec<_> = (0..this.crowd.0)
                .map(|_| {
                    let (pool, measure, class) = (this.pool.clone(), Arc::clone(&measure), this.crowd.1);
                    let mut tasks = work.tasks();
                    runtime.spawn(async move {
                        while start.elapsed() < time {
                            let request = Request::new(tasks()).priority(class);
                            let ticket = pool.submit_async(request).await.expect("a task that fits");
                            black_box(ticket.await.expect("a block that does not fail"));
                            measure.begin(|| None);
                        }
                    })
                })
                .collect();
            let mut latencies = Latencies::new();
            if let Some(class) = this.one {
                let mut tasks = work.tasks();
                // On this thread: the callers of the crowd have others.
                while start.elapsed() < time {
                    std::thread::sleep(REST);
                    let begun = Instant::now();
                    let ticket = this.pool.submit(Request::new(tasks()).priority(class))?;
                    black_box(ticket.wait()?);
                    latencies.push(micros(begun.elapsed()));
                    measure.begin(|| None);
                }
            }
            for caller in crowd {
                runtime.block_on(caller)?;
            }
            let ones = latencies.len() as u64;
            let mut sample = measure.end(latencies, || None)?;
            match counted {
                Counted::All => {}
                Counted::One | Counted::Batches => {
                    (sample.tasks, sample.rows, sample.batches) = (ones, ones, ones);
                }
            }
            if matches!(counted, Counted::Batches) {
                sample.latencies_us = this.took.take();
            }
            Ok(sample)
        })
    }
}

/// So long is a round at least: the one caller must have had its turn often enough.
const ROUND: Duration = Duration::from_secs(5);

/// An urgent task before a full queue: what its batch takes, filled up with others or not, and what all have of it.
pub(crate) fn riders(args: &Args, results: &mut Results) -> Result<()> {
    const CROWD: usize = 64;
    const MAX_ROWS: usize = 16;
    let work = null::taking(Duration::ZERO, Duration::from_millis(10))?;
    let runtime = tokio()?;
    let enter =
        |crowd, one, builder| Classes::new(builder, &work, MAX_ROWS, (crowd, Priority::BACKGROUND), one);
    let (builder, urgent) = (|| RuntimeBuilder::new(work.device()), Some(Priority::URGENT));
    let time = args.long().max(ROUND);

    let workload = format!("batches of an urgent task, 10 ms a row, {CROWD} background callers");
    let mut contest = Contest::new(&workload, 1);
    contest.enter("alone", enter(0, urgent, builder())?.rounds(&runtime, &work, Counted::Batches));
    for (name, builder) in [("skep", builder()), ("skep, batches filled up", builder().riders(f64::INFINITY))]
    {
        contest.enter(name, enter(CROWD, urgent, builder)?.rounds(&runtime, &work, Counted::Batches));
    }
    contest.run(args, time, results)?;

    let workload = format!("all tasks, 10 ms a row, {CROWD} background callers");
    let mut contest = Contest::new(&workload, CROWD).with_kept();
    contest
        .enter("without urgent tasks", enter(CROWD, None, builder())?.rounds(&runtime, &work, Counted::All));
    let with = enter(CROWD, urgent, builder())?;
    contest.enter("with an urgent task every 100 ms", with.rounds(&runtime, &work, Counted::All));
    contest.run(args, time, results)
}

/// A task of the lowest class behind callers of the highest one who fill the device.
pub(crate) fn aging(args: &Args, results: &mut Results) -> Result<()> {
    const CROWD: usize = 128;
    const MAX_ROWS: usize = 32;
    const STEP: Duration = Duration::from_millis(1);
    let (fixed, per_row) = (Duration::from_millis(2), Duration::from_micros(125));
    let work = null::taking(fixed, per_row)?;
    let (runtime, batch) = (tokio()?, fixed + per_row * 32);
    let handicap = Aging::new(STEP).handicap(Priority::BACKGROUND, Priority::URGENT);
    let workload = format!("a background task, 2 ms and 0.125 ms a row, {CROWD} urgent callers");
    let mut contest = Contest::new(&workload, 1);
    let policies: [(_, Arc<dyn Policy>); 2] =
        [("oldest first", Arc::new(OldestFirst)), ("aging, 1 ms a level", Arc::new(Aging::new(STEP)))];
    for (name, policy) in policies {
        let builder = RuntimeBuilder::new(work.device()).policy(policy);
        let classes =
            Classes::new(builder, &work, MAX_ROWS, (CROWD, Priority::URGENT), Some(Priority::BACKGROUND))?;
        contest.enter(name, classes.rounds(&runtime, &work, Counted::One));
    }
    contest.run(args, args.long().max(ROUND), results)?;
    results.note(format!(
        "Under aging nobody who comes {} ms later or more overtakes the background task; then it is behind {} batches of {} ms.",
        handicap.as_millis(),
        CROWD / MAX_ROWS,
        batch.as_millis(),
    ));
    Ok(())
}
