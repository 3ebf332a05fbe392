//! Load reports, which balancers weigh servers by: ORCA, with each answer that they are asked for with.
//!
//! Of a balancer that shares requests by rate, weight is requests per second by utilization, less where errors are. So
//! the rate of a report is never zero, and its utilization is the device's or that of the fullest queue.

use crate::model::Model;
use crate::problem::Problem;
use crate::tally::Tallies;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use prost::Message;
use serde_json::json;
use skep_runtime_core::sync::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asks for a report with the answer.
const ASKS: HeaderName = HeaderName::from_static("endpoint-load-metrics-format");
/// Has a report in words.
pub(crate) const REPORT: HeaderName = HeaderName::from_static("endpoint-load-metrics");
/// Has a report as a message of the protocol.
pub(crate) const REPORT_BIN: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// How long the rates of a report are good for.
const FRESH: Duration = Duration::from_millis(50);
/// The time over which rates are taken.
const WINDOW: Duration = Duration::from_secs(5);

/// The form of a report in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Format {
    /// The form that a client asks for, if it asks.
    pub(crate) fn asked(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(ASKS) else { return Ok(None) };
        let value = value.to_str().unwrap_or_default().trim();
        match value.to_ascii_lowercase().as_str() {
            "text" => Ok(Some(Self::Text)),
            "json" => Ok(Some(Self::Json)),
            _ => Err(Problem::invalid(format!("{ASKS} is `{value}`, expected `text` or `json`"))),
        }
    }
}

/// What a balancer should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// From 0 to 1.
    utilization: f64,
    /// Requests for models that end in a second, well or not.
    rate: f64,
    /// Those of them that fail.
    errors: f64,
    /// Tasks that wait.
    queue: u64,
    /// Requests that have no answer yet.
    at_work: u64,
}

/// The message, by its numbers.
#[derive(Clone, PartialEq, Message)]
struct OrcaLoadReport {
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(btree_map = "string, double", tag = "8")]
    named_metrics: BTreeMap<String, f64>,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

impl Report {
    fn named(&self) -> [(&'static str, u64); 2] {
        [("at_work", self.at_work), ("queue", self.queue)]
    }

    /// The value of a header, in words.
    pub(crate) fn header(&self, format: Format) -> Option<HeaderValue> {
        let Self { utilization, rate, errors, .. } = self;
        let text = match format {
            Format::Text => {
                let named = self.named().map(|(name, number)| format!("named_metrics.{name}={number}"));
                let named = named.join(", ");
                format!(
                    "TEXT application_utilization={utilization:.4}, rps_fractional={rate:.3}, eps={errors:.3}, {named}"
                )
            }
            Format::Json => {
                let report = json!({
                    "application_utilization": utilization,
                    "rps_fractional": rate,
                    "eps": errors,
                    "named_metrics": BTreeMap::from(self.named()),
                });
                format!("JSON {report}")
            }
        };
        HeaderValue::try_from(text).ok()
    }

    /// The value of a trailer of gRPC.
    pub(crate) fn trailer(&self) -> Option<HeaderValue> {
        let message = OrcaLoadReport {
            rps_fractional: self.rate,
            eps: self.errors,
            named_metrics: self.named().map(|(name, number)| (name.to_owned(), number as f64)).into(),
            application_utilization: self.utilization,
        };
        HeaderValue::try_from(STANDARD_NO_PAD.encode(message.encode_to_vec())).ok()
    }
}

/// What has been done until a moment.
#[derive(Clone, Copy, Debug)]
struct Sums {
    at: Instant,
    /// Of the device.
    busy: Duration,
    requests: u64,
    errors: u64,
}

/// Rates over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    busy: f64,
    requests: f64,
    errors: f64,
}

/// The least utilization that is reported: balancers refuse none at all, and know nothing of an idle server then.
const LEAST: f64 = 0.001;

/// What reports are made of.
pub(crate) struct Load {
    tallies: Arc<Tallies>,
    past: Mutex<(VecDeque<Sums>, Rates)>,
}

impl Load {
    pub(crate) fn new(tallies: Arc<Tallies>) -> Self {
        let start = Sums { at: Instant::now(), busy: Duration::ZERO, requests: 0, errors: 0 };
        Self { tallies, past: Mutex::new((VecDeque::from([start]), Rates::default())) }
    }

