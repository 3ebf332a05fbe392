//! What one round measures, and what is reported of all rounds.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One round of one system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Tasks that were answered.
    pub(crate) tasks: u64,
    pub(crate) rows: u64,
    pub(crate) batches: u64,
    pub(crate) seconds: f64,
    /// Processor time of callers and system together.
    pub(crate) cpu_seconds: f64,
    /// From submitting to the answer; of every task, or of a regular choice among them.
    pub(crate) latencies_us: Vec<f64>,
    /// The part of the time in which the device ran batches, where the system tells.
    pub(crate) device_busy: Option<f64>,
}

/// One line of the table: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) system: String,
    pub(crate) workload: String,
    pub(crate) outstanding: usize,
    pub(crate) tasks_per_s: f64,
    pub(crate) rows_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_us_per_task: f64,
    pub(crate) mean_batch_rows: f64,
    /// Whom the ratios are to.
    pub(crate) baseline: String,
    /// Median over the rounds of this system's rows per second by the baseline's in the same round.
    pub(crate) throughput_ratio: f64,
    /// The same for the median latency.
    pub(crate) p50_ratio: f64,
    /// The same for processor time per task.
    pub(crate) cpu_ratio: f64,
    pub(crate) device_busy: Option<f64>,
    /// What is kept of the baseline's throughput, in contests that ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<f64>,
    /// The part of the machine's arithmetic that was made use of, where it was measured.
    pub(crate) arithmetic: Option<f64>,
    pub(crate) rounds: usize,
}

impl Sample {
    /// Both, one after the other.
    pub(crate) fn and(mut self, then: Self) -> Self {
        self.latencies_us.extend(then.latencies_us);
        let seconds = self.seconds + then.seconds;
        let busy = |sample: Option<f64>, of: f64| sample.map(|busy| busy * of);
        let device_busy = busy(self.device_busy, self.seconds).zip(busy(then.device_busy, then.seconds));
        Self {
            tasks: self.tasks + then.tasks,
            rows: self.rows + then.rows,
            batches: self.batches + then.batches,
            seconds,
            cpu_seconds: self.cpu_seconds + then.cpu_seconds,
            latencies_us: self.latencies_us,
            device_busy: device_busy.map(|(first, then)| (first + then) / seconds),
        }
    }

    fn rows_per_s(&self) -> f64 {
        self.rows as f64 / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.tasks.max(1) as f64
    }

    fn p50(&self) -> f64 {
        quantile(&self.latencies_us, 0.5)
    }
}

impl Row {
    /// `samples` and `baseline` have one sample per round, in the order of the rounds.
    pub(crate) fn new(
        (system, workload, outstanding): (&str, &str, usize),
        samples: &[Sample],
        (name, baseline): (&str, &[Sample]),
    ) -> Self {
        let of = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure));
        let ratio = |figure: &dyn Fn(&Sample) -> f64| {
            median(samples.iter().zip(baseline).map(|(mine, base)| figure(mine) / figure(base)))
        };
        let busy: Vec<_> = samples.iter().filter_map(|sample| sample.device_busy).collect();
        Self {
            system: system.to_owned(),
            workload: workload.to_owned(),
            outstanding,
            tasks_per_s: of(&|s| s.tasks as f64 / s.seconds),
            rows_per_s: of(&Sample::rows_per_s),
            p50_us: of(&Sample::p50),
            p99_us: of(&|s| quantile(&s.latencies_us, 0.99)),
            cpu_us_per_task: of(&Sample::cpu_us),
            mean_batch_rows: of(&|s| s.rows as f64 / s.batches.max(1) as f64),
            baseline: name.to_owned(),
            throughput_ratio: ratio(&Sample::rows_per_s),
            p50_ratio: ratio(&Sample::p50),
            cpu_ratio: ratio(&Sample::cpu_us),
            device_busy: (!busy.is_empty()).then(|| median(busy)),
            kept: None,
            arithmetic: None,
            rounds: samples.len(),
        }
    }
}

impl Row {
    /// `limit` is the seconds that the arithmetic of a row takes at least.
    pub(crate) fn with_limit(self, limit: Option<f64>) -> Self {
        Self { arithmetic: limit.map(|limit| limit * self.rows_per_s), ..self }
    }

    /// With what is kept of the baseline's throughput.
    pub(crate) fn with_kept(self, is_wanted: bool) -> Self {
        Self { kept: is_wanted.then_some(self.throughput_ratio), ..self }
    }

    /// Each contest begins with the baseline's row.
    pub(crate) fn is_baseline(&self) -> bool {
        self.system == self.baseline
    }
}

/// The middle value; the lower one of two.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&values.into_iter().collect::<Vec<_>>(), 0.5)
}

/// The value that this part of the values does not exceed; not a number when there are none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is small")]
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A time as the rows give it.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "all of these are exact")]
mod tests {
    use super::*;

    fn sample(tasks: u64, latencies_us: &[f64]) -> Sample {
        let latencies_us = latencies_us.to_vec();
        Sample {
            tasks,
            rows: tasks,
            batches: 1,
            seconds: 1.0,
            cpu_seconds: 1.0,
            latencies_us,
            device_busy: None,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as slow in the second round, for both.
        let (mine, base) =
            ([sample(80, &[1.0]), sample(40, &[2.0])], [sample(100, &[0.5]), sample(50, &[1.0])]);
        let row = Row::new(("skep", "null", 1), &mine, ("floor", &base));
        assert_eq!([row.throughput_ratio, row.p50_ratio, row.cpu_ratio], [0.8, 2.0, 1.25]);
        assert_eq!(row.tasks_per_s, 40.0);
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| quantile(&values, part)), [1.0, 2.0, 4.0, 4.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
