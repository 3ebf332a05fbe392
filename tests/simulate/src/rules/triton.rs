//! Preferred sizes and a fixed delay: Triton's dynamic batcher.
//!
//! Tasks of equal shape that follow each other make a batch. It leaves once it has the largest preferred size, or once
//! its oldest task has waited for `max_queue_delay_microseconds`; then with the largest preferred size that it has, or
//! with all there is.

use super::Queues;
use crate::task::{MS, Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Rule};

const DELAY: Nanos = 5 * MS;

pub(super) struct Triton(Queues);

impl Triton {
    pub(super) fn new(workload: &Workload) -> Self {
        Self(Queues::new(workload))
    }

    /// The rows at the head of a queue that have one shape.
    fn alike(&self, model: usize) -> usize {
        let queue = &self.0.models[model];
        let shape = queue.front().map(|task| task.elements);
        queue.iter().take(self.0.max_rows).take_while(|task| Some(task.elements) == shape).count()
    }
}

impl Rule for Triton {
    fn arrive(&mut self, task: &Task, _: Nanos) -> bool {
        self.0.push(*task);
        true
    }

    fn next(&mut self, now: Nanos, busy: bool) -> Act {
        if busy {
            return Act::Wait;
        }
        let preferred = [self.0.max_rows, self.0.max_rows / 2, self.0.max_rows / 4];
        let mut ready: Option<(Nanos, u32, usize)> = None;
        let mut later: Option<Nanos> = None;
        for model in 0..self.0.models.len() {
            let Some(head) = self.0.models[model].front() else { continue };
            let rows = self.alike(model);
            // What is followed by another shape cannot grow.
            let is_closed = rows < self.0.models[model].len();
            if rows >= preferred[0] || is_closed || now >= head.arrived + DELAY {
                let size = preferred.into_iter().find(|&size| size > 0 && size <= rows).unwrap_or(rows);
                let entry = (head.arrived, u32::try_from(model).unwrap_or(0), size);
                ready = Some(ready.map_or(entry, |ready| ready.min(entry)));
            } else {
                let at = head.arrived + DELAY;
                later = Some(later.map_or(at, |later| later.min(at)));
            }
        }
        match (ready, later) {
            (Some((_, model, rows)), _) => Act::Cut(self.0.take(model, rows)),
            (None, Some(at)) => Act::At(at),
            (None, None) => Act::Wait,
        }
    }
}
