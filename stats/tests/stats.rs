//! Events in, numbers out: every task is accounted for, whatever happens to it.

mod common;

use common::{Queue, start as begin};
use skep_runtime_core::{BatchEvent, Counts, Meter, Observer, Pass, PoolId, TaskHeader, Unrun};
use skep_stats::{Fanout, Snapshot, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

fn meters(pools: &[Arc<Queue>]) -> Vec<Arc<dyn Meter>> {
    pools.iter().map(|pool| Arc::clone(pool) as Arc<dyn Meter>).collect()
}

fn submitted(submitted: u64) -> Counts {
    Counts::default().submitted(submitted)
}

#[test]
fn every_task_is_in_exactly_one_place() {
    let counts = Counts::default()
        .submitted(37)
        .refused(1)
        .cancelled(2)
        .expired(3)
        .evicted(6)
        .failed(1)
        .shut_down(4)
        .waiting(5)
        .waiting_rows(50);
    let pool = Queue::new("a", counts);
    let stats = Stats::new();
    let observer = stats.observer();
    let start = Instant::now();
    begin(&*observer, "cpu", start, &meters(&[Arc::clone(&pool), Queue::new("b", submitted(1))]));

    let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &[], start);
    (event.tasks_succeeded, event.tasks_failed, event.failed) = (3, 2, true);
    observer.batch(&event);
    // The meter counts these, before their answers.
    observer.unrun(PoolId::new(0), Unrun::Expired, 1);
    observer.unrun(PoolId::new(0), Unrun::ShutDown, 2);

    let now = stats.snapshot();
    let a = &now.pools[0];
    assert_eq!((a.submitted, a.succeeded, a.failed, a.shut_down), (37, 3, 2 + 1 + 4, 4));
    assert_eq!((a.cancelled, a.expired, a.evicted, a.refused, a.waiting), (2, 3, 6, 1, 5));
    assert_eq!((a.in_flight, a.answered(), a.accounted()), (10, 22, 27));
    assert_eq!((a.batches, a.failed_batches), (1, 1));
    assert_eq!((now.total.submitted, now.total.in_flight, now.total.failed), (38, 11, 7));
    assert_eq!(
        now.total.accounts(),
        "38 submitted = 3 succeeded + 7 failed + 2 cancelled + 3 expired + 6 evicted + 1 refused + 5 waiting + 11 in flight"
    );

    // The rest of the tasks end, and the line closes.
    *pool.counts.lock() = counts.waiting(0).cancelled(7).expired(4).shut_down(6);
    (event.tasks_succeeded, event.tasks_failed) = (7, 0);
    observer.batch(&event);
    event.pool = PoolId::new(1);
    (event.tasks_succeeded, event.tasks_failed) = (1, 0);
    observer.batch(&event);
    let end = stats.snapshot().total;
    assert_eq!((end.accounted(), end.in_flight), (end.submitted, 0));
}

#[test]
fn times_are_per_task_and_per_batch() {
    let stats = Stats::new();
    let start = Instant::now();
    begin(&*stats.observer(), "cpu", start, &meters(&[Queue::new("a", submitted(2))]));
    let tasks = [TaskHeader::new(1, start), TaskHeader::new(1, start + MS)];
    let mut event = BatchEvent::new(PoolId::new(0), Pass::Backward, &tasks, start + 3 * MS);
    event.rows = 6;
    (event.gather, event.device, event.scatter) = (MS, 4 * MS, 2 * MS);
    event.done = start + 10 * MS;
    stats.observer().batch(&event);
    event.tasks = &[];
    event.rows = 1;
    stats.observer().batch(&event);

    let snapshot = stats.snapshot_at(start + 20 * MS);
    assert_eq!((snapshot.elapsed, snapshot.device_busy), (20 * MS, 0.4));
    let pool = &snapshot.pools[0];
    assert_eq!((pool.queue_wait.count, pool.queue_wait.total, pool.queue_wait.max), (2, 5 * MS, 3 * MS));
    assert_eq!((pool.end_to_end.count, pool.end_to_end.total, pool.end_to_end.max), (2, 19 * MS, 10 * MS));
    assert_eq!((pool.gather.count, pool.gather.mean), (2, MS));
    assert_eq!((pool.device.count, pool.device.mean), (2, 4 * MS));
    assert_eq!((pool.scatter.count, pool.scatter.mean), (2, 2 * MS));
    assert_eq!((pool.rows, pool.mean_batch_rows), (7, 3.5));

    // After the end, time stands still.
    stats.observer().stopped(start + 16 * MS);
    let stopped = stats.snapshot_at(start + 999 * MS);
    assert_eq!((stopped.elapsed, stopped.device_busy), (16 * MS, 0.5));
}

