//! Tasks in a pool's queue, and the batch that becomes of those that are taken out of it.

use crate::queue::Taken;
use crate::queue::item::{Item, Place};
use crate::queue::segment::Items;
use skep_runtime_core::TaskHeader;
use skep_runtime_core::pool::{Batch, BatchTask, Piece, Reply, SliceRows};
use std::sync::Arc;
use std::time::Instant;

/// A task in the queue, whole or what is left of it, or a part that has been taken off one.
pub(crate) struct Task<T> {
    pub(crate) header: TaskHeader,
    /// Its tensors; none if it is split.
    pub(crate) inputs: Vec<T>,
    pub(crate) reply: Reply<T>,
    pub(crate) split: Option<Box<Split<T>>>,
}

/// The tensors of a task that is too large for one batch.
pub(crate) struct Split<T> {
    slice: SliceRows<T>,
    /// The number by which its ticket knows it.
    number: u64,
    /// The first row that is left.
    at: usize,
    /// A part has been taken off.
    is_started: bool,
    since: Instant,
}

impl<T> Split<T> {
    pub(crate) fn new(slice: SliceRows<T>, number: u64, submitted: Instant) -> Self {
        Self { slice, number, at: 0, is_started: false, since: submitted }
    }
}

impl<T> Item for Task<T> {
    type Rank = Place;

    #[inline]
    fn number(&self) -> Option<u64> {
        Some(self.split.as_ref()?.number)
    }

    #[inline]
    fn header(&self) -> &TaskHeader {
        &self.header
    }

    #[inline]
    fn since(&self) -> Instant {
        self.split.as_ref().map_or(self.header.submitted, |split| split.since)
    }

    #[inline]
    fn is_divisible(&self) -> bool {
        self.split.is_some()
    }

    #[inline]
    fn is_started(&self) -> bool {
        !self.header.is_first || self.split.as_ref().is_some_and(|split| split.is_started)
    }

    fn is_void(&self) -> bool {
        self.reply.is_void()
    }

    fn take_part(&mut self, rows: usize, now: Instant) -> Self {
        let mut header = self.header;
        (header.rows, header.is_last) = (rows, false);
        let reply = self.reply.split_off();
        let mut part = Self { header, inputs: Vec::new(), reply, split: None };
        if let Some(split) = &mut self.split {
            let (slice, number, at) = (Arc::clone(&split.slice), split.number, split.at);
            split.at += rows;
            split.is_started = true;
            split.since = now;
            part.split = Some(Box::new(Split { slice, number, at, is_started: true, since: now }));
        }
        self.header.rows -= rows;
        // From here on it is a task that has begun: it does not expire.
        self.header.deadline = None;
        self.header.is_first = false;
        part
    }
}

/// Sorts tasks into a batch. Leaves the buffer that they were in, if that can be used again.
pub(crate) fn into_batch<T: 'static>(taken: Taken<Task<T>>, buffer: &mut Items<Task<T>>) -> Batch<T> {
    match taken {
        Taken::One(task) => batch_of_one(task),
        Taken::Segment(items, count) => {
            *buffer = items;
            batch_of(count, buffer.drain(..).map(|(_, task)| task))
        }
        Taken::Some(tasks) => batch_of(tasks.len(), tasks.into_iter().map(Some)),
    }
}

/// If the task has one tensor, its own vector is that input's.
fn batch_of_one<T: 'static>(task: Task<T>) -> Batch<T> {
    if task.inputs.len() != 1 {
        return batch_of(1, std::iter::once(Some(task)));
    }
    let Task { header, inputs, reply, .. } = task;
    Batch::new(vec![inputs], vec![BatchTask::new(header, reply)])
}

/// A batch of so many tasks, which come with holes between them.
fn batch_of<T: 'static>(count: usize, tasks: impl Iterator<Item = Option<Task<T>>>) -> Batch<T> {
    let mut batch = Batch::new(Vec::new(), Vec::with_capacity(count));
    batch.vectors.reserve_exact(count);
    for task in tasks {
        let Some(Task { header, mut inputs, reply, split, .. }) = task else { continue };
        if let Some(split) = split {
            let Split { slice, at, .. } = *split;
            let rows = at..at + header.rows;
            batch.pieces.push(Piece::new(batch.tasks.len(), rows, slice));
        } else if batch.columns.is_empty() {
            batch.columns = inputs.iter().map(|_| Vec::with_capacity(count)).collect();
        }
        for (column, tensor) in batch.columns.iter_mut().zip(inputs.drain(..)) {
            column.push(tensor);
        }
        batch.vectors.push(inputs);
        batch.tasks.push(BatchTask::new(header, reply));
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_brings_the_vectors_that_its_tasks_came_in() {
        let task = |seq| Task {
            header: TaskHeader::new(1, Instant::now()),
            inputs: vec![seq],
            reply: Reply::pair().1,
            split: None,
        };
        let batch = into_batch(Taken::Some(vec![task(0), task(1)]), &mut Items::<Task<_>>::new());
        assert_eq!(batch.columns, [[0, 1]]);
        assert_eq!(batch.vectors, [[0; 0], [0; 0]]);
        assert!(batch.vectors.iter().all(|vector| vector.capacity() == 1));
    }

    #[test]
    fn a_part_brings_what_cuts_its_rows() {
        let (_ticket, reply) = Reply::pair();
        let mut rest = Task {
            header: TaskHeader::new(10, Instant::now()),
            inputs: Vec::new(),
            reply: reply.in_parts(Box::new(|parts| Ok(parts.concat()))),
            split: Some(Box::new(Split::new(
                Arc::new(|rows| Ok(rows.collect::<Vec<_>>())),
                7,
                Instant::now(),
            ))),
        };
        let parts = [rest.take_part(4, Instant::now()), rest.take_part(3, Instant::now()), rest];
        let flags = parts.each_ref().map(|part| (part.header.is_first, part.header.is_last, part.number()));
        assert_eq!(
            flags,
            [(true, false, Some(7)), (false, false, Some(7)), (false, true, Some(7))],
            "the number of the ticket stays"
        );
        let whole = Task {
            header: TaskHeader::new(1, Instant::now()),
            inputs: vec![100],
            reply: Reply::pair().1,
            split: None,
        };
        let [a, b, c] = parts;
        let batch = into_batch(Taken::Some(vec![a, whole, b, c]), &mut Items::<Task<_>>::new());
        assert_eq!(batch.columns, [[100]]);
        let cut = batch.pieces.into_iter().map(|piece| (piece.place, (piece.slice)(piece.rows).unwrap()));
        let expected = [(0, (0..4).collect::<Vec<_>>()), (2, (4..7).collect()), (3, (7..10).collect())];
        assert_eq!(cut.collect::<Vec<_>>(), expected);
    }
}
