//! Deferred batching: Symphony (Chen et al., 2023).
//!
//! A model's candidate is the largest batch of its earliest tasks that can still end in time. It is not sent before the
//! moment from which one more task could not be in it any more, so it grows for as long as the objective allows; of the
//! candidates whose window is open, the one that closes first goes. What cannot be answered in time is dropped.

use super::Queues;
use crate::device::Cost;
use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Rule};

pub(super) struct Symphony {
    queues: Queues,
    cost: Cost,
}

impl Symphony {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { queues: Queues::new(workload), cost: workload.cost }
    }
}

/// Puts a task into the order of deadlines.
pub(super) fn by_deadline(queues: &mut Queues, task: Task) {
    let queue = &mut queues.models[task.model as usize];
    let at = queue.partition_point(|other| other.due() <= task.due());
    queue.insert(at, task);
}

/// The rows and elements of the largest batch from the head of a queue that ends in time for all of it.
pub(super) fn in_time(queues: &Queues, cost: &Cost, model: usize, now: Nanos, most: usize) -> (usize, u32) {
    let queue = &queues.models[model];
    let Some(head) = queue.front() else { return (0, 0) };
    let (mut rows, mut longest) = (0, 0);
    for task in queue.iter().take(most) {
        let with = longest.max(task.elements);
        if now + cost.of(rows + 1, with) > head.due() {
            break;
        }
        (rows, longest) = (rows + 1, with);
    }
    (rows, longest)
}

impl Rule for Symphony {
    fn arrive(&mut self, task: &Task, _: Nanos) -> bool {
        by_deadline(&mut self.queues, *task);
        true
    }

    fn next(&mut self, now: Nanos, busy: bool) -> Act {
        if busy {
            return Act::Wait;
        }
        let mut open: Option<(Nanos, u32, usize)> = None;
        let mut later: Option<Nanos> = None;
        let most = self.queues.max_rows;
        for model in 0..self.queues.models.len() {
            while let Some(head) = self.queues.models[model].front() {
                if now + self.cost.of(1, head.elements) <= head.due() {
                    break;
                }
                self.queues.models[model].pop_front();
            }
            let Some(head) = self.queues.models[model].front() else { continue };
            let (rows, longest) = in_time(&self.queues, &self.cost, model, now, most);
            let closes = head.due() - self.cost.of(rows, longest);
            let opens =
                if rows >= most { 0 } else { head.due().saturating_sub(self.cost.of(rows + 1, longest)) };
            if now >= opens {
                let entry = (closes, u32::try_from(model).unwrap_or(0), rows);
                open = Some(open.map_or(entry, |open| open.min(entry)));
            } else {
                later = Some(later.map_or(opens, |later| later.min(opens)));
            }
        }
        match (open, later) {
            (Some((_, model, rows)), _) => Act::Cut(self.queues.take(model, rows)),
            (None, Some(at)) => Act::At(at),
            (None, None) => Act::Wait,
        }
    }
}