#[test]
fn odd_events_are_harmless() {
    let stats = Stats::new();
    let observer = stats.observer();
    let past = Instant::now();
    let now = past + MS;
    let later = [TaskHeader::new(1, now + MS)];
    let mut event = BatchEvent::new(PoolId::new(3), Pass::Forward, &later, now);
    observer.batch(&event);
    observer.unrun(PoolId::new(3), Unrun::Expired, 1);
    assert_eq!(stats.snapshot(), Snapshot::default());

    begin(&*observer, "cpu", now, &meters(&[Queue::new("a", Counts::default())]));
    observer.batch(&event);
    observer.unrun(PoolId::new(3), Unrun::ShutDown, 1);
    assert_eq!(stats.snapshot().total.batches, 0);

    // A task submitted after its batch was cut, no elapsed time, and a second runtime.
    event.pool = PoolId::new(0);
    observer.batch(&event);
    begin(&*observer, "cuda:0", now, &[]);
    let snapshot = stats.snapshot_at(past);
    assert_eq!((snapshot.device.as_str(), snapshot.total.batches, snapshot.device_busy), ("cpu", 1, 0.0));
    assert_eq!((snapshot.total.queue_wait.count, snapshot.total.queue_wait.max), (1, Duration::ZERO));
}

/// A pool in which a task arrives and ends right after the pool was asked for its counts.
struct Busy {
    stats: Stats,
    submitted: AtomicU64,
}

impl Meter for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }

    fn counts(&self) -> Counts {
        let counts = submitted(self.submitted.fetch_add(1, Ordering::Relaxed));
        let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &[], Instant::now());
        event.tasks_succeeded = 1;
        self.stats.observer().batch(&event);
        counts
    }
}

#[test]
fn a_snapshot_never_sees_a_task_end_before_it_was_submitted() {
    let stats = Stats::new();
    let pool = Busy { stats: stats.clone(), submitted: AtomicU64::new(0) };
    begin(&*stats.observer(), "cpu", Instant::now(), &[Arc::new(pool)]);
    for seen in 0..3 {
        let total = stats.snapshot().total;
        assert_eq!((total.submitted, total.accounted(), total.in_flight), (seen, seen, 0));
    }
}

#[test]
fn concurrent_batches_reconcile() {
    const THREADS: u32 = 8;
    const BATCHES: u32 = 1_000;
    let queues: Vec<_> = (0..4).map(|i| Queue::new(&format!("pool {i}"), Counts::default())).collect();
    let stats = Stats::new();
    let start = Instant::now();
    begin(&*stats.observer(), "cpu", start, &meters(&queues));

    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stats, queues, observer) = (&stats, &queues, stats.observer());
            scope.spawn(move || {
                let tasks = [TaskHeader::new(2, start); 2];
                for batch in 0..BATCHES {
                    let pool = PoolId::new((thread + batch) % 4);
                    queues[pool.index()].counts.lock().submitted += 2;
                    let mut event = BatchEvent::new(pool, Pass::Forward, &tasks, start);
                    (event.rows, event.device, event.tasks_succeeded) = (4, MS, 2);
                    observer.batch(&event);
                    if batch % 100 == 0 {
                        let total = stats.snapshot().total;
                        assert!(total.accounted() <= total.submitted, "{}", total.accounts());
                    }
                }
            });
        }
    });

    let snapshot = stats.snapshot();
    let batches = u64::from(THREADS * BATCHES);
    let total = &snapshot.total;
    assert_eq!((total.batches, total.rows, total.succeeded), (batches, 4 * batches, 2 * batches));
    assert_eq!((total.accounted(), total.in_flight), (total.submitted, 0));
    assert_eq!((total.device.count, total.device.total), (batches, MS * (THREADS * BATCHES)));
    assert_eq!(total.queue_wait.count, 2 * batches);
    assert!(snapshot.pools.iter().all(|pool| pool.batches == batches / 4));
}

