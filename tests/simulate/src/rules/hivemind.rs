//! First come, first served, cut as soon as there is room: hivemind's `Runtime` and `TaskPool`.
//!
//! A pool's priority is the arrival of its oldest task; batches are formed ahead of the device, from whatever is there.

use super::Queues;
use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Rule};

pub(super) struct Hivemind(Queues);

impl Hivemind {
    pub(super) fn new(workload: &Workload) -> Self {
        Self(Queues::new(workload))
    }
}

impl Rule for Hivemind {
    fn arrive(&mut self, task: &Task, _: Nanos) -> bool {
        self.0.push(*task);
        true
    }

    fn next(&mut self, _: Nanos, _: bool) -> Act {
        let rows = self.0.max_rows;
        self.0.oldest().map_or(Act::Wait, |(_, model)| Act::Cut(self.0.take(model, rows)))
    }
}
