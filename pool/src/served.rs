//! A block with its pools.

use crate::task_pool::TaskPool;
use skep_runtime_core::{BlockId, BlockInfo, Device, Front, Pass};
use std::fmt;
use std::iter;
use std::sync::Arc;

/// A served block: its schemas, and the pools to submit tasks to.
#[non_exhaustive]
pub struct Served<D: Device> {
    /// The block's name and schemas.
    pub info: BlockInfo,
    /// Takes the block's inputs, gives its outputs. Named `{block}_forward`.
    pub forward: TaskPool<D>,
    /// Takes the block's inputs and then the gradients of its outputs, gives the gradients of its inputs
    /// and trains the block. Named `{block}_backward`. `None` if the block cannot be called backward.
    ///
    /// By name, the gradient of the output `y` is the input `grad.y`, of that output's element type and dims. An output of
    /// integers has one as well, through which nothing flows: hand in zeros.
    ///
    /// Tasks that meet in a batch make one step of the optimizer, with the sum of their gradients. A caller who wants
    /// steps of a size of its own hands in one task of that size, and sets [`PoolOptions::max_rows`](crate::PoolOptions::max_rows) to it.
    pub backward: Option<TaskPool<D>>,
    /// Those of [`Serve::add_pool`](crate::Serve::add_pool).
    pub(crate) more: Vec<(Pass, TaskPool<D>)>,
    pub(crate) id: BlockId,
}

impl<D: Device> fmt::Debug for Served<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("info", &self.info)
            .field("forward", &self.forward)
            .field("backward", &self.backward)
            .field("more", &self.more)
            .finish_non_exhaustive()
    }
}

impl<D: Device> Served<D> {
    /// Returns the door to the forward pass for front ends: plain host tensors, by name. `None` if the block's outputs
    /// are not known.
    pub fn front(&self) -> Option<Arc<dyn Front>> {
        self.info.outputs.clone().map(|outputs| self.forward.front(outputs))
    }
}

impl<D: Device> Served<D> {
    pub(crate) fn new(info: BlockInfo, (forward, backward): Pools<D>, id: BlockId) -> Self {
        Self { info, forward, backward, more: Vec::new(), id }
    }

    /// Returns all pools that feed the block, with their passes: [`forward`](Self#structfield.forward),
    /// [`backward`](Self#structfield.backward), and those of [`Serve::add_pool`](crate::Serve::add_pool) in their order.
    pub fn pools(&self) -> impl Iterator<Item = (Pass, &TaskPool<D>)> {
        iter::once((Pass::Forward, &self.forward))
            .chain(self.backward.iter().map(|pool| (Pass::Backward, pool)))
            .chain(self.more.iter().map(|(pass, pool)| (*pass, pool)))
    }

    /// Returns the pool of this name.
    pub fn pool(&self, name: &str) -> Option<&TaskPool<D>> {
        self.pools().map(|(_, pool)| pool).find(|pool| pool.name() == name)
    }
}

impl<D: Device> Clone for Served<D> {
    fn clone(&self) -> Self {
        Self {
            info: self.info.clone(),
            forward: self.forward.clone(),
            backward: self.backward.clone(),
            more: self.more.clone(),
            id: self.id,
        }
    }
}

/// The pools of a block: for the forward pass, and the backward pass if it has one.
pub(crate) type Pools<D> = (TaskPool<D>, Option<TaskPool<D>>);
