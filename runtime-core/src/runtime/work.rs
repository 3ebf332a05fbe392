//! Work with a block between two batches: saving its state, say.

use super::blocks::{Blocks, Body};
use super::goods::{Goods, Version};
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::control::StartError;
use crate::contract::id::{BlockId, Slot};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, flume, guarded};
use std::collections::VecDeque;
use std::sync::Arc;

/// One piece of work on the device thread.
pub(crate) enum Job<D: Device> {
    /// Work with a block, which is brought back if it is off the device. Code of others may be in it.
    On(BlockId, OnBlock<D>),
    /// Work with the blocks.
    With(WithBlocks<D>),
    /// Run a batch of zeros through a block.
    WarmUp { block: BlockId, rows: usize, first: bool, reply: flume::Sender<Result<(), StartError>> },
    /// Take out a block that leaves the runtime, and has no task any more.
    TakeOut(BlockId),
    /// Hand a block that leaves the device to the porter.
    PutOut(BlockId),
    /// Have a block that may leave the device be another one from now on.
    Swap { block: BlockId, body: Body<D>, goods: Goods<D>, bytes: u64, reply: flume::Sender<Swapped<D>> },
    /// Take a block from the porter. The reply is the block if it has another version now, or has left the runtime.
    PutIn { block: BlockId, body: Body<D>, version: Version, reply: flume::Sender<Option<Body<D>>> },
}

/// What became of a block that was to be swapped, and the one that is not on the device, to be freed by who waits.
pub(crate) struct Swapped<D: Device> {
    /// False if the new one has no room; `None` if the block has left the runtime.
    pub(crate) fits: Option<bool>,
    pub(crate) left: Body<D>,
}

type WithBlocks<D> = Box<dyn FnOnce(&mut Blocks<D>) + Send>;
pub(crate) type OnBlock<D> = Box<dyn FnOnce(Found<'_, D>) + Send>;

/// The block that a job is for.
pub(crate) enum Found<'a, D: Device> {
    Here(&'a mut Body<D>),
    /// It has left the runtime.
    Gone,
    /// It is off the device, and could not be brought back.
    Away(Arc<BatchError>),
}

/// Jobs for the device thread. A job that is refused or dropped drops its reply with it, so who waits for
/// it hears.
pub(crate) struct Work<D: Device> {
    /// `None` once the device thread has ended.
    jobs: Mutex<Option<Jobs<D>>>,
    /// Read between all batches, so that the lock need not be.
    waiting: AtomicBool,
}

struct Jobs<D: Device> {
    queue: VecDeque<Job<D>>,
    /// Jobs that wait for their block.
    parked: Vec<(BlockId, OnBlock<D>)>,
    /// Who waits to free a block that leaves the runtime.
    awaited: Vec<(BlockId, flume::Sender<Body<D>>)>,
}

impl<D: Device> Work<D> {
    pub(crate) fn new() -> Self {
        let jobs = Jobs { queue: VecDeque::new(), parked: Vec::new(), awaited: Vec::new() };
        Self { jobs: Mutex::new(Some(jobs)), waiting: AtomicBool::new(false) }
    }

    pub(crate) fn push(&self, job: Job<D>) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            jobs.queue.push_back(job);
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// The next job, if there is one.
    pub(crate) fn pop(&self) -> Option<Job<D>> {
        if !self.are_waiting() {
            return None;
        }
        let mut jobs = self.jobs.lock();
        let job = jobs.as_mut()?.queue.pop_front();
        if job.is_none() {
            self.waiting.store(false, Ordering::Release);
        }
        job
    }

    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Puts a job off until its block is there.
    pub(crate) fn park(&self, block: BlockId, job: OnBlock<D>) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            jobs.parked.push((block, job));
        }
    }

    /// Has the jobs done that waited for a block.
    pub(crate) fn unpark(&self, block: BlockId) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            let due = jobs.parked.extract_if(.., |(of, _)| *of == block);
            jobs.queue.extend(due.map(|(of, job)| Job::On(of, job)));
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// Takes out the jobs that waited for a block.
    #[must_use = "what a job holds is code of others"]
    pub(crate) fn take_parked(&self, block: BlockId) -> Vec<OnBlock<D>> {
        let mut jobs = self.jobs.lock();
        let Some(jobs) = &mut *jobs else { return Vec::new() };
        jobs.parked.extract_if(.., |(of, _)| *of == block).map(|(_, job)| job).collect()
    }

    /// Has a block sent to whoever frees it, once it has been taken out.
    pub(crate) fn await_block(&self, block: BlockId, to: flume::Sender<Body<D>>) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            jobs.awaited.push((block, to));
        }
    }

    /// Hands over a block that was taken out, to be freed elsewhere. Returns it if nobody waits.
    pub(crate) fn hand_over(&self, block: BlockId, body: Body<D>) -> Option<Body<D>> {
        let to = {
            let mut jobs = self.jobs.lock();
            let awaited = &mut jobs.as_mut()?.awaited;
            let place = awaited.iter().position(|(of, _)| *of == block);
            place.map(|place| awaited.swap_remove(place).1)
        };
        match to {
            Some(to) => to.send(body).err().map(|flume::SendError(body)| body),
            None => Some(body),
        }
    }

    /// Takes no more jobs. Returns those that wait, to be dropped where code of others may run.
    #[must_use = "what a job holds is code of others"]
    pub(crate) fn close(&self) -> VecDeque<Job<D>> {
        let Some(Jobs { mut queue, parked, awaited: _ }) = self.jobs.lock().take() else {
            return VecDeque::new();
        };
        queue.extend(parked.into_iter().map(|(of, job)| Job::On(of, job)));
        queue
    }
}

impl<D: Device> Blocks<D> {
    /// Works with one of the blocks, if it is there.
    pub(crate) fn on(&mut self, slot: Slot, work: OnBlock<D>) {
        let found = self.get_mut(slot).map_or(Found::Gone, Found::Here);
        drop(guarded(|| work(found)));
    }
}
