//! Earliest deadline first with admission: Clockwork (Gujarati et al., OSDI 2020).
//!
//! Device times are known, so what cannot be answered in time is refused before it takes any: when it arrives, if even an
//! idle device would be too slow, and when its turn comes, if it waited for too long. The device is never left idle; of
//! the models, the one goes whose first task must begin next, with the largest of the sizes 1, 2, 4, 8, … that ends in
//! time for it.

use super::Queues;
use super::symphony::{by_deadline, in_time};
use crate::device::Cost;
use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Rule};

pub(super) struct Clockwork {
    queues: Queues,
    cost: Cost,
}

impl Clockwork {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { queues: Queues::new(workload), cost: workload.cost }
    }
}

impl Rule for Clockwork {
    fn arrive(&mut self, task: &Task, now: Nanos) -> bool {
        let can_be = now + self.cost.of(1, task.elements) <= task.due();
        if can_be {
            by_deadline(&mut self.queues, *task);
        }
        can_be
    }

    fn next(&mut self, now: Nanos, busy: bool) -> Act {
        if busy {
            return Act::Wait;
        }
        let mut next: Option<(Nanos, u32, usize)> = None;
        for model in 0..self.queues.models.len() {
            while let Some(head) = self.queues.models[model].front() {
                if now + self.cost.of(1, head.elements) <= head.due() {
                    break;
                }
                self.queues.models[model].pop_front();
            }
            let Some(head) = self.queues.models[model].front() else { continue };
            let (rows, longest) = in_time(&self.queues, &self.cost, model, now, self.queues.max_rows);
            let size = 1usize << rows.max(1).ilog2();
            let begins = head.due() - self.cost.of(size, longest);
            let entry = (begins, u32::try_from(model).unwrap_or(0), size);
            next = Some(next.map_or(entry, |next| next.min(entry)));
        }
        next.map_or(Act::Wait, |(_, model, rows)| Act::Cut(self.queues.take(model, rows)))
    }
}
