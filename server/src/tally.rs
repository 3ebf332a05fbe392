//! What the protocol's statistics are made of: counts and times of each pool's batches.
//!
//! `skep-stats` has distributions for people and monitoring; clients want sums, and sums by batch size.

use crate::problem::{Problem, ProblemKind};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BatchEvent, Flow, Meter, Observer, PoolId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Upper ends of the buckets for times, in seconds: histograms can be summed over servers, quantiles cannot.
pub(crate) const SECONDS: [f64; 16] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Requests by the time that they took, at the places of [`SECONDS`]; the last are those that took longer.
pub(crate) type ByTime = [u64; SECONDS.len() + 1];

/// How often something was done, and the time that it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, count: u64, time: Duration) {
        self.count += count;
        self.ns = self.ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// The times of batches of one size, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) input: Sum,
    pub(crate) infer: Sum,
    pub(crate) output: Sum,
}

impl Times {
    fn add(&mut self, count: u64, event: &BatchEvent<'_>) {
        self.input.add(count, event.gather);
        self.infer.add(count, event.device);
        self.output.add(count, event.scatter);
    }
}

/// What a caller got of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) rows: u64,
    /// Of the device, by rows of each batch.
    pub(crate) busy: Duration,
    /// By task.
    pub(crate) queue: Sum,
}

impl Share {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.busy = self.busy.saturating_add(other.busy);
        self.queue.count += other.queue.count;
        self.queue.ns = self.queue.ns.saturating_add(other.queue.ns);
    }
}

/// The most callers of a pool that are told apart. Those that come later are counted together.
const CALLERS: usize = 256;

/// The sums of one pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batches {
    pub(crate) rows: u64,
    pub(crate) count: u64,
    pub(crate) queue: Sum,
    /// By task; the times are those of its batch.
    pub(crate) tasks: Times,
    pub(crate) busy: Duration,
    /// By rows of the batch, of which there are at most as many kinds as a batch has rows.
    pub(crate) sizes: BTreeMap<u64, Times>,
    /// By caller; `None` stands for all that there was no place for.
    pub(crate) shares: BTreeMap<Option<Flow>, Share>,
}

/// The sums of one pool, and of the requests for it.
#[derive(Default)]
pub(crate) struct Tally {
    batches: Mutex<Batches>,
    requests: Mutex<Requests>,
    /// Milliseconds since 1970.
    last: AtomicU64,
    /// Of its pools: a model that came anew has two for a while.
    meters: Mutex<Vec<(PoolId, Arc<dyn Meter>)>>,
}

/// Requests by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) success: Sum,
    /// The successful ones.
    pub(crate) by_time: ByTime,
    pub(crate) fail: Sum,
    /// Those that failed, at the places of `Failure`.
    pub(crate) failures: [u64; 4],
}

/// Why requests fail, in the words of Triton's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Rejected,
    Canceled,
    Backend,
    Other,
}

impl Failure {
    pub(crate) const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

impl From<ProblemKind> for Failure {
    fn from(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::Overloaded | ProblemKind::Expired | ProblemKind::TooMany => Self::Rejected,
            ProblemKind::Cancelled => Self::Canceled,
            ProblemKind::Failed => Self::Backend,
            _ => Self::Other,
        }
    }
}

/// A request for a model. It is counted when this goes: as cancelled, if nobody has said how it ended.
pub(crate) struct Open<'a> {
    tally: &'a Tally,
    start: Instant,
    failure: Option<Failure>,
}

impl Open<'_> {
    pub(crate) fn end<T>(mut self, result: &Result<T, Problem>) {
        self.failure = result.as_ref().err().map(|problem| problem.kind.into());
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.tally.request(self.failure, self.start.elapsed());
    }
}

