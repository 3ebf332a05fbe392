//! Work with a block between two batches: saving its state, say.

use super::blocks::Blocks;
use crate::contract::device::Device;
use crate::contract::id::BlockId;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;

/// One piece of work on the device thread.
pub(crate) enum Job<D: Device> {
    /// Work with the blocks. Code of others may be in it.
    With(WithBlocks<D>),
    /// Take out a block that leaves, and has no task any more.
    TakeOut(BlockId),
}

type WithBlocks<D> = Box<dyn FnOnce(&mut Blocks<D>) + Send>;

/// Jobs for the device thread. A job that is refused or dropped drops its reply with it, so who waits for
/// it hears.
pub(crate) struct Work<D: Device> {
    /// `None` once the device thread has ended.
    queue: Mutex<Option<VecDeque<Job<D>>>>,
    /// Read between all batches, so that the lock need not be.
    waiting: AtomicBool,
}

impl<D: Device> Work<D> {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(Some(VecDeque::new())), waiting: AtomicBool::new(false) }
    }

    pub(crate) fn push(&self, job: Job<D>) {
        if let Some(queue) = &mut *self.queue.lock() {
            queue.push_back(job);
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// The next job, if there is one.
    pub(crate) fn pop(&self) -> Option<Job<D>> {
        if !self.are_waiting() {
            return None;
        }
        let mut queue = self.queue.lock();
        let job = queue.as_mut()?.pop_front();
        if job.is_none() {
            self.waiting.store(false, Ordering::Release);
        }
        job
    }

    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes no more jobs. Returns those that wait, to be dropped where code of others may run.
    #[must_use = "what a job holds is code of others"]
    pub(crate) fn close(&self) -> VecDeque<Job<D>> {
        self.queue.lock().take().unwrap_or_default()
    }
}
