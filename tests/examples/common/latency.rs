//! How long callers waited, as they saw it.

use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Times in the order in which they were taken.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds those of another caller.
    pub(crate) fn merged(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The time that this percentage of all times does not exceed; zero without any.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn to_json(&self) -> Value {
        let micros = |percent| self.percentile(percent).as_secs_f64() * 1e6;
        json!({ "count": self.0.len(), "p50_us": micros(50), "p99_us": micros(99) })
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [50, 99].map(|percent| self.percentile(percent).as_secs_f64() * 1e3);
        write!(f, "p50 {p50:>6.2} ms, p99 {p99:>6.2} ms ({} calls)", self.0.len())
    }
}
