//! The runtime that most cases use: one gated block, one pool, a clock that stands still.

use super::gate::{Gate, gated};
use super::hooked::Hooked;
use super::waits::{answer, drain};
use crate::subject::Subject;
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FnBlock, ManualClock};
use skep_runtime_core::{Device, RunningRuntime, RuntimeBuilder, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// The device of a subject, with hooks.
pub type On<S> = Hooked<<S as Subject>::Device>;

/// A running runtime with one pool before one block.
pub struct Rig<D: Device> {
    /// The device.
    pub device: Arc<D>,
    /// The runtime's clock.
    pub clock: Arc<ManualClock>,
    /// The gate at which the block waits with each batch.
    pub gate: Gate,
    /// The block's pool.
    pub pool: TaskPool<D>,
    /// The runtime.
    pub runtime: RunningRuntime<D>,
}

/// Creates a builder on a manual clock, whose runtime uses all its threads however short the batches are.
pub fn new_builder<D: Device>(device: D, prefetch: usize) -> (RuntimeBuilder<D>, Arc<ManualClock>) {
    let clock = ManualClock::new();
    let builder = RuntimeBuilder::new(device)
        .prefetch(prefetch)
        .hand_over(Duration::ZERO)
        .clock(Arc::clone(&clock) as Arc<_>);
    (builder, clock)
}

/// Registers a block, and returns the pool of its forward pass.
pub fn pool_of<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    block: FnBlock<D>,
    options: PoolOptions,
) -> TaskPool<D> {
    builder.serve(block, ServeOptions::forward(options)).unwrap().forward
}

/// Starts a runtime with one gated block.
pub fn rig<D: Device>(device: D, prefetch: usize, options: PoolOptions) -> Rig<D> {
    let (mut builder, clock) = new_builder(device, prefetch);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, options);
    Rig { device, clock, gate, pool, runtime: builder.start().unwrap() }
}

impl<D: Device> Rig<D> {
    /// Submits a task of these rows.
    pub fn submit(&self, rows: &[f32]) -> Ticket<D::Tensor> {
        self.pool.try_submit(super::columns(&*self.device, rows)).unwrap()
    }

    /// Submits a task of one row, and returns when the block holds it at the gate.
    pub fn hold(&self) -> Ticket<D::Tensor> {
        let ticket = self.submit(&[-1.0]);
        assert_eq!(self.gate.entered(), [-1.0]);
        ticket
    }

    /// Lets the held batch and all others pass, runs the tasks that wait, and returns the batches that ran after
    /// the held one.
    pub fn finish(self, held: Ticket<D::Tensor>) -> Vec<Vec<f32>> {
        let ran = self.gate.open_for_good();
        answer(held).unwrap();
        drain(self.runtime);
        ran.try_iter().collect()
    }
}
