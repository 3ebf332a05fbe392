//! The rules: Skep's own, with its real pools and policies, and those of others as their public sources describe them.

mod clockwork;
mod hivemind;
mod skep;
mod symphony;
mod tei;
mod triton;

use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Batch, Rule};
use std::collections::VecDeque;

pub(crate) use self::skep::{Options, Order};

/// Names a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Skep(Options),
    Hivemind,
    Triton,
    Tei,
    Symphony,
    Clockwork,
}

impl Kind {
    /// The rules of others.
    pub(crate) const OTHERS: [Self; 5] =
        [Self::Hivemind, Self::Triton, Self::Tei, Self::Symphony, Self::Clockwork];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Skep(options) => options.name(),
            Self::Hivemind => "hivemind",
            Self::Triton => "triton",
            Self::Tei => "tei",
            Self::Symphony => "symphony",
            Self::Clockwork => "clockwork",
        }
    }

    /// Makes the rule anew for each device.
    pub(crate) fn build(self, workload: &Workload) -> Vec<Box<dyn Rule>> {
        (0..workload.devices).map(|_| self.one(workload)).collect()
    }

    fn one(self, workload: &Workload) -> Box<dyn Rule> {
        match self {
            Self::Skep(options) => Box::new(skep::Skep::new(workload, options)),
            Self::Hivemind => Box::new(hivemind::Hivemind::new(workload)),
            Self::Triton => Box::new(triton::Triton::new(workload)),
            Self::Tei => Box::new(tei::Tei::new(workload)),
            Self::Symphony => Box::new(symphony::Symphony::new(workload)),
            Self::Clockwork => Box::new(clockwork::Clockwork::new(workload)),
        }
    }
}

/// A queue for each model, in the order of arrival.
struct Queues {
    models: Vec<VecDeque<Task>>,
    max_rows: usize,
}

impl Queues {
    fn new(workload: &Workload) -> Self {
        Self { models: vec![VecDeque::new(); workload.models as usize], max_rows: workload.max_rows }
    }

    fn push(&mut self, task: Task) {
        self.models[task.model as usize].push_back(task);
    }

    /// The model whose first task has waited longest.
    fn oldest(&self) -> Option<(Nanos, u32)> {
        let heads =
            (0u32..).zip(&self.models).filter_map(|(model, queue)| Some((queue.front()?.arrived, model)));
        heads.min()
    }

    fn take(&mut self, model: u32, rows: usize) -> Batch {
        let queue = &mut self.models[model as usize];
        Batch { model, tasks: queue.drain(..rows.min(queue.len())).collect(), note: 0 }
    }
}
