//! Tasks in a pool's queue, and the batch that becomes of those that are taken out of it.

use crate::queue::Taken;
use crate::queue::item::{Item, PartOf};
use crate::queue::lanes::Items;
use skep_runtime_core::TaskHeader;
use skep_runtime_core::pool::{Batch, BatchTask, Reply};

/// A task in the queue, or one part of a task that is split over several batches.
pub(crate) struct Task<T> {
    pub(crate) header: TaskHeader,
    pub(crate) inputs: Vec<T>,
    pub(crate) reply: Reply<T>,
    pub(crate) part: PartOf,
}

impl<T> Item for Task<T> {
    #[inline]
    fn header(&self) -> &TaskHeader {
        &self.header
    }

    #[inline]
    fn part(&self) -> PartOf {
        self.part
    }

    fn is_void(&self) -> bool {
        self.reply.is_void()
    }
}

/// Sorts tasks into a batch, and returns the buffer that they were in beside it, if that can be used again.
pub(crate) fn into_batch<T>(taken: Taken<Task<T>>) -> (Batch<T>, Items<Task<T>>) {
    match taken {
        Taken::One(task) => (batch_of_one(task), Items::new()),
        Taken::Segment(mut items, count) => {
            let tasks = items.drain(..).filter_map(|(_, task)| task);
            (batch_of(count, tasks), items)
        }
        Taken::Some(tasks) => (batch_of(tasks.len(), tasks.into_iter()), Items::new()),
    }
}

/// If the task has one tensor, its own vector is that input's.
fn batch_of_one<T>(task: Task<T>) -> Batch<T> {
    if task.inputs.len() != 1 {
        return batch_of(1, std::iter::once(task));
    }
    let Task { header, inputs, reply, .. } = task;
    Batch { columns: vec![inputs], tasks: vec![BatchTask { header, reply }], vectors: Vec::new() }
}

fn batch_of<T>(count: usize, tasks: impl Iterator<Item = Task<T>>) -> Batch<T> {
    let mut batch =
        Batch { columns: Vec::new(), tasks: Vec::with_capacity(count), vectors: Vec::with_capacity(count) };
    for Task { header, mut inputs, reply, .. } in tasks {
        if batch.tasks.is_empty() {
            batch.columns = inputs.iter().map(|_| Vec::with_capacity(count)).collect();
        }
        for (column, tensor) in batch.columns.iter_mut().zip(inputs.drain(..)) {
            column.push(tensor);
        }
        batch.vectors.push(inputs);
        batch.tasks.push(BatchTask { header, reply });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_batch_brings_the_vectors_that_its_tasks_came_in() {
        let task = |seq| Task {
            header: TaskHeader::new(1, Instant::now()),
            inputs: vec![seq],
            reply: Reply::pair().1,
            part: PartOf::WHOLE,
        };
        let (batch, _) = into_batch(Taken::Some(vec![task(0), task(1)]));
        assert_eq!(batch.columns, [[0, 1]]);
        assert_eq!(batch.vectors, [[0; 0], [0; 0]]);
        assert!(batch.vectors.iter().all(|vector| vector.capacity() == 1));
    }
}