impl Tally {
    /// Begins a request.
    pub(crate) fn begin(&self) -> Open<'_> {
        Open { tally: self, start: Instant::now(), failure: Some(Failure::Canceled) }
    }

    fn request(&self, failure: Option<Failure>, took: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let mut requests = self.requests.lock();
        match failure {
            None => {
                requests.success.add(1, took);
                let seconds = took.as_secs_f64();
                requests.by_time[SECONDS.partition_point(|end| *end < seconds)] += 1;
            }
            Some(failure) => {
                requests.fail.add(1, took);
                requests.failures[failure as usize] += 1;
            }
        }
    }

    pub(crate) fn requests(&self) -> Requests {
        *self.requests.lock()
    }

    pub(crate) fn batches(&self) -> Batches {
        self.batches.lock().clone()
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Tasks and rows that wait now.
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let meters = self.meters.lock().clone();
        meters.iter().fold((0, 0), |(tasks, rows), (_, meter)| {
            let counts = meter.counts();
            (tasks + counts.waiting, rows + counts.waiting_rows)
        })
    }

    /// Seconds until what waits now has run, as far as the past tells; at least 1 and at most a minute.
    pub(crate) fn wait_seconds(&self) -> u64 {
        let (_, rows) = self.waiting();
        let (busy, ran) = {
            let batches = self.batches.lock();
            (batches.busy, batches.rows)
        };
        seconds(busy, ran, rows)
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        let mut batches = self.batches.lock();
        let rows = event.rows as u64;
        let ended = (event.tasks_succeeded + event.tasks_failed) as u64;
        batches.rows += rows;
        batches.count += 1;
        batches.busy = batches.busy.saturating_add(event.device);
        let per_row = event.device.as_secs_f64() / rows.max(1) as f64;
        for task in event.tasks {
            let busy = Duration::try_from_secs_f64(per_row * task.rows as f64).unwrap_or_default();
            let mut queue = Sum::default();
            if task.is_first {
                queue.add(1, event.cut.saturating_duration_since(task.submitted));
                batches.queue.add(1, Duration::from_nanos(queue.ns));
            }
            let of = Some(task.flow);
            let known = batches.shares.contains_key(&of) || batches.shares.len() < CALLERS;
            let share = batches.shares.entry(of.filter(|_| known)).or_default();
            share.add(&Share { rows: task.rows as u64, busy, queue });
        }
        batches.tasks.add(ended, event);
        batches.sizes.entry(rows).or_default().add(1, event);
    }
}

fn seconds(busy: Duration, ran: u64, waiting: u64) -> u64 {
    if ran == 0 {
        return 1;
    }
    let nanos = busy.as_nanos() / u128::from(ran) * u128::from(waiting);
    u64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u64::MAX).clamp(1, 60)
}

type Placed = (PoolId, Arc<Tally>);

/// The tallies of a runtime, by the names of pools.
#[derive(Default)]
pub(crate) struct Tallies {
    named: Mutex<BTreeMap<String, Arc<Tally>>>,
    /// At the places of their ids.
    placed: Mutex<Vec<Option<Placed>>>,
}

impl Tallies {
    /// The time of the device, the requests that have ended, and those of them that failed: of all pools so far.
    pub(crate) fn sums(&self) -> (Duration, u64, u64) {
        let tallies: Vec<_> = self.named.lock().values().cloned().collect();
        tallies.iter().fold((Duration::ZERO, 0, 0), |(busy, all, failed), tally| {
            let requests = tally.requests();
            let ended = requests.success.count + requests.fail.count;
            (busy.saturating_add(tally.batches.lock().busy), all + ended, failed + requests.fail.count)
        })
    }

    /// The tally of the pool of this name. A model that came beside another of its name goes on with the sums of that one.
    pub(crate) fn of(&self, pool: &str) -> Arc<Tally> {
        Arc::clone(self.named.lock().entry(plain(pool)).or_default())
    }
}

