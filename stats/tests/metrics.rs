//! What a Prometheus recorder shows of the events.
#![cfg(feature = "metrics")]

mod common;

use common::{Queue, start as begin};
use metrics_exporter_prometheus::PrometheusBuilder;
use skep_runtime_core::{
    BatchEvent, Counts, Flow, Meter, Pass, PoolId, Priority, SubmitError, TaskHeader, Unrun,
};
use skep_stats::{Metrics, PartSnapshot, Stats};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The lines `name{labels} value`, without comments.
fn values(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' ')).collect()
}

#[test]
fn events_and_counts_reach_the_recorder() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let stats = Stats::new();
    let observer = stats.observer();
    let counts = Counts::default()
        .submitted(20)
        .refused(1)
        .cancelled(2)
        .expired(3)
        .evicted(6)
        .failed(7)
        .shut_down(4)
        .waiting(5)
        .waiting_rows(9);
    let (a, idle) = (Queue::new("a", counts), Queue::new("idle", Counts::default()));
    let start = Instant::now();

    let published = metrics::with_local_recorder(&recorder, || {
        let published = Metrics::new(stats.clone());
        published.publish();
        begin(&*observer, "cpu", start, &[a.clone(), idle]);
        let tasks = [TaskHeader::new(3, start); 2];
        let mut event =
            BatchEvent::new(PoolId::new(0), Pass::Forward, &tasks, start + Duration::from_millis(500));
        event.done = start + Duration::from_secs(2);
        event.device = Duration::from_secs(1);
        (event.rows, event.tasks_succeeded, event.tasks_failed, event.failed) = (6, 1, 1, true);
        (event.forecast.padding, event.forecast.padded) = (3, 12);
        observer.batch(&event);
        observer.unrun(PoolId::new(0), Unrun::Expired, 1);
        observer.unrun(PoolId::new(0), Unrun::ShutDown, 2);
        observer.unrun(PoolId::new(9), Unrun::ShutDown, 2);
        published.publish();
        published.publish();
        published
    });

    let text = handle.render();
    let values_now = values(&text);
    let outcome =
        |name: &str| values_now[format!("skep_tasks_total{{pool=\"a\",outcome=\"{name}\"}}").as_str()];
    assert_eq!((outcome("succeeded"), outcome("failed"), outcome("cancelled")), ("1", "8", "2"));
    assert_eq!(outcome("evicted"), "6");
    assert_eq!((outcome("expired"), outcome("refused"), outcome("shut_down")), ("3", "1", "4"));
    for (name, expected) in [
        ("skep_submitted_total", "20"),
        ("skep_waiting_tasks", "5"),
        ("skep_batches_total", "1"),
        ("skep_failed_batches_total", "1"),
        ("skep_rows_total", "6"),
        ("skep_padding_elements_total", "3"),
        ("skep_padded_elements_total", "12"),
        ("skep_batch_rows_sum", "6"),
        ("skep_queue_wait_seconds_count", "2"),
        ("skep_gather_seconds_count", "1"),
        ("skep_scatter_seconds_count", "1"),
        ("skep_end_to_end_seconds_count", "2"),
    ] {
        assert_eq!(values_now[format!("{name}{{pool=\"a\"}}").as_str()], expected, "{name}");
    }
    for (name, expected) in [("queue_wait", 1.0), ("device", 1.0), ("end_to_end", 4.0)] {
        let sum: f64 = values_now[format!("skep_{name}_seconds_sum{{pool=\"a\"}}").as_str()].parse().unwrap();
        assert!((sum - expected).abs() <= 0.01 * expected, "{name}: {sum}, expected {expected}");
    }
    assert!(!text.contains("idle"), "an idle pool has no series:\n{text}");

    a.counts.lock().refused = 8;
    a.counts.lock().waiting = 0;
    metrics::with_local_recorder(&recorder, || published.publish());
    assert!(handle.render().contains("outcome=\"refused\"} 8"));
    assert_eq!(values(&handle.render())["skep_waiting_tasks{pool=\"a\"}"], "0");
}