#[test]
fn json_has_the_keys_that_programs_read() {
    let stats = Stats::new();
    let start = Instant::now();
    begin(&*stats.observer(), "cpu", start, &meters(&[Queue::new("a", submitted(1))]));
    let tasks = [TaskHeader::new(1, start)];
    let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &tasks, start + MS);
    event.done = start + 2 * MS;
    (event.rows, event.tasks_succeeded) = (1, 1);
    stats.observer().batch(&event);

    let snapshot = stats.snapshot_at(start + 4 * MS);
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(keys(&json), ["device", "device_busy", "elapsed_us", "pools", "total"]);
    assert_eq!(
        keys(&json["total"]),
        [
            "batches",
            "cancelled",
            "classes",
            "cuts",
            "device",
            "end_to_end",
            "evicted",
            "expired",
            "failed",
            "failed_batches",
            "flows",
            "forecast_error",
            "foreseen_batches",
            "gather",
            "in_flight",
            "mean_batch_rows",
            "name",
            "number",
            "padding",
            "put_off_us",
            "queue_wait",
            "refusals",
            "refused",
            "rows",
            "scatter",
            "shut_down",
            "submitted",
            "succeeded",
            "taken_apart",
            "waiting",
        ]
    );
    assert_eq!(
        keys(&json["pools"][0]["queue_wait"]),
        ["count", "max_us", "mean_us", "p50_us", "p90_us", "p99_us", "total_us"]
    );
    assert_eq!(json["total"]["cuts"]["empty"], 1);
    assert_eq!(json["elapsed_us"], 4000.0);
    assert_eq!(json["pools"][0]["end_to_end"]["p99_us"], 2000.0);
    assert_eq!(serde_json::from_value::<Snapshot>(json).unwrap(), snapshot);
}

fn keys(json: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        json.as_object().into_iter().flat_map(serde_json::Map::keys).map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Panics whenever it is told anything.
struct Panicking;

impl Observer for Panicking {
    fn started(&self, _: &str, _: Instant) {
        panic!("on purpose");
    }
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {
        panic!("on purpose");
    }
    fn batch(&self, _: &BatchEvent<'_>) {
        panic!("on purpose");
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
        panic!("on purpose");
    }
    fn stopped(&self, _: Instant) {
        panic!("on purpose");
    }
}

#[test]
fn an_observer_that_panics_robs_nobody_of_an_event() {
    let stats = Stats::new();
    let all = Fanout(vec![Arc::new(Panicking), stats.observer(), Arc::new(Panicking)]);
    let start = Instant::now();
    begin(&all, "cpu", start, &meters(&[Queue::new("a", submitted(2))]));
    all.batch(&BatchEvent::new(PoolId::new(0), Pass::Forward, &[], start));
    all.stopped(start + MS);
    let snapshot = stats.snapshot();
    assert_eq!((snapshot.total.batches, snapshot.pools.len(), snapshot.elapsed), (1, 1, MS));
}

#[test]
fn a_fanout_tells_everybody() {
    let (one, two) = (Stats::new(), Stats::new());
    let both: Arc<dyn skep_runtime_core::Observer> = Arc::new(Fanout(vec![one.observer(), two.observer()]));
    let start = Instant::now();
    begin(&*both, "cpu", start, &meters(&[Queue::new("a", submitted(2))]));
    both.batch(&BatchEvent::new(PoolId::new(0), Pass::Forward, &[], start));
    both.unrun(PoolId::new(0), Unrun::ShutDown, 1);
    both.stopped(start + MS);
    let snapshot = one.snapshot();
    assert_eq!((snapshot.total.batches, snapshot.total.shut_down, snapshot.elapsed), (1, 0, MS));
    assert_eq!(snapshot, two.snapshot());
}

#[test]
fn pools_that_leave_stay_in_the_total() {
    let stats = Stats::new();
    let observer = stats.observer();
    let start = Instant::now();
    let pools = [Queue::new("a", submitted(2)), Queue::new("b", submitted(1))];
    begin(&*observer, "cpu", start, &meters(&pools));
    for pool in [0, 1] {
        let mut event = BatchEvent::new(PoolId::new(pool), Pass::Forward, &[], start);
        (event.rows, event.tasks_succeeded) = (4, 1);
        observer.batch(&event);
    }
    let earlier = stats.snapshot();
    *pools[0].counts.lock() = submitted(2).cancelled(1);
    observer.pool_removed(PoolId::new(0));
    // Twice does no harm, and nor does what comes too late.
    observer.pool_removed(PoolId::new(0));
    observer.batch(&BatchEvent::new(PoolId::new(0), Pass::Forward, &[], start));
    *pools[0].counts.lock() = submitted(99);

    let gone = stats.snapshot();
    let names = |snapshot: &Snapshot| snapshot.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&gone), ["b"]);
    assert_eq!((gone.total.submitted, gone.total.succeeded, gone.total.cancelled), (3, 2, 1));
    assert_eq!((gone.total.batches, gone.total.rows, gone.total.device.count), (2, 8, 2));

    // One of the same name is another pool.
    observer.pool_added(PoolId::new(2), Queue::new("a", submitted(5).waiting(5)));
    let again = stats.snapshot();
    assert_eq!((names(&again), again.total.submitted), (vec!["b".to_owned(), "a".to_owned()], 8));
    assert_ne!(again.pools[1].number, earlier.pools[0].number);
    let report = again.since(&earlier);
    let [a] = &report.pools[..] else { panic!("one pool has changed: {report:?}") };
    assert_eq!((a.name.as_str(), a.waiting, a.batches), ("a", 5, 0));
}