/// The name of a pool without the number that its block may have: `a@2_forward` is one of `a`'s.
fn plain(pool: &str) -> String {
    let (name, rest) = pool.split_once('@').unwrap_or((pool, ""));
    format!("{name}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
}

impl Observer for Tallies {
    fn pool_added(&self, pool: PoolId, meter: Arc<dyn Meter>) {
        let tally = self.of(meter.name());
        tally.meters.lock().push((pool, meter));
        let mut placed = self.placed.lock();
        if placed.len() <= pool.index() {
            placed.resize(pool.index() + 1, None);
        }
        placed[pool.index()] = Some((pool, tally));
    }

    fn pool_removed(&self, pool: PoolId) {
        let place = self.placed.lock().get_mut(pool.index()).and_then(|place| {
            let own = place.as_ref().is_some_and(|(id, _)| *id == pool);
            if own { place.take() } else { None }
        });
        if let Some((_, tally)) = place {
            tally.meters.lock().retain(|(id, _)| *id != pool);
        }
    }

    fn batch(&self, event: &BatchEvent<'_>) {
        let placed = self.placed.lock().get(event.pool.index()).cloned().flatten();
        if let Some((_, tally)) = placed.filter(|(id, _)| *id == event.pool) {
            tally.batch(event);
        }
    }

    fn stopped(&self, _at: Instant) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::{Pass, TaskHeader};

    #[test]
    fn sums_are_of_tasks_and_of_batches() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let headers = [TaskHeader::new(2, start); 3];
        let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &headers, start + ms(5));
        event.rows = 6;
        event.tasks_succeeded = 3;
        event.device = ms(2);
        let tally = Tally::default();
        tally.batch(&event);
        tally.batch(&event);
        let batches = tally.batches();
        assert_eq!((batches.rows, batches.count), (12, 2));
        assert_eq!(batches.queue, Sum { count: 6, ns: 30_000_000 });
        assert_eq!(batches.tasks.infer, Sum { count: 6, ns: 4_000_000 });
        assert_eq!(batches.sizes[&6].infer, Sum { count: 2, ns: 4_000_000 });
    }

    #[test]
    fn callers_are_told_apart_up_to_a_bound() {
        let start = Instant::now();
        let tally = Tally::default();
        for flow in (0..u32::try_from(2 * CALLERS).unwrap()).chain([1]) {
            let headers =
                [TaskHeader::new(3, start).flow(Flow(flow)), TaskHeader::new(1, start).flow(Flow(0))];
            let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &headers, start);
            (event.rows, event.device) = (4, Duration::from_millis(4));
            tally.batch(&event);
        }
        let shares = tally.batches().shares;
        assert_eq!(shares.len(), CALLERS + 1);
        let of = |flow| (shares[&flow].rows, shares[&flow].busy.as_millis(), shares[&flow].queue.count);
        assert_eq!((of(Some(Flow(1))), of(Some(Flow(2)))), ((6, 6, 2), (3, 3, 1)));
        assert_eq!(of(None), (3 * CALLERS as u64, 3 * CALLERS as u128, CALLERS as u64));
        assert_eq!(shares.values().map(|share| share.rows).sum::<u64>(), tally.batches().rows);
    }

    #[test]
    fn requests_are_counted_by_how_they_ended() {
        let tallies = Tallies::default();
        let tally = tallies.of("a_forward");
        tally.begin().end(&Ok(()));
        tally.begin().end::<()>(&Err(Problem::new(ProblemKind::Overloaded, "full")));
        tally.begin().end::<()>(&Err(Problem::invalid("wrong")));
        drop(tally.begin());
        let requests = tally.requests();
        assert_eq!((requests.success.count, requests.fail.count, requests.failures), (1, 3, [1, 1, 0, 1]));
        assert_eq!(tallies.sums(), (Duration::ZERO, 4, 3));
    }

    #[test]
    fn requests_are_counted_by_the_time_that_they_took() {
        let tally = Tally::default();
        for micros in [0, 100, 101, 1_000, 60_000_001] {
            tally.request(None, Duration::from_micros(micros));
        }
        tally.request(Some(Failure::Other), Duration::from_micros(1));
        let by_time = tally.requests().by_time;
        assert_eq!((by_time[0], by_time[1], by_time[3], by_time[16]), (2, 1, 1, 1));
        assert_eq!(by_time.iter().sum::<u64>(), 5, "those that failed have no answer that took a time");
    }

    #[test]
    fn a_block_with_a_number_is_its_models() {
        assert_eq!([plain("a.b_forward"), plain("a.b@12_forward")], ["a.b_forward", "a.b_forward"]);
    }

    #[test]
    fn the_wait_is_what_the_rows_took_so_far() {
        let s = Duration::from_secs;
        assert_eq!(seconds(s(0), 0, 100), 1);
        assert_eq!(seconds(s(10), 100, 55), 6);
        assert_eq!((seconds(s(1), 1000, 1), seconds(s(100), 1, 1000)), (1, 60));
    }
}
