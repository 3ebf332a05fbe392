//! Workloads: who asks for what, and when.

use crate::device::Cost;
use crate::random::Random;
use crate::task::{MS, Nanos, SECOND, Task, seconds};

/// The workloads that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Independent tasks for one model.
    Steady,
    /// The same in groups of thirty-two.
    Bursty,
    /// Full for a second, nearly nothing for the next.
    OnOff,
    /// One in nine has twenty times as many elements.
    ShortAndLong,
    /// A hundred models, some of which are asked for much more often than others.
    Zipf,
    /// One flow of ten asks for ten times as much as each other.
    Greedy,
    /// Tasks that are due soon beside others that are not.
    TwoObjectives,
    /// A block that takes the same time whatever its rows.
    Constant,
    /// Eight models, each with an objective of its own.
    Objectives,
    /// The load rises from a half to one and a half of what it is on average.
    Rising,
}

/// A workload: tasks in the order in which they arrive, and callers who ask again once they have an answer.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) cost: Cost,
    pub(crate) models: u32,
    pub(crate) devices: u32,
    pub(crate) max_rows: usize,
    pub(crate) tasks: Vec<Task>,
    pub(crate) callers: Vec<Caller>,
    /// No task arrives after this time.
    pub(crate) end: Nanos,
}

/// Somebody who sends a task, waits for its answer, and sends the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) model: u32,
    pub(crate) flow: u32,
    pub(crate) priority: i32,
    pub(crate) elements: u32,
    /// The time from an answer to the next task.
    pub(crate) thinks: Nanos,
    pub(crate) from: Nanos,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Steady,
        Self::Bursty,
        Self::OnOff,
        Self::ShortAndLong,
        Self::Zipf,
        Self::Greedy,
        Self::TwoObjectives,
        Self::Constant,
        Self::Objectives,
        Self::Rising,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Bursty => "bursty",
            Self::OnOff => "on-off",
            Self::ShortAndLong => "short-and-long",
            Self::Zipf => "zipf",
            Self::Greedy => "greedy",
            Self::TwoObjectives => "two-objectives",
            Self::Constant => "constant",
            Self::Objectives => "objectives",
            Self::Rising => "rising",
        }
    }

    fn cost(self) -> Cost {
        match self {
            Self::ShortAndLong => Cost::MINILM_CANDLE,
            Self::Zipf | Self::Objectives => Cost::FFN_CANDLE,
            Self::Constant => Cost::CONSTANT,
            _ => Cost::MIXED,
        }
    }

    fn models(self) -> u32 {
        match self {
            Self::Zipf => 100,
            Self::Objectives => 8,
            _ => 1,
        }
    }

    /// The tasks a second that the device can serve in full batches.
    fn capacity(self) -> f64 {
        let (cost, rows) = (self.cost(), MAX_ROWS);
        let of = |elements| rows as f64 / (cost.of(rows, elements) as f64 / SECOND as f64);
        match self {
            // One long task in nine: the mean of the times, not of the rates.
            Self::ShortAndLong => 9.0 / (8.0 / of(SHORT) + 1.0 / of(LONG)),
            _ => of(SHORT),
        }
    }

    /// Makes the tasks of so long a time at this part of what the device can do.
    pub(crate) fn tasks(self, load: f64, time: Nanos, seed: u64) -> Workload {
        let mut random = Random::new(seed ^ (self as u64) << 32);
        let rate = self.capacity() * load;
        let zipf = sums((1..=self.models()).map(|rank| 1.0 / f64::from(rank)));
        let greedy = sums((0..10).map(|flow| if flow == 0 { 10.0 } else { 1.0 }));
        let mut tasks = Vec::new();
        let (mut now, end) = (0, time);
        loop {
            let at = now as f64 / end as f64;
            let (gap, group) = match self {
                Self::Bursty => (random.gap(rate / 32.0), 32),
                Self::OnOff if now / SECOND % 2 == 1 => (random.gap(rate * 0.1), 1),
                Self::OnOff => (random.gap(rate * 1.9), 1),
                Self::Rising => (random.gap(rate * (0.5 + at)), 1),
                _ => (random.gap(rate), 1),
            };
            now += seconds(gap);
            if now >= end {
                break;
            }
            for _ in 0..group {
                let id = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
                let mut task = Task {
                    id,
                    model: 0,
                    flow: 1,
                    priority: 0,
                    elements: SHORT,
                    arrived: now,
                    objective: 100 * MS,
                    caller: None,
                };
                match self {
                    Self::ShortAndLong if random.below(9) == 0 => {
                        (task.elements, task.flow, task.objective) = (LONG, 2, 4 * SECOND);
                    }
                    Self::ShortAndLong => task.objective = 600 * MS,
                    Self::Zipf => task.model = random.by_weight(&zipf),
                    Self::Greedy => task.flow = 1 + random.by_weight(&greedy),
                    Self::TwoObjectives if random.below(2) == 0 => {
                        (task.objective, task.priority, task.flow) = (SECOND, 100, 2);
                    }
                    Self::TwoObjectives => task.objective = 60 * MS,
                    Self::Objectives => {
                        task.model = random.below(8);
                        task.objective = MS * [20, 40, 60, 80, 100, 200, 400, 800][task.model as usize];
                    }
                    _ => {}
                }
                tasks.push(task);
            }
        }
        Workload {
            name: self.name(),
            cost: self.cost(),
            models: self.models(),
            devices: 1,
            max_rows: MAX_ROWS,
            tasks,
            callers: Vec::new(),
            end,
        }
    }
}

pub(crate) const MAX_ROWS: usize = 32;
const SHORT: u32 = 16;
const LONG: u32 = 320;

fn sums(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

impl Workload {
    /// Callers of one model who wait for their answers, and come back within some 300 µs.
    pub(crate) fn closed(cost: Cost, callers: u32, max_rows: usize, time: Nanos, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let callers = (0..callers)
            .map(|_| Caller {
                model: 0,
                flow: 1,
                priority: 0,
                elements: SHORT,
                thinks: 20_000 + u64::from(random.below(280_000)),
                from: u64::from(random.below(1_000_000)),
            })
            .collect();
        Self {
            name: "closed-loop",
            cost,
            models: 1,
            devices: 1,
            max_rows,
            tasks: Vec::new(),
            callers,
            end: time,
        }
    }

    /// Callers of short texts, and callers of texts twenty times as long, of one model. Each is a flow of its own.
    pub(crate) fn beside(shorts: u32, longs: u32, time: Nanos, seed: u64) -> Self {
        let mut workload = Self::closed(Cost::MINILM_CANDLE, shorts + longs, 32, time, seed);
        for (flow, caller) in (1..).zip(&mut workload.callers) {
            caller.flow = flow;
            caller.elements = if flow <= shorts { SHORT } else { LONG };
        }
        workload
    }

    /// Flows that always wait: each has so many callers, spread over the models.
    pub(crate) fn flows(cost: Cost, flows: u32, models: u32, each: u32, time: Nanos) -> Self {
        let callers = (0..flows * each)
            .map(|at| Caller {
                model: if models >= flows {
                    (at / flows * flows + at % flows) % models
                } else {
                    at % flows % models
                },
                flow: 1 + at % flows,
                priority: 0,
                elements: SHORT,
                thinks: 1000,
                from: u64::from(at) * 1000,
            })
            .collect();
        Self { name: "flows", cost, models, devices: 1, max_rows: 16, tasks: Vec::new(), callers, end: time }
    }
}
