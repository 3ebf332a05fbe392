//! One call that registers a block together with its pools.

use crate::options::PoolOptions;
use crate::task_pool::TaskPool;
use skep_runtime_core::sync::guarded;
use skep_runtime_core::{
    Backend, BlockId, BlockInfo, Device, Front, Pass, RuntimeBuilder, Schema, SchemaError, StartError,
};
use std::fmt;
use std::iter;
use std::sync::Arc;

/// The options of a served block.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// The pool of the forward pass.
    pub forward: PoolOptions,
    /// The pool of the backward pass. Not used if the block cannot be called backward.
    pub backward: PoolOptions,
}

impl ServeOptions {
    /// Creates the same options for both passes.
    pub fn both(options: PoolOptions) -> Self {
        Self { forward: options.clone(), backward: options }
    }

    /// Creates options for the forward pass, with defaults for the backward pass.
    pub fn forward(options: PoolOptions) -> Self {
        Self { forward: options, backward: PoolOptions::default() }
    }
}

/// A served block: its schemas, and the pools to submit tasks to.
pub struct Served<D: Device> {
    /// The block's name and schemas.
    pub info: BlockInfo,
    /// Takes the block's inputs, gives its outputs. Named `{block}_forward`.
    pub forward: TaskPool<D>,
    /// Takes the block's inputs and then the gradients of its outputs, gives the gradients of its inputs
    /// and trains the block. Named `{block}_backward`. `None` if the block cannot be called backward.
    ///
    /// Tasks that meet in a batch make one step of the optimizer, with the sum of their gradients. A caller who wants
    /// steps of a size of its own hands in one task of that size, and sets [`PoolOptions::max_rows`] to it.
    pub backward: Option<TaskPool<D>>,
}

impl<D: Device> fmt::Debug for Served<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("info", &self.info)
            .field("forward", &self.forward)
            .field("backward", &self.backward)
            .finish()
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
    fn pools(&self) -> impl Iterator<Item = (Pass, &TaskPool<D>)> {
        iter::once((Pass::Forward, &self.forward))
            .chain(self.backward.iter().map(|pool| (Pass::Backward, pool)))
    }
}

impl<D: Device> Clone for Served<D> {
    fn clone(&self) -> Self {
        Self { info: self.info.clone(), forward: self.forward.clone(), backward: self.backward.clone() }
    }
}

/// Serves blocks with [`TaskPool`]s.
pub trait Serve<D: Device> {
    /// Loads a block onto the device and gives it a pool for each pass.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Setting`] if an option is out of range, [`StartError::NameTwice`] if a name is taken, and
    /// [`StartError::Load`] or [`StartError::Schema`] if the block cannot be loaded. Nothing is left behind then.
    fn serve(&mut self, block: impl Backend<D>, options: ServeOptions) -> Result<Served<D>, StartError>;

    /// Loads a block onto the device and feeds it from the pools of another one, whose runtime has lost its
    /// device. When this runtime starts, they take tasks again; callers keep the pools that they have. The
    /// block is a new one: load its weights, or [restore](skep_runtime_core::Handle::restore) its state from a
    /// checkpoint.
    ///
    /// ```
    /// use skep_pool::{Serve, ServeOptions};
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// use skep_runtime_core::{DeviceError, Health, RuntimeBuilder};
    ///
    /// let mut builder = RuntimeBuilder::new(FakeDevice::new());
    /// let dying = FnBlock::rows("double", 1, |_: &[FakeTensor]| {
    ///     Err(DeviceError::Fatal { device: "fake".into(), message: "fell off the bus".into() }.into())
    /// });
    /// let served = builder.serve(dying, ServeOptions::default())?;
    /// let mut runtime = builder.start()?;
    ///
    /// let task = || vec![FakeTensor::rows(&[[1.0]])];
    /// assert!(served.forward.submit(task())?.wait().is_err());
    /// if let Health::Lost(_) = runtime.handle().health() {
    ///     let mut builder = RuntimeBuilder::new(FakeDevice::new());
    ///     let block = FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)]));
    ///     builder.take_over(block, &served)?;
    ///     runtime = builder.start()?;
    /// }
    /// assert!(runtime.handle().is_running());
    /// assert_eq!(served.forward.submit(task())?.wait()?, [FakeTensor::rows(&[[2.0]])]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`StartError::PoolInUse`] if the pools' runtime still has its device, [`StartError::OtherSchema`] if the
    /// blocks take or give different things, [`StartError::NameTwice`] if a name is taken, and [`StartError::Load`] if
    /// the block cannot be loaded. Nothing is left behind then.
    fn take_over(&mut self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError>;
}

impl<D: Device> Serve<D> for RuntimeBuilder<D> {
    fn serve(&mut self, block: impl Backend<D>, options: ServeOptions) -> Result<Served<D>, StartError> {
        // A block that cannot be served is refused before it is loaded, which may take long.
        if let Ok(info) = guarded(|| block.info()) {
            options.forward.check(&pool_name(&info, Pass::Forward))?;
            options.backward.check(&pool_name(&info, Pass::Backward))?;
        }
        let id = self.block(block)?;
        // Nothing of a block that cannot be served is left behind.
        pools_of(self, id, options).inspect_err(|_| self.remove_block(id))
    }

