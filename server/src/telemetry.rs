//! A span for each request, exported to an OpenTelemetry collector.
//!
//! A request that says which trace it is part of (`traceparent`) goes on with that one, and is exported if that one is.

use crate::settings::Config;
use hyper::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
pub(crate) use opentelemetry_otlp::ExporterBuildError as ExportError;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::time::Duration;
use tracing::field::Empty;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// The spans of requests, which are not for the log.
pub(crate) const TARGET: &str = "skep_server::requests";
/// What names the service, if it is set.
const NAME: &str = "OTEL_SERVICE_NAME";
/// The longest time for the last spans at the end.
const LAST: Duration = Duration::from_secs(5);

/// The export of spans; its end brings the last ones out.
pub(crate) struct Export(SdkTracerProvider);

/// Begins to export to the collector that the settings name, if they name one. Returns what hears of spans, and what
/// is to be kept as long as they are exported. Runs on tokio.
pub(crate) fn layer<S>(
    config: &Config,
) -> Result<(Option<impl Layer<S> + use<S>>, Option<Export>), ExportError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(address) = &config.otlp else { return Ok((None, None)) };
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(address).build()?;
    let mut resource = Resource::builder();
    if std::env::var_os(NAME).is_none() {
        resource = resource.with_service_name("skep");
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
    let provider = provider.with_resource(resource.build()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("skep"));
    Ok((
        Some(layer.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO))),
        Some(Export(provider)),
    ))
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(hyper::header::HeaderName::as_str).collect()
    }
}

/// The span of a request for `route`.
pub(crate) fn span(headers: &HeaderMap, method: &str, route: &str) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled() {
        // Without a trace of its client's it begins one.
        span.set_parent(TraceContextPropagator::new().extract(&Headers(headers))).ok();
    }
    span
}

/// Notes how the request of this span ended.
pub(crate) fn ended(span: &Span, code: u16) {
    span.record("http.response.status_code", code);
    if code >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}
