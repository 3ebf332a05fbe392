//! A block whose tasks are handed in while the device is busy, so that they wait together.

use super::blocks::columns;
use super::gate::{Gate, gated};
use super::logs::Log;
use super::rig::{new_builder, pool_of};
use super::waits::{answer, drain};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::testing::{FnBlock, ManualClock};
use skep_runtime_core::{Device, RuntimeBuilder, TaskError, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// A task that knows what it is to get.
pub trait Known {
    /// Returns its tensors.
    fn inputs<D: Device>(&self, device: &D) -> Vec<D::Tensor>;

    /// Panics if it does not get that.
    fn check<D: Device>(&self, device: &D, ticket: Ticket<D::Tensor>);
}

/// A runtime with a block and one that holds the device, and what the first one logged.
pub struct Bench<D: Device, G> {
    /// The builder of the runtime.
    pub builder: RuntimeBuilder<D>,
    /// The runtime's clock.
    pub clock: Arc<ManualClock>,
    /// The device.
    pub device: Arc<D>,
    /// The block's pool.
    pub pool: TaskPool<D>,
    /// The pool of the block that holds the device.
    pub held: TaskPool<D>,
    /// The gate at which that one waits.
    pub gate: Gate,
    /// What the block was given.
    pub log: Log<G>,
}

impl<D: Device, G> Bench<D, G> {
    /// Creates one whose block `block_of` makes.
    pub fn new(
        device: D,
        options: PoolOptions,
        block_of: impl FnOnce(&Arc<D>, &Log<G>) -> FnBlock<D>,
    ) -> Self {
        let (builder, clock) = new_builder(device, 0);
        let mut builder = builder.just_in_time(false).linger(false);
        let (device, log) = (Arc::clone(builder.device()), Log::new());
        let pool = pool_of(&mut builder, block_of(&device, &log), options);
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, PoolOptions::default());
        Self { builder, clock, device, pool, held, gate, log }
    }

    /// Hands in tasks while the device is busy, has them run, and returns what the block was given. Each task is checked.
    pub fn run(self, tasks: &[impl Known]) -> Vec<G> {
        self.run_with(tasks, None)
    }

    /// The same with a task, at this place, that fails.
    pub fn run_with(self, tasks: &[impl Known], culprit: Option<usize>) -> Vec<G> {
        let Self { builder, clock, device, pool, held, gate, log } = self;
        let runtime = builder.start().unwrap();
        let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
        gate.entered();
        let tickets = tasks.iter().map(|task| {
            clock.advance(Duration::from_micros(1));
            pool.try_submit(task.inputs(&*device)).unwrap()
        });
        let tickets: Vec<_> = tickets.collect();
        gate.open();
        answer(first).unwrap();
        for (at, (task, ticket)) in tasks.iter().zip(tickets).enumerate() {
            if culprit == Some(at) {
                let error = answer(ticket).err().unwrap();
                assert!(matches!(error, TaskError::Failed(_)), "{error}");
            } else {
                task.check(&*device, ticket);
            }
        }
        drain(runtime);
        log.take()
    }
}
