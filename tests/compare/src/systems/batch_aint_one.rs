//! The crate `batch-aint-one`: a pool is a key, and the device is a resource that each batch acquires.

use super::{CAPACITY, MAX_ROWS};
use crate::Result;
use crate::drive::Awaited;
use crate::work::{Module, Work};
use batch_aint_one::{Batcher, BatchingPolicy, Limits, Processor};
use skep_runtime_core::Device;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

struct Modules<D: Device>(Arc<Mutex<Vec<Module<D>>>>);

impl<D: Device> Clone for Modules<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Device> Processor for Modules<D> {
    type Key = usize;
    type Input = Vec<D::Tensor>;
    type Output = Vec<D::Tensor>;
    type Error = String;
    type Resources = OwnedMutexGuard<Vec<Module<D>>>;

    async fn acquire_resources(&self, _: usize) -> std::result::Result<Self::Resources, String> {
        Ok(Arc::clone(&self.0).lock_owned().await)
    }

    async fn process(
        &self,
        pool: usize,
        inputs: impl Iterator<Item = Self::Input> + Send,
        mut modules: Self::Resources,
    ) -> std::result::Result<Vec<Self::Output>, String> {
        modules[pool].run(inputs.collect()).map_err(|error| error.to_string())
    }
}

pub(crate) struct BatchAintOne<D: Device>(Batcher<Modules<D>>);

impl<D: Device> Clone for BatchAintOne<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: Device + Clone> BatchAintOne<D> {
    /// Called within a tokio runtime.
    pub(crate) fn start(work: &Work<D>, pools: usize) -> Result<Self> {
        let modules = (0..pools).map(|_| work.module()).collect::<Result<_>>()?;
        let limits = Limits::builder()
            .max_batch_size(MAX_ROWS)
            .max_key_concurrency(1)
            .max_key_queued_items(CAPACITY)
            .max_items_awaiting_worker(CAPACITY)
            .build();
        let batcher = Batcher::builder()
            .name("compare")
            .processor(Modules(Arc::new(Mutex::new(modules))))
            .limits(limits)
            .batching_policy(BatchingPolicy::Immediate)
            .build();
        Ok(Self(batcher))
    }
}

impl<D: Device> Awaited<D::Tensor> for BatchAintOne<D> {
    async fn call(&self, pool: usize, task: Vec<D::Tensor>) -> Vec<D::Tensor> {
        self.0.add(pool, task).await.expect("a block that does not fail")
    }
}
