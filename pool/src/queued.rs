//! A task in the queue, and the batch that becomes of those that are taken out of it.

use crate::lanes::{Item, Places};
use skep_runtime_core::{Batch, BatchTask, Reply};
use std::time::Instant;

/// A task in the queue, or one part of a task that is split over several batches.
pub(crate) struct Queued<T> {
    pub(crate) inputs: Vec<T>,
    pub(crate) rows: usize,
    pub(crate) submitted: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: Reply<T>,
    /// Which part of a task it is.
    pub(crate) part: PartOf,
}

/// Which part of a task: the parts of one task follow each other in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartOf {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl PartOf {
    /// The only one.
    pub(crate) const WHOLE: Self = Self { before: 0, after: 0 };
}

impl<T> Item for Queued<T> {
    fn rows(&self) -> usize {
        self.rows
    }

    /// Whether it is a part, or may be moot some day.
    fn is_special(&self) -> bool {
        self.deadline.is_some() || self.reply.is_part()
    }
}

impl<T> Queued<T> {
    pub(crate) fn expired(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether it is the last of its task, whose place in the queue is free once this has left.
    pub(crate) fn is_last(&self) -> bool {
        self.part.after == 0
    }

    /// Running it would help nobody.
    pub(crate) fn is_moot(&self, now: Instant) -> bool {
        self.reply.is_void() || self.expired(now)
    }
}

/// The tasks of a batch, taken out of the queue in the shortest time.
pub(crate) enum Taken<T> {
    /// The only one of a group.
    One(Queued<T>),
    /// All of a segment, and how many they are.
    Segment(Places<Queued<T>>, usize),
    Some(Vec<Queued<T>>),
}

impl<T> Taken<T> {
    /// Sorts the tasks into a batch, and gives back the buffer that they were in, if that can be used again.
    pub(crate) fn into_batch(self) -> (Batch<T>, Places<Queued<T>>) {
        match self {
            Self::One(item) => (batch_of_one(item), Places::new()),
            Self::Segment(mut places, tasks) => {
                let items = places.drain(..).filter_map(|(_, item)| item);
                (batch_of(tasks, items), places)
            }
            Self::Some(items) => (batch_of(items.len(), items.into_iter()), Places::new()),
        }
    }
}

/// Where the task has one tensor, its own vector is that input's.
fn batch_of_one<T>(item: Queued<T>) -> Batch<T> {
    if item.inputs.len() != 1 {
        return batch_of(1, std::iter::once(item));
    }
    let Queued { inputs, rows, submitted, deadline, reply, .. } = item;
    let tasks = vec![BatchTask { rows, submitted, deadline, reply }];
    Batch { inputs: vec![inputs], tasks, vectors: Vec::new() }
}

fn batch_of<T>(tasks: usize, items: impl Iterator<Item = Queued<T>>) -> Batch<T> {
    let mut batch =
        Batch { inputs: Vec::new(), tasks: Vec::with_capacity(tasks), vectors: Vec::with_capacity(tasks) };
    for Queued { mut inputs, rows, submitted, deadline, reply, .. } in items {
        if batch.tasks.is_empty() {
            batch.inputs = inputs.iter().map(|_| Vec::with_capacity(tasks)).collect();
        }
        for (column, tensor) in batch.inputs.iter_mut().zip(inputs.drain(..)) {
            column.push(tensor);
        }
        batch.vectors.push(inputs);
        batch.tasks.push(BatchTask { rows, submitted, deadline, reply });
    }
    batch
}
