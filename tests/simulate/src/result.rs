//! What came of it.

use crate::task::{MS, Nanos, SECOND, Task};
use crate::workload::Workload;
use crate::world::Batch;
use serde::Serialize;
use std::collections::BTreeMap;

/// The figures of one run.
pub(crate) struct Outcome {
    pub(crate) tasks: u64,
    pub(crate) refused: u64,
    pub(crate) answered: u64,
    pub(crate) in_time: u64,
    pub(crate) batches: u64,
    busy: Nanos,
    elements: u64,
    padding: u64,
    end: Nanos,
    over: Nanos,
    latencies: Vec<Nanos>,
    /// By flow, and by priority.
    pub(crate) flows: BTreeMap<u32, Part>,
    pub(crate) classes: BTreeMap<i32, Part>,
    max_rows: usize,
    devices: u32,
}

/// Some of the tasks.
#[derive(Default)]
pub(crate) struct Part {
    pub(crate) served: Nanos,
    pub(crate) answered: u64,
    pub(crate) latencies: Vec<Nanos>,
    /// The lowest and the highest difference of its served time from the mean so far.
    pub(crate) longest: Nanos,
}

/// One line of the table. What is not of every rule and workload is left out where programs read it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) load: f64,
    pub(crate) rule: String,
    /// The part of the tasks that were answered within their objectives.
    pub(crate) goodput: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The part of the time in which the device worked.
    pub(crate) busy: f64,
    /// The part of the elements that only made rows alike.
    pub(crate) padding: f64,
    /// Jain's index of the device time by flow: 1 if all had the same.
    pub(crate) fairness: f64,
    #[serde(skip)]
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold it against what was handed in"))]
    pub(crate) tasks: u64,
    #[serde(skip)]
    pub(crate) tasks_per_s: f64,
    #[serde(skip)]
    pub(crate) rows_per_batch: f64,
    #[serde(skip)]
    pub(crate) classes: Vec<Class>,
    #[serde(skip)]
    pub(crate) flows: Vec<Class>,
}

#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) of: i64,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold it against what was handed in"))]
    pub(crate) answered: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) longest_ms: f64,
    pub(crate) served_s: f64,
}

impl Outcome {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            tasks: 0,
            refused: 0,
            answered: 0,
            in_time: 0,
            batches: 0,
            busy: 0,
            elements: 0,
            padding: 0,
            end: workload.end,
            over: 0,
            latencies: Vec::new(),
            flows: BTreeMap::new(),
            classes: BTreeMap::new(),
            max_rows: workload.max_rows,
            devices: workload.devices,
        }
    }

    pub(crate) fn arrived(&mut self, _: &Task) {
        self.tasks += 1;
    }

    pub(crate) fn refused(&mut self, _: &Task) {
        self.refused += 1;
    }

    pub(crate) fn ran(&mut self, batch: &Batch, time: Nanos, now: Nanos) {
        assert!(
            batch.tasks.len() <= self.max_rows && !batch.tasks.is_empty(),
            "a batch of {} rows",
            batch.tasks.len()
        );
        self.batches += 1;
        self.busy += time;
        let (rows, most) = (batch.tasks.len() as u64, u64::from(batch.elements()));
        let own: u64 = batch.tasks.iter().map(|task| u64::from(task.elements)).sum();
        self.elements += rows * most;
        self.padding += rows * most - own;
        for task in &batch.tasks {
            assert_eq!(task.model, batch.model, "a batch of two models");
            let latency = now - task.arrived;
            self.answered += 1;
            self.in_time += u64::from(latency <= task.objective);
            self.latencies.push(latency);
            for part in
                [self.flows.entry(task.flow).or_default(), self.classes.entry(task.priority).or_default()]
            {
                part.served += time / rows;
                part.answered += 1;
                part.longest = part.longest.max(latency);
                part.latencies.push(latency);
            }
        }
    }

    pub(crate) fn over(&mut self, now: Nanos) {
        self.over = now.max(self.end);
    }

    pub(crate) fn row(&mut self, workload: &str, load: f64, rule: &str) -> Row {
        let served: Vec<f64> = self.flows.values().map(|part| part.served as f64).collect();
        let (sum, squares) = (served.iter().sum::<f64>(), served.iter().map(|time| time * time).sum::<f64>());
        let seconds = self.over as f64 / SECOND as f64;
        self.latencies.sort_unstable();
        Row {
            workload: workload.to_owned(),
            load,
            rule: rule.to_owned(),
            goodput: self.in_time as f64 / self.tasks.max(1) as f64,
            p50_ms: quantile(&self.latencies, 0.5),
            p99_ms: quantile(&self.latencies, 0.99),
            busy: self.busy as f64 / (self.over.max(1) as f64 * f64::from(self.devices)),
            padding: self.padding as f64 / self.elements.max(1) as f64,
            fairness: if squares > 0.0 { sum * sum / (squares * served.len() as f64) } else { 1.0 },
            tasks: self.tasks,
            tasks_per_s: self.answered as f64 / seconds,
            rows_per_batch: self.answered as f64 / self.batches.max(1) as f64,
            classes: parts(&mut self.classes),
            flows: parts(&mut self.flows),
        }
    }
}

fn parts<K: Copy + Into<i64>>(parts: &mut BTreeMap<K, Part>) -> Vec<Class> {
    let class = |(of, part): (&K, &mut Part)| {
        part.latencies.sort_unstable();
        Class {
            of: (*of).into(),
            answered: part.answered,
            p50_ms: quantile(&part.latencies, 0.5),
            p99_ms: quantile(&part.latencies, 0.99),
            longest_ms: part.longest as f64 / MS as f64,
            served_s: part.served as f64 / SECOND as f64,
        }
    };
    parts.iter_mut().map(class).collect()
}

/// In milliseconds; 0 if there are none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is small")]
fn quantile(sorted: &[Nanos], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |&time| time as f64 / MS as f64)
}
