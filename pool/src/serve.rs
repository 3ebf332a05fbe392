//! One call that registers a block together with its pools.

use crate::options::PoolOptions;
use crate::pool::TaskPool;
use skep_runtime_core::{Backend, BlockInfo, Device, Pass, RuntimeBuilder, Schema, StartError};
use std::iter;
use std::sync::Arc;

/// How a block is served.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// The pool of the forward pass.
    pub forward: PoolOptions,
    /// The pool of the backward pass. Not used where the block cannot be called backward.
    pub backward: PoolOptions,
}

impl ServeOptions {
    /// The same options for both passes.
    pub fn both(options: PoolOptions) -> Self {
        Self { forward: options.clone(), backward: options }
    }

    /// Options for the forward pass, defaults for the backward pass.
    pub fn forward(options: PoolOptions) -> Self {
        Self { forward: options, backward: PoolOptions::default() }
    }
}

/// A served block: its schemas, and where to submit tasks to.
pub struct Block<D: Device> {
    /// What the block is called, takes and gives.
    pub info: BlockInfo,
    /// Takes the block's inputs, gives its outputs. Named `{block}_forward`.
    pub forward: TaskPool<D>,
    /// Takes the block's inputs and then the gradients of its outputs, gives the gradients of its inputs
    /// and trains the block. Named `{block}_backward`. `None` where the block cannot be called backward.
    pub backward: Option<TaskPool<D>>,
}

impl<D: Device> Clone for Block<D> {
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
    /// When a name is taken, the block cannot be loaded, or an option is out of range.
    fn serve(&mut self, block: impl Backend<D>, options: ServeOptions) -> Result<Block<D>, StartError>;

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
    ///     Err(DeviceError::Fatal { device: "gpu:0".into(), message: "fell off the bus".into() }.into())
    /// });
    /// let served = builder.serve(dying, ServeOptions::default())?;
    /// let mut runtime = builder.start()?;
    ///
    /// let task = || vec![FakeTensor::rows(&[[1.0]])];
    /// assert!(served.forward.submit(task())?.wait().is_err());
    /// if let Health::Lost(_) = runtime.health() {
    ///     let mut builder = RuntimeBuilder::new(FakeDevice::new());
    ///     let block = FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)]));
    ///     builder.take_over(block, &served)?;
    ///     runtime = builder.start()?;
    /// }
    /// assert!(runtime.is_running());
    /// assert_eq!(served.forward.submit(task())?.wait()?, [FakeTensor::rows(&[[2.0]])]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the pools' runtime still has its device, the blocks take or give different things, a name is
    /// taken, or the block cannot be loaded.
    fn take_over(&mut self, block: impl Backend<D>, served: &Block<D>) -> Result<(), StartError>;
}

impl<D: Device> Serve<D> for RuntimeBuilder<D> {
    fn serve(&mut self, block: impl Backend<D>, options: ServeOptions) -> Result<Block<D>, StartError> {
        options.forward.check()?;
        options.backward.check()?;
        let id = self.block(block)?;
        let info = self.info(id).clone();
        let mut pool = |pass: Pass, schema, options| {
            let (device, clock) = (Arc::clone(self.device()), self.clock_handle());
            let pool = TaskPool::new(format!("{}_{pass}", info.name), device, schema, options, clock)?;
            self.pool(id, pass, pool.as_pool())?;
            Ok::<_, StartError>(pool)
        };
        let forward = pool(Pass::Forward, info.inputs.clone(), options.forward)?;
        let backward = if info.backward {
            let schema = backward_schema(&info)
                .map_err(|source| StartError::Schema { block: info.name.clone(), source })?;
            Some(pool(Pass::Backward, schema, options.backward)?)
        } else {
            None
        };
        Ok(Block { info, forward, backward })
    }

    fn take_over(&mut self, block: impl Backend<D>, served: &Block<D>) -> Result<(), StartError> {
        let pools = || {
            iter::once((Pass::Forward, &served.forward))
                .chain(served.backward.iter().map(|pool| (Pass::Backward, pool)))
        };
        if let Some((_, pool)) = pools().find(|(_, pool)| pool.loss().is_none()) {
            return Err(StartError::PoolInUse { pool: pool.name().to_owned() });
        }
        let id = self.block(block)?;
        let (new, old) = (self.info(id), &served.info);
        let differs = [
            ("inputs", new.inputs != old.inputs),
            ("outputs", new.outputs != old.outputs),
            ("passes", new.backward != old.backward),
        ];
        if let Some(&(what, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(StartError::OtherSchema { block: new.name.clone(), served: old.name.clone(), what });
        }
        for (pass, pool) in pools() {
            self.pool(id, pass, pool.as_pool())?;
        }
        Ok(())
    }
}

/// What the backward pass takes: the inputs, and for each output `x` its gradient `grad.x`.
fn backward_schema(info: &BlockInfo) -> Result<Schema, skep_runtime_core::SchemaError> {
    let inputs = info.inputs.tensors().iter().cloned();
    let outputs = info.outputs.iter().flat_map(Schema::tensors);
    Schema::new(inputs.chain(outputs.map(|spec| spec.renamed(format!("grad.{}", spec.name())))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_can_be_those_of_both_passes() {
        let options = ServeOptions::both(PoolOptions { max_rows: 3, ..PoolOptions::default() });
        assert_eq!((options.forward.max_rows, options.backward.max_rows), (3, 3));
    }
}
