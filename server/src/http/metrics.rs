//! The page of metrics: what `skep-stats` publishes of the pools, and what the doors count.

use crate::model::Model;
use crate::tally::{Failure, SECONDS, Sum};
use metrics::{Counter, Histogram, counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use skep_runtime_core::sync::Mutex;
use skep_stats::{Metrics, Snapshot, Stats};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Upper ends of the buckets for rows of a batch.
const ROWS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The page of metrics of one server.
pub(crate) struct Pages {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pools: Metrics,
    stats: Stats,
    /// Those that have been counted in, by what tells them apart. To find one by its labels takes longer than a small request.
    known: Mutex<BTreeMap<Told, Series>>,
}

/// Whether it is HTTP, the place of the name of an endpoint or method, and the code.
type Told = (bool, usize, i32);
type Series = (Counter, Histogram);

impl Pages {
    /// The page of a runtime's numbers and the doors'.
    pub(crate) fn new(stats: Stats) -> Result<Self, metrics_exporter_prometheus::BuildError> {
        let rows = Matcher::Full("skep_batch_rows".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .set_buckets_for_metric(rows, &ROWS)?
            .build_recorder();
        let handle = recorder.handle();
        let pools = with_local_recorder(&recorder, || {
            metrics::describe_counter!(
                "skep_http_requests_total",
                "requests over HTTP, by endpoint and code"
            );
            metrics::describe_histogram!(
                "skep_http_request_seconds",
                "from a request's head until its answer, by endpoint"
            );
            metrics::describe_counter!(
                "skep_grpc_requests_total",
                "inferences over gRPC, by method and code"
            );
            metrics::describe_histogram!(
                "skep_grpc_request_seconds",
                "from an inference's message until its answer, by method"
            );
            metrics::describe_gauge!("skep_requests_at_work", "requests that have no answer yet");
            metrics::describe_gauge!("skep_ready", "1 if requests are welcome");
            metrics::describe_gauge!("skep_served_models", "models that are served");
            Metrics::new(stats.clone())
        });
        Ok(Self { recorder, handle, pools, stats, known: Mutex::default() })
    }

    /// Counts a request that is over.
    pub(crate) fn request(&self, endpoint: &'static str, code: u16, took: Duration) {
        self.count((true, endpoint.as_ptr() as usize, code.into()), took, || {
            let counted =
                counter!("skep_http_requests_total", "endpoint" => endpoint, "code" => code.to_string());
            (counted, histogram!("skep_http_request_seconds", "endpoint" => endpoint))
        });
    }

    /// Counts a call over gRPC that is over.
    pub(crate) fn call(&self, method: &'static str, code: i32, took: Duration) {
        self.count((false, method.as_ptr() as usize, code), took, || {
            let counted =
                counter!("skep_grpc_requests_total", "method" => method, "code" => code.to_string());
            (counted, histogram!("skep_grpc_request_seconds", "method" => method))
        });
    }

    fn count(&self, told: Told, took: Duration, make: impl FnOnce() -> Series) {
        let known = self.known.lock().get(&told).cloned();
        let (counted, times) = known.unwrap_or_else(|| {
            let series = with_local_recorder(&self.recorder, make);
            self.known.lock().insert(told, series.clone());
            series
        });
        counted.increment(1);
        times.record(took.as_secs_f64());
    }

    /// The numbers of the runtime now. To read them takes the longer the more pools there are.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Puts the times that were recorded into their buckets, and the numbers of pools that have left into the metrics. They
    /// pile up until then, whether anybody reads the page or not.
    pub(crate) fn upkeep(&self) {
        with_local_recorder(&self.recorder, || self.pools.publish_departed());
        self.handle.run_upkeep();
    }

    /// Brings the metrics that have Triton's names up to date.
    pub(crate) fn triton(&self, models: &[Arc<Model>]) {
        with_local_recorder(&self.recorder, || models.iter().for_each(|model| triton(model)));
    }

    /// Writes the page, with the requests at work, if more are welcome, and the number of models.
    pub(crate) fn render(&self, at_work: usize, ready: bool, models: usize) -> String {
        with_local_recorder(&self.recorder, || {
            self.pools.publish();
            gauge!("skep_requests_at_work").set(at_work as f64);
            gauge!("skep_ready").set(if ready { 1.0 } else { 0.0 });
            gauge!("skep_served_models").set(models as f64);
        });
        self.handle.run_upkeep();
        self.handle.render()
    }
}

/// What Triton calls it.
fn triton(model: &Model) {
    let labels = [("model", model.name.clone()), ("version", model.version.clone())];
    let (requests, batches) = (model.tally.requests(), model.tally.batches());
    let count = |name: &'static str, value: u64| counter!(name, &labels).absolute(value);
    let time = |name: &'static str, sum: Sum| counter!(name, &labels).absolute(sum.ns / 1000);
    count("nv_inference_request_success", requests.success.count);
    for failure in Failure::ALL {
        let [model, version] = labels.clone();
        let labels = [model, version, ("reason", failure.name().to_owned())];
        counter!("nv_inference_request_failure", &labels).absolute(requests.failures[failure as usize]);
    }
    count("nv_inference_count", batches.rows);
    count("nv_inference_exec_count", batches.count);
    gauge!("nv_inference_pending_request_count", &labels).set(model.tally.waiting().0 as f64);
    time("nv_inference_request_duration_us", requests.success);
    time("nv_inference_queue_duration_us", batches.queue);
    time("nv_inference_compute_input_duration_us", batches.tasks.input);
    time("nv_inference_compute_infer_duration_us", batches.tasks.infer);
    time("nv_inference_compute_output_duration_us", batches.tasks.output);
}