    /// The report of this moment.
    pub(crate) fn report(&self, models: &[Arc<Model>], at_work: usize) -> Report {
        let waits = models.iter().map(|model| (model.tally.waiting().0, model.rules.capacity));
        let (queue, fullest) = waits.fold((0, 0.0_f64), |(queue, fullest), (waiting, capacity)| {
            (queue + waiting, fullest.max(waiting as f64 / capacity.max(1) as f64))
        });
        let rates = self.rates(Instant::now());
        Report {
            utilization: rates.busy.max(fullest).clamp(LEAST, 1.0),
            rate: rates.requests,
            errors: rates.errors,
            queue,
            at_work: at_work as u64,
        }
    }

    fn rates(&self, now: Instant) -> Rates {
        let mut past = self.past.lock();
        let (sums, rates) = &mut *past;
        let is_fresh = |last: &Sums| sums.len() > 1 && now.saturating_duration_since(last.at) < FRESH;
        if !sums.back().is_some_and(is_fresh) {
            let (busy, requests, errors) = self.tallies.sums();
            *rates = since(sums, Sums { at: now, busy, requests, errors });
        }
        *rates
    }
}

/// The rates between the oldest sums of the window and `now`, which joins them.
fn since(past: &mut VecDeque<Sums>, now: Sums) -> Rates {
    // One that is older than the window stays, so that the window is full.
    while past.get(1).is_some_and(|second| now.at.saturating_duration_since(second.at) > WINDOW) {
        past.pop_front();
    }
    let first = past.front().copied().unwrap_or(now);
    past.push_back(now);
    let time = now.at.saturating_duration_since(first.at).max(FRESH).as_secs_f64();
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / time;
    Rates {
        busy: now.busy.saturating_sub(first.busy).as_secs_f64() / time,
        // The request that asks is one, whatever was before it.
        requests: per_second(now.requests, first.requests).max(1.0 / time),
        errors: per_second(now.errors, first.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let start = Instant::now();
        let sums = |seconds: u64, busy, requests, errors| Sums {
            at: start + Duration::from_secs(seconds),
            busy: Duration::from_secs(busy),
            requests,
            errors,
        };
        let mut past = VecDeque::from([sums(0, 0, 0, 0)]);
        let idle = since(&mut past, sums(2, 0, 0, 0));
        assert_eq!(
            idle,
            Rates { busy: 0.0, requests: 0.5, errors: 0.0 },
            "a rate of zero would be no weight"
        );
        assert_eq!(since(&mut past, sums(4, 2, 40, 4)), Rates { busy: 0.5, requests: 10.0, errors: 1.0 });
        // Two seconds after the start is the last moment that is not within the window.
        assert!((since(&mut past, sums(8, 8, 640, 4)).requests - 640.0 / 6.0).abs() < 1e-9);
        assert_eq!(past.len(), 3);
        let long_after = since(&mut past, sums(100, 8, 640, 4));
        assert_eq!((long_after.busy, past.len()), (0.0, 2));
    }

    #[test]
    fn reports_are_written_in_three_forms() {
        let report = Report { utilization: 0.42, rate: 310.0, errors: 0.5, queue: 12, at_work: 3 };
        assert_eq!(
            report.header(Format::Text).unwrap(),
            "TEXT application_utilization=0.4200, rps_fractional=310.000, eps=0.500, named_metrics.at_work=3, \
             named_metrics.queue=12"
        );
        assert_eq!(
            report.header(Format::Json).unwrap(),
            r#"JSON {"application_utilization":0.42,"eps":0.5,"named_metrics":{"at_work":3,"queue":12},"rps_fractional":310.0}"#
        );
        let bytes = STANDARD_NO_PAD.decode(report.trailer().unwrap()).unwrap();
        // Field 6, a double; and the last one is field 9.
        assert_eq!(bytes[0], 6 << 3 | 1);
        assert_eq!(bytes[1..9], 310.0_f64.to_le_bytes());
        let last = bytes.len() - 9;
        assert_eq!((bytes[last], &bytes[last + 1..]), (9 << 3 | 1, &0.42_f64.to_le_bytes()[..]));
    }

    #[test]
    fn a_form_that_is_not_known_is_told() {
        let asked = |value| Format::asked(&HeaderMap::from_iter([(ASKS, HeaderValue::from_static(value))]));
        assert_eq!(asked("TEXT").unwrap(), Some(Format::Text));
        assert_eq!(asked("json").unwrap(), Some(Format::Json));
        assert_eq!(
            asked("xml").unwrap_err().message,
            "endpoint-load-metrics-format is `xml`, expected `text` or `json`"
        );
        assert_eq!(Format::asked(&HeaderMap::new()).unwrap(), None);
    }
}
