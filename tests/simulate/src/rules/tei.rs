//! A token budget in the order of arrival: text-embeddings-inference.
//!
//! When the model is free, tasks leave in the order in which they came, until the next one would make the batch's
//! padded tokens exceed the budget.

use super::Queues;
use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Batch, Rule};

/// `--max-batch-tokens`, its default.
const BUDGET: u64 = 16_384;

pub(super) struct Tei(Queues);

impl Tei {
    pub(super) fn new(workload: &Workload) -> Self {
        Self(Queues::new(workload))
    }
}

impl Rule for Tei {
    fn arrive(&mut self, task: &Task, _: Nanos) -> bool {
        self.0.push(*task);
        true
    }

    fn next(&mut self, _: Nanos, busy: bool) -> Act {
        if busy {
            return Act::Wait;
        }
        let Some((_, model)) = self.0.oldest() else { return Act::Wait };
        let mut longest = 0;
        let fits = |(at, task): &(usize, &Task)| {
            longest = longest.max(u64::from(task.elements));
            *at < self.0.max_rows && (*at == 0 || longest * (*at as u64 + 1) <= BUDGET)
        };
        let rows = self.0.models[model as usize].iter().enumerate().take_while(fits).count();
        let batch: Batch = self.0.take(model, rows);
        Act::Cut(batch)
    }
}
