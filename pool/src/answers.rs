//! Answers of tasks that leave the queue without being run.

use crate::queue::item::Item;
use crate::task::{Split, Task};
use skep_runtime_core::pool::Settled;
use skep_runtime_core::{Counts, TaskError};
use std::time::Instant;

/// The fixed answers of tasks that were taken out of the queue, and their tensors, to be freed outside of the lock. They
/// are counted under it: whoever reads the counts finds each task in one place.
pub(crate) type Answers<T> = (Vec<Settled<T>>, Leftovers<T>);

/// Tensors of tasks that have left, and what cuts those of large ones.
pub(crate) type Leftovers<T> = Vec<(Vec<T>, Option<Box<Split<T>>>)>;

pub(crate) fn settle<T>(items: Vec<Task<T>>, error: impl Fn(&Task<T>) -> TaskError) -> Answers<T> {
    let (mut settled, mut leftovers) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for item in items {
        let error = error(&item);
        leftovers.push((item.inputs, item.split));
        settled.extend(item.reply.settle(Err(error)));
    }
    (settled, leftovers)
}

pub(crate) fn settle_expired<T>(counts: &mut Counts, items: Vec<Task<T>>, now: Instant) -> Answers<T> {
    let (settled, leftovers) = settle(items, |item| TaskError::Expired { waited: item.header.waited(now) });
    counts.expired += settled.len() as u64;
    (settled, leftovers)
}

/// Settles tasks that waited when the pool was closed.
pub(crate) fn give_up<T>(
    counts: &mut Counts,
    waiting: Vec<Task<T>>,
    now: Instant,
    error: &TaskError,
) -> Answers<T> {
    // What the timer has not come to yet had expired all the same.
    let (expired, given_up) = waiting.into_iter().partition(|item: &Task<T>| item.header().is_expired(now));
    let (mut settled, mut leftovers) = settle_expired(counts, expired, now);
    let (shut_down, of_them) = settle(given_up, |_| error.clone());
    counts.shut_down += shut_down.len() as u64;
    settled.extend(shut_down);
    leftovers.extend(of_them);
    (settled, leftovers)
}