/// Urgent tasks beside background ones, in one pool and in two.
#[test]
fn classes_flows_and_reasons_are_told_apart() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let stats = Stats::new();
    let observer = stats.observer();
    let mut counts = Counts::default().submitted(9).refused(3);
    counts.refusals.note(&SubmitError::NoRows);
    counts.refusals.note(&SubmitError::WouldDeadlock);
    counts.refusals.note(&SubmitError::NoRows);
    let (a, b) = (Queue::new("a", counts), Queue::new("b", Counts::default().submitted(2)));
    let start = Instant::now();
    let second = Duration::from_secs(1);
    metrics::with_local_recorder(&recorder, || {
        let published = Metrics::new(stats.clone());
        begin(&*observer, "cpu", start, &[a.clone(), b.clone()]);
        let urgent = TaskHeader::new(1, start).priority(Priority::URGENT).flow(Flow(7));
        let plain = TaskHeader::new(3, start);
        let ran = |pool, tasks: &[TaskHeader], after: u32| {
            let mut event = BatchEvent::new(PoolId::new(pool), Pass::Forward, tasks, start);
            (event.rows, event.tasks_succeeded) = (tasks.iter().map(|task| task.rows).sum(), tasks.len());
            (event.device, event.done) = (second * after, start + second * after);
            observer.batch(&event);
        };
        ran(0, &[plain], 8);
        published.publish();
        assert!(stats.snapshot().total.classes.is_empty(), "there is one of each");
        ran(0, &[urgent, plain], 4);
        ran(1, &[urgent], 1);
        published.publish();
    });
    let snapshot = stats.snapshot();
    let by = |parts: &[PartSnapshot]| -> Vec<_> {
        parts.iter().map(|part| (part.of, part.rows, part.end_to_end.count, part.device)).collect()
    };
    let a = &snapshot.pools[0];
    let urgent = i64::from(Priority::URGENT.0);
    assert_eq!(by(&a.classes), [(Some(urgent), 1, 1, second), (Some(0), 6, 2, second * 11)]);
    assert_eq!(by(&a.flows), [(Some(0), 6, 2, second * 11), (Some(7), 1, 1, second)]);
    assert!(snapshot.pools[1].classes.is_empty(), "all of it is one class");
    assert_eq!(by(&snapshot.total.classes), [(Some(urgent), 2, 2, second * 2), (Some(0), 6, 2, second * 11)]);
    assert_eq!(
        a.refusals.iter().map(|(reason, tasks)| (reason.as_str(), *tasks)).collect::<Vec<_>>(),
        [("invalid", 2), ("misuse", 1)]
    );
    let table = snapshot.to_string();
    assert!(table.contains("a: refused 2 invalid, 1 misuse") && table.contains("\nflow "), "{table}");
    let text = handle.render();
    let values = values(&text);
    assert_eq!(values[r#"skep_refused_total{pool="a",reason="invalid"}"#], "2");
    assert_eq!(values[r#"skep_cuts_total{pool="a",reason="empty"}"#], "2");
    assert_eq!(values[r#"skep_flow_device_seconds{pool="a",flow="7"}"#], "1");
    assert_eq!(values[r#"skep_class_end_to_end_seconds_count{pool="a",class="0"}"#], "2");
}

/// Connections are many, and nobody knows them by name.
#[test]
fn flows_are_told_apart_unless_they_are_not_wanted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let stats = Stats::without_flows();
    let observer = stats.observer();
    let start = Instant::now();
    begin(&*observer, "cpu", start, &[Queue::new("a", Counts::default().submitted(4))]);
    let ran = |tasks: &[TaskHeader]| {
        let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, tasks, start);
        (event.rows, event.tasks_succeeded) = (tasks.len(), tasks.len());
        observer.batch(&event);
    };
    let of = |flow| TaskHeader::new(1, start).flow(Flow(flow));
    ran(&[of(1), of(2)]);
    assert!(stats.snapshot().pools[0].classes.is_empty(), "all of it is one class and one flow");
    ran(&[of(3), of(4).priority(Priority::URGENT)]);
    let pool = stats.snapshot().pools.remove(0);
    assert_eq!((pool.rows, pool.classes.len(), pool.flows.len()), (4, 2, 0));
    assert_eq!(pool.classes.iter().map(|class| class.rows).collect::<Vec<_>>(), [1, 3]);
    metrics::with_local_recorder(&recorder, || Metrics::new(stats.clone()).publish());
    let text = recorder.handle().render();
    assert!(!text.contains("skep_flow_") && text.contains("skep_class_end_to_end_seconds"), "{text}");
    observer.pool_removed(PoolId::new(0));
    assert!(stats.snapshot().total.flows.is_empty(), "of pools that have gone, too");
}

#[test]
fn pools_that_have_left_are_published_without_the_others() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let stats = Stats::new();
    let observer = stats.observer();
    let start = Instant::now();
    let queues = ["a", "b"].map(|name| Queue::new(name, Counts::default().submitted(1)) as Arc<dyn Meter>);
    metrics::with_local_recorder(&recorder, || {
        let published = Metrics::new(stats.clone());
        begin(&*observer, "cpu", start, &queues);
        for pool in 0..2 {
            let tasks = [TaskHeader::new(3, start)];
            let mut event = BatchEvent::new(PoolId::new(pool), Pass::Forward, &tasks, start);
            (event.rows, event.tasks_succeeded) = (3, 1);
            observer.batch(&event);
        }
        observer.pool_removed(PoolId::new(0));
        published.publish_departed();
        let text = recorder.handle().render();
        assert_eq!(values(&text)["skep_rows_total{pool=\"a\"}"], "3");
        assert!(!text.contains("pool=\"b\""), "{text}");
        published.publish();
        let text = recorder.handle().render();
        let values = values(&text);
        assert_eq!(
            ["a", "b"].map(|pool| values[&*format!("skep_rows_total{{pool=\"{pool}\"}}")]),
            ["3", "3"]
        );
    });
}

#[test]
fn a_runtime_in_place_of_a_lost_one_counts_on() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // A runtime's meter stands still once its device is lost, and the pool counts anew for another runtime.
    let lost: Arc<dyn Meter> = Queue::new("a", Counts::default().submitted(5).shut_down(5));
    let next: Arc<dyn Meter> = Queue::new("a", Counts::default().submitted(2).waiting(2));
    let start = Instant::now();
    metrics::with_local_recorder(&recorder, || {
        let stats = Stats::new();
        let first = Metrics::new(stats.clone());
        begin(&*stats.observer(), "gpu:0", start, std::slice::from_ref(&lost));
        first.publish();
        let stats = Stats::new();
        let second = Metrics::new(stats.clone());
        begin(&*stats.observer(), "gpu:1", start, std::slice::from_ref(&next));
        second.publish();
        first.publish();
        second.publish();
    });
    let text = handle.render();
    let values = values(&text);
    assert_eq!(values["skep_submitted_total{pool=\"a\"}"], "7");
    assert_eq!(values["skep_tasks_total{pool=\"a\",outcome=\"shut_down\"}"], "5");
    assert_eq!(values["skep_waiting_tasks{pool=\"a\"}"], "2");
}

#[test]
fn a_thread_publishes_a_last_time_when_it_ends() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let stats = Stats::new();
    let start = Instant::now();
    let publishing = Metrics::new(stats.clone()).every(Duration::from_hours(1)).unwrap();
    let pool: Arc<dyn Meter> = Queue::new("late", Counts::default().submitted(3));
    begin(&*stats.observer(), "cpu", start, &[pool]);
    drop(publishing);
    assert_eq!(values(&handle.render())["skep_submitted_total{pool=\"late\"}"], "3");
    assert!(Metrics::new(stats).every(Duration::ZERO).is_err());
}

#[test]
fn pools_that_leave_are_published_to_the_end() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let stats = Stats::new();
    let observer = stats.observer();
    let pool = Queue::new("a", Counts::default().submitted(2).waiting(2));
    metrics::with_local_recorder(&recorder, || {
        let published = Metrics::new(stats.clone());
        begin(&*observer, "cpu", Instant::now(), &[Arc::clone(&pool) as _]);
        published.publish();
        *pool.counts.lock() = Counts::default().submitted(5).cancelled(5);
        observer.pool_removed(PoolId::new(0));
        published.publish();
        published.publish();
        assert_eq!(values(&handle.render())["skep_waiting_tasks{pool=\"a\"}"], "0");
        // The next one of this name counts on.
        observer.pool_added(PoolId::new(1), Queue::new("a", Counts::default().submitted(3).waiting(3)));
        published.publish();
    });
    let text = handle.render();
    let values = values(&text);
    assert_eq!(values["skep_submitted_total{pool=\"a\"}"], "8");
    assert_eq!(values["skep_tasks_total{pool=\"a\",outcome=\"cancelled\"}"], "5");
    assert_eq!(values["skep_waiting_tasks{pool=\"a\"}"], "3");
}
