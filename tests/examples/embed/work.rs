//! The run: callers side by side, each with one sentence at a time, and a query that overtakes them.

use crate::common::{Latencies, Progress, Result, skep};
use crate::embedder::{Embedded, Embedder};
use skep::runtime::Priority;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of the run.
pub(crate) struct Outcome {
    /// In the order of the sentences.
    pub(crate) sentences: Vec<Embedded>,
    pub(crate) elapsed: Duration,
    /// From the sentence to its vector.
    pub(crate) latencies: Latencies,
    pub(crate) query: Vec<f32>,
    /// The same of the query, which was urgent.
    pub(crate) query_took: Duration,
}

/// A caller's sentences, by their place in the text.
type Part = (Vec<(usize, Embedded)>, Latencies);

/// Embeds all sentences and, in the middle of it, the query.
pub(crate) fn work(
    embedder: &Embedder,
    sentences: &[String],
    query: &str,
    callers: usize,
) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let mut progress = Progress::new(sentences.len(), "sentences");
    let start = Instant::now();
    let (parts, query) = thread::scope(|scope| {
        let calling: Vec<_> =
            (0..callers).map(|_| scope.spawn(|| call(embedder, sentences, &next))).collect();
        let ask = || timed(|| embedder.embed(query, Priority::URGENT));
        let mut asking = None;
        while !calling.iter().all(ScopedJoinHandle::is_finished) {
            thread::sleep(LOOK_EVERY);
            // Those that are taken: each caller has one that is not done.
            let taken = next.load(Ordering::Relaxed).min(sentences.len());
            if asking.is_none() && taken >= sentences.len() / 2 {
                asking = Some(scope.spawn(ask));
            }
            let rate = taken as f64 / start.elapsed().as_secs_f64();
            progress.show(taken, format!("{rate:.0} per second"));
        }
        (calling.into_iter().map(join).collect::<Vec<_>>(), asking.map_or_else(ask, join))
    });
    let elapsed = start.elapsed();
    progress.end();

    let mut done = Vec::with_capacity(sentences.len());
    let mut latencies = Latencies::default();
    for part in parts {
        let (part, times) = part?;
        done.extend(part);
        latencies = latencies.merged(times);
    }
    done.sort_unstable_by_key(|(place, _)| *place);
    let (query, query_took) = query?;
    Ok(Outcome {
        sentences: done.into_iter().map(|(_, embedded)| embedded).collect(),
        elapsed,
        latencies,
        query: query.vector,
        query_took,
    })
}

/// The work of one caller.
fn call(embedder: &Embedder, sentences: &[String], next: &AtomicUsize) -> Result<Part> {
    let (mut done, mut latencies) = Part::default();
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(sentence) = sentences.get(place) else { return Ok((done, latencies)) };
        let (vector, took) = timed(|| embedder.embed(sentence, Priority::NORMAL))?;
        latencies.record(took);
        done.push((place, vector));
    }
}

fn timed<T>(call: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((call()?, start.elapsed()))
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err("thread panicked".into()))
}
