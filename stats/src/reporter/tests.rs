use super::*;
use skep_runtime_core::{BatchEvent, Counts, Meter, Pass, PoolId, sync::Mutex};
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span, subscriber};

struct Queue;

impl Meter for Queue {
    fn name(&self) -> &'static str {
        "ffn_forward"
    }

    fn counts(&self) -> Counts {
        Counts::default().submitted(5).refused(1).waiting(2)
    }
}

/// Keeps the text of every event, a line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut lines = self.0.lock();
        event.record(&mut Line(&mut lines));
        lines.push('\n');
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn each_report_covers_its_own_interval() {
    let stats = Stats::new();
    let mut intervals = Intervals::new(stats.clone());
    assert_eq!(intervals.next_report(), Report::default());

    let now = Instant::now();
    stats.observer().started("cpu", now);
    stats.observer().pool_added(PoolId::new(0), Arc::new(Queue));
    let event = BatchEvent::new(PoolId::new(0), Pass::Forward, &[], now);
    stats.observer().batch(&event);
    stats.observer().batch(&event);
    assert_eq!(intervals.next_report().batches, 2);
    stats.observer().batch(&event);
    assert_eq!(intervals.next_report().batches, 1);
    assert_eq!(intervals.next_report().batches, 0);
}

#[test]
fn a_report_is_logged_in_fields() {
    let pool = PoolReport {
        name: "ffn_forward".to_owned(),
        batches: 1,
        batches_per_s: Some(0.25),
        rows: 8,
        rows_per_s: Some(2.0),
        mean_batch_rows: 8.0,
        processing: Duration::from_secs(4),
        mean_queue_wait: Duration::from_millis(500),
        failed: 3,
        waiting: 7,
        ..PoolReport::default()
    };
    let unmeasured = PoolReport { name: "nop".to_owned(), batches: 2, ..PoolReport::default() };
    let report = Report { elapsed: Duration::from_secs(10), batches: 3, pools: vec![pool, unmeasured] };

    let lines = Lines::default();
    subscriber::with_default(lines.clone(), || log(&report));
    let expected = "\
message=device report batches=3 elapsed_s=10.0 
message=pool report pool=\"ffn_forward\" batches=1 batches_per_s=0.25 rows=8 rows_per_s=2.0 \
mean_batch_rows=8.0 processing_s=4.0 mean_queue_wait_s=0.5 failed_batches=0 succeeded=0 failed=3 \
cancelled=0 expired=0 evicted=0 refused=0 waiting=7 
message=pool report pool=\"nop\" batches=2 rows=0 mean_batch_rows=0.0 processing_s=0.0 \
mean_queue_wait_s=0.0 failed_batches=0 succeeded=0 failed=0 cancelled=0 expired=0 evicted=0 refused=0 waiting=0 
";
    assert_eq!(*lines.0.lock(), expected);
}

#[test]
fn a_reporter_stops_at_once_however_long_its_interval() {
    for interval in [Duration::from_hours(1), Duration::MAX] {
        drop(Reporter::start(Stats::new(), interval).unwrap());
    }
}

#[test]
fn an_interval_of_zero_is_refused() {
    let error = Reporter::start(Stats::new(), Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
