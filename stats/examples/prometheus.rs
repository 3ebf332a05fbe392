//! Prints what a Prometheus server would scrape.
//!
//! ```text
//! cargo run -p skep-stats --features metrics --example prometheus
//! ```
//!
//! The events of a runtime are played here by hand. An application gives the observer to the builder of its
//! runtime, and serves the text at an address of its own. Where the recorder does that by itself, a thread of
//! [`Metrics::every`] publishes now and then.

use metrics_exporter_prometheus::PrometheusBuilder;
use skep_runtime_core::{BatchEvent, Counts, Meter, Observer, Pass, PoolId, TaskHeader};
use skep_stats::{Metrics, Stats};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = [0.001, 0.01, 0.1, 1.0, 10.0];
    let prometheus = PrometheusBuilder::new().set_buckets(&seconds)?.install_recorder()?;

    let stats = Stats::new();
    let metrics = Metrics::new(stats.clone());
    play(&*stats.observer());

    metrics.publish();
    std::io::stdout().write_all(prometheus.render().as_bytes())?;
    Ok(())
}

struct Queue;

impl Meter for Queue {
    fn name(&self) -> &'static str {
        "ffn_forward"
    }

    fn counts(&self) -> Counts {
        Counts::default().submitted(100).refused(4).waiting(6)
    }
}

/// Ten batches of nine tasks.
fn play(observer: &dyn Observer) {
    let start = Instant::now();
    observer.started("cpu", start);
    observer.pool_added(PoolId::new(0), Arc::new(Queue));
    for batch in 1..=10 {
        let headers = [TaskHeader::new(4, start); 9];
        let mut event =
            BatchEvent::new(PoolId::new(0), Pass::Forward, &headers, start + Duration::from_millis(batch));
        event.device = Duration::from_millis(2);
        event.done = event.cut + event.device;
        (event.rows, event.tasks_succeeded) = (36, 9);
        observer.batch(&event);
    }
}