    fn take_over(&mut self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError> {
        if let Some((_, pool)) = served.pools().find(|(_, pool)| pool.loss().is_none()) {
            return Err(StartError::PoolInUse { pool: pool.name().to_owned() });
        }
        let id = self.block(block)?;
        take_over_pools(self, id, served).inspect_err(|_| self.remove_block(id))
    }
}

/// Gives a loaded block a pool for each pass.
fn pools_of<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    id: BlockId,
    options: ServeOptions,
) -> Result<Served<D>, StartError> {
    let info = info_of(builder, id)?.clone();
    let mut pool = |pass: Pass, schema, options| {
        let (device, clock) = (Arc::clone(builder.device()), builder.clock_handle());
        let pool = TaskPool::new(pool_name(&info, pass), pass, device, schema, options, clock)?;
        builder.pool(id, pass, pool.as_pool())?;
        Ok::<_, StartError>(pool)
    };
    let forward = pool(Pass::Forward, info.inputs.clone(), options.forward)?;
    let backward = if info.backward {
        let schema = backward_schema(&info)
            .map_err(|source| StartError::Schema { block: info.name.clone(), source })?;
        let finite_inputs = options.backward.finite_inputs.or(Some(true));
        Some(pool(Pass::Backward, schema, options.backward.finite_inputs(finite_inputs))?)
    } else {
        None
    };
    Ok(Served { info, forward, backward })
}

/// Feeds a loaded block from the pools of another one.
fn take_over_pools<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    id: BlockId,
    served: &Served<D>,
) -> Result<(), StartError> {
    let (new, old) = (info_of(builder, id)?, &served.info);
    let differs = [
        ("inputs", new.inputs != old.inputs),
        ("outputs", new.outputs != old.outputs),
        ("passes", new.backward != old.backward),
    ];
    if let Some(&(what, _)) = differs.iter().find(|(_, differs)| *differs) {
        return Err(StartError::OtherSchema { block: new.name.clone(), served: old.name.clone(), what });
    }
    for (pass, pool) in served.pools() {
        builder.pool(id, pass, pool.as_pool())?;
    }
    Ok(())
}

fn pool_name(info: &BlockInfo, pass: Pass) -> String {
    format!("{}_{pass}", info.name)
}

fn info_of<D: Device>(builder: &RuntimeBuilder<D>, id: BlockId) -> Result<&BlockInfo, StartError> {
    builder.info(id).ok_or(StartError::ForeignBlock)
}

/// The inputs of the backward pass: those of the forward pass, and for each output `x` its gradient `grad.x`.
fn backward_schema(info: &BlockInfo) -> Result<Schema, SchemaError> {
    let inputs = info.inputs.tensors().iter().cloned();
    let outputs = info.outputs.iter().flat_map(Schema::tensors);
    Schema::new(inputs.chain(outputs.map(|spec| spec.renamed(format!("grad.{}", spec.name())))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_can_be_those_of_both_passes() {
        let options = ServeOptions::both(PoolOptions::default().max_rows(3));
        assert_eq!((options.forward.max_rows, options.backward.max_rows), (3, 3));
    }
}
