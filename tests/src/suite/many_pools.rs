//! Thousands of idle pools cost memory only.

use crate::Subject;
use crate::kit::{columns, drain, pool_of, rows_block, values_of};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::{Device, RunningRuntime, RuntimeBuilder};
use std::sync::Arc;

/// A started runtime with many pools.
pub struct ManyPools<D: Device> {
    device: Arc<D>,
    pools: Vec<TaskPool<D>>,
    runtime: RunningRuntime<D>,
}

impl<D: Device> ManyPools<D> {
    /// Starts a runtime with as many blocks, each with its pool.
    pub fn start<S: Subject<Device = D>>(count: usize) -> Self {
        let mut builder = RuntimeBuilder::new(S::device());
        let device = Arc::clone(builder.device());
        let pools = (0..count).map(|i| {
            let block =
                rows_block(&device, &format!("block{i}"), |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
            pool_of(&mut builder, block, PoolOptions::default())
        });
        let pools = pools.collect();
        Self { device, pools, runtime: builder.start().unwrap() }
    }

    /// Has every `step`th pool answer a task, and stops.
    pub fn answer_every(self, step: usize) {
        for (pool, i) in self.pools.iter().zip(0u16..).step_by(step) {
            let ticket = pool.submit(columns(&*self.device, &[f32::from(i)])).unwrap();
            assert_eq!(values_of(&*self.device, ticket), [2.0 * f32::from(i)]);
        }
        drain(self.runtime);
    }
}
