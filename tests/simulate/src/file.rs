//! Workloads from a file: one task a line, as a JSON object.

use crate::device::Cost;
use crate::task::{Nanos, Task, millis};
use crate::workload::{MAX_ROWS, Workload};
use serde::Deserialize;
use std::error::Error;
use std::path::Path;

/// `{"at_ms": 12.5, "model": 0, "flow": 1, "priority": 0, "elements": 16, "objective_ms": 100}`; all but the time may be
/// left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_ms: f64,
    #[serde(default)]
    model: u32,
    #[serde(default = "one")]
    flow: u32,
    #[serde(default)]
    priority: i32,
    #[serde(default = "sixteen")]
    elements: u32,
    #[serde(default = "hundred")]
    objective_ms: f64,
}

const fn one() -> u32 {
    1
}

const fn sixteen() -> u32 {
    16
}

const fn hundred() -> f64 {
    100.0
}

/// More models are a mistake: each has a pool.
const MOST_MODELS: u32 = 10_000;
const MOST_ELEMENTS: u32 = 1 << 20;
/// A year.
const MOST_MS: f64 = 366.0 * 24.0 * 3600.0 * 1e3;

/// Reads a workload.
///
/// # Errors
///
/// Those of the file, and the first line that is not a task.
pub(crate) fn read(file: &Path, cost: Cost) -> Result<Workload, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    parse(&text, cost).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn parse(text: &str, cost: Cost) -> Result<Workload, String> {
    let mut tasks = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        let wrong = |what: &str, got: &dyn std::fmt::Display, expected: String| {
            Err(format!("line {number}: {what} is {got}, expected {expected}"))
        };
        if !(0.0..=MOST_MS).contains(&line.at_ms) {
            return wrong("at_ms", &line.at_ms, "0 to a year".to_owned());
        }
        if !(0.0..=MOST_MS).contains(&line.objective_ms) || line.objective_ms == 0.0 {
            return wrong("objective_ms", &line.objective_ms, "more than 0, to a year".to_owned());
        }
        if line.model >= MOST_MODELS {
            return wrong("model", &line.model, format!("less than {MOST_MODELS}"));
        }
        if !(1..=MOST_ELEMENTS).contains(&line.elements) {
            return wrong("elements", &line.elements, format!("1 to {MOST_ELEMENTS}"));
        }
        tasks.push(Task {
            id: 0,
            model: line.model,
            flow: line.flow,
            priority: line.priority,
            elements: line.elements,
            arrived: millis(line.at_ms),
            objective: millis(line.objective_ms),
            caller: None,
        });
    }
    let Some(models) = tasks.iter().map(|task| task.model + 1).max() else {
        return Err("there is no task in it".to_owned());
    };
    tasks.sort_by_key(|task| task.arrived);
    for (id, task) in (0..).zip(&mut tasks) {
        task.id = id;
    }
    let end = tasks.last().map_or(0, |task| task.arrived) + 1;
    Ok(Workload {
        name: "file",
        cost,
        models,
        devices: 1,
        max_rows: MAX_ROWS,
        tasks,
        callers: Vec::new(),
        end,
    })
}

/// The part of what the device can do that is asked for, in full batches of tasks of one size.
pub(crate) fn load(workload: &Workload) -> f64 {
    let of = |task: &Task| workload.cost.of(workload.max_rows, task.elements) / workload.max_rows as u64;
    workload.tasks.iter().map(of).sum::<Nanos>() as f64 / workload.end as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::MS;

    #[test]
    fn tasks_are_read_in_any_order() {
        let text = "{\"at_ms\": 20, \"model\": 3, \"flow\": 7, \"priority\": -100, \"elements\": 320, \"objective_ms\": 1.5}\n\n{\"at_ms\": 0.5}\n";
        let workload = parse(text, Cost::CONSTANT).unwrap();
        assert_eq!((workload.models, workload.tasks.len(), workload.end), (4, 2, 20 * MS + 1));
        let [first, second] = [&workload.tasks[0], &workload.tasks[1]];
        assert_eq!((first.id, first.arrived, first.flow, first.elements), (0, MS / 2, 1, 16));
        assert_eq!((second.id, second.arrived, second.objective), (1, 20 * MS, 1_500_000));
        assert_eq!((second.model, second.flow, second.priority, second.elements), (3, 7, -100, 320));
        // Two thirty-seconds of 10 ms in 20 ms.
        assert!((load(&workload) - 0.03125).abs() < 1e-6);
    }

    #[test]
    fn lines_that_are_no_tasks_are_refused_by_number() {
        let error = |text: &str| parse(text, Cost::CONSTANT).err().unwrap();
        assert_eq!(error(""), "there is no task in it");
        assert!(error("{\"at_ms\": 1}\n{}").starts_with("line 2: missing field `at_ms`"));
        assert!(error("{\"at_ms\": 1, \"rows\": 2}").starts_with("line 1: unknown field `rows`"));
        assert_eq!(error("{\"at_ms\": -1}"), "line 1: at_ms is -1, expected 0 to a year");
        assert!(
            error("{\"at_ms\": 1, \"objective_ms\": 0}").contains("objective_ms is 0, expected more than 0")
        );
        assert!(
            error("{\"at_ms\": 1, \"model\": 10000}").contains("model is 10000, expected less than 10000")
        );
        assert!(error("{\"at_ms\": 1, \"elements\": 0}").contains("elements is 0, expected 1 to"));
    }
}
