//! One call that registers a block together with its pools.

use crate::options::PoolOptions;
use crate::served::{Pools, Served};
use crate::task_pool::TaskPool;
use skep_runtime_core::sync::guarded;
use skep_runtime_core::{
    Backend, BlockId, BlockInfo, Clock, Device, Pass, Reload, RuntimeBuilder, StartError,
};
use std::sync::Arc;

/// The options of a served block.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServeOptions {
    /// The pool of the forward pass.
    pub forward: PoolOptions,
    /// The pool of the backward pass. Not used if the block cannot be called backward.
    pub backward: PoolOptions,
    /// Rows of batches of zeros that the block runs before it takes tasks, and before the runtime is ready: what a device
    /// does only once is done by then. Default none. Their outputs are thrown away; what all but the first of them took is
    /// learned, for the choice of the next batch. Free dims are as long as they may be, up to 64.
    pub warm_up: Vec<usize>,
}

impl ServeOptions {
    /// Creates the same options for both passes.
    pub fn both(options: PoolOptions) -> Self {
        Self { forward: options.clone(), backward: options, warm_up: Vec::new() }
    }

    /// Creates options for the forward pass, with defaults for the backward pass.
    pub fn forward(options: PoolOptions) -> Self {
        Self { forward: options, ..Self::default() }
    }

    /// Sets [`warm_up`](Self#structfield.warm_up).
    pub fn warm_up(mut self, rows: impl Into<Vec<usize>>) -> Self {
        self.warm_up = rows.into();
        self
    }

    /// Sets those of the backward pass.
    pub fn backward(mut self, options: PoolOptions) -> Self {
        self.backward = options;
        self
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

    /// Serves a block that may leave the device for others, and comes back when tasks of it wait, if the runtime has a
    /// [budget](RuntimeBuilder::budget). Without one it stays.
    ///
    /// ```
    /// use skep_pool::{Serve, ServeOptions};
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// use skep_runtime_core::{Reload, RuntimeBuilder};
    ///
    /// let expert = |name: String| {
    ///     let block = move || Ok(FnBlock::rows(&name, 1, |x: &[FakeTensor]| Ok(x.to_vec())));
    ///     Reload::new(block).bytes(10)
    /// };
    /// let mut builder = RuntimeBuilder::new(FakeDevice::new()).budget(20);
    /// let mut experts = Vec::new();
    /// for at in 0..5 {
    ///     experts.push(builder.serve_reloadable(expert(format!("expert.{at}")), ServeOptions::default())?);
    /// }
    /// let runtime = builder.start()?;
    /// for expert in &experts {
    ///     let ticket = expert.forward.submit(vec![FakeTensor::rows(&[[1.0]])])?;
    ///     assert_eq!(ticket.wait()?, [FakeTensor::rows(&[[1.0]])]);
    /// }
    /// assert!(runtime.handle().budget().unwrap().used <= 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns those of [`serve`](Self::serve), [`StartError::OverBudget`] if the block alone is larger than the budget, and
    /// [`StartError::Setting`] if its size is not known. Nothing is left behind then.
    fn serve_reloadable(&mut self, reload: Reload<D>, options: ServeOptions)
    -> Result<Served<D>, StartError>;

    /// Gives a pass of a served block one more pool, for a class of tasks that is to be kept apart: with a queue, limits and
    /// a priority of its own, so that a flood of one class fills no other's queue. It is named `{block}_{pass}_{class}`, and
    /// one of the block's from then on, also when another runtime [takes them over](Self::take_over). Tasks of different
    /// pools share no batch.
    ///
    /// ```
    /// use skep_pool::{PoolOptions, Serve, ServeOptions};
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// use skep_runtime_core::{Pass, Priority, RuntimeBuilder};
    ///
    /// let mut builder = RuntimeBuilder::new(FakeDevice::new());
    /// let block = FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)]));
    /// let mut served = builder.serve(block, ServeOptions::default())?;
    /// let options = PoolOptions::default().priority(Priority::BACKGROUND).capacity(100_000);
    /// let bulk = builder.add_pool(&mut served, Pass::Forward, "bulk", options)?;
    /// assert_eq!(bulk.name(), "double_forward_bulk");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Setting`] if an option is out of range, [`StartError::NameTwice`] if the block has a pool of
    /// this class, [`StartError::NoSuchPass`] if it does not have the pass, and [`StartError::ForeignBlock`] if this builder
    /// has not served it.
    fn add_pool(
        &mut self,
        served: &mut Served<D>,
        pass: Pass,
        class: &str,
        options: PoolOptions,
    ) -> Result<TaskPool<D>, StartError>;

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

    /// Loads a copy of a served block onto a further device, and feeds it from the forward pool of the first one: from the start
    /// of this runtime on, the pool's tasks run on whichever device comes free first; a slow one leaves to a faster one what
    /// that would have run before, once it is known what batches cost. Callers keep the pool that they have. If
    /// a device is lost, the tasks that were on it go on with the others, with their age, once: those that had not begun
    /// keep their deadlines, and the others do not expire any more. Tasks that were cut before the pool had a second device
    /// are told of the loss. Another device can join at any time.
    ///
    /// The copy is a block of its own: load the same weights into it. Backward passes have one home, the first device,
    /// because copies that are trained apart drift apart; [`Copies`](crate::Copies) brings the copies up to date, every so
    /// often or when asked to. Once the home is lost, the next one that joins with a
    /// backward pass becomes the home.
    ///
    /// The runtimes need one clock and one [policy](RuntimeBuilder::policy): the default one, or the same object. A policy that
    /// [listens](skep_runtime_core::pool::Policy::listens), as [`Fair`](skep_runtime_core::Fair) does, hears of one device
    /// only: a runtime that has one is refused when it is built. With `prefetch(0)` a task is cut only by a device that is free.
    ///
    /// ```
    /// use skep_pool::{Serve, ServeOptions};
    /// use skep_runtime_core::RuntimeBuilder;
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    ///
    /// let block = || FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)]));
    /// let [mut first, mut second] = [(); 2].map(|()| RuntimeBuilder::new(FakeDevice::new()).prefetch(0));
    /// let double = first.serve(block(), ServeOptions::default())?;
    /// second.join(block(), &double)?;
    /// let runtimes = [first.start()?, second.start()?];
    ///
    /// let tickets = [1.0, 2.0].map(|v| double.forward.submit(vec![FakeTensor::rows(&[[v]])]));
    /// for (ticket, v) in tickets.into_iter().zip([2.0, 4.0]) {
    ///     assert_eq!(ticket?.wait()?, [FakeTensor::rows(&[[v]])]);
    /// }
    /// # drop(runtimes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`StartError::PoolInUse`] if the pool takes no tasks any more, [`StartError::OtherSchema`] if the
    /// blocks take or give different things, [`StartError::NameTwice`] if a name is taken, and [`StartError::Load`] if
    /// the block cannot be loaded. Nothing is left behind then.
    fn join(&mut self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError>;
}

impl<D: Device> Serve<D> for RuntimeBuilder<D> {
    fn serve(&mut self, block: impl Backend<D>, options: ServeOptions) -> Result<Served<D>, StartError> {
        options.check(&block)?;
        let id = self.block_for(block, options.forward.max_rows)?;
        serve_as(self, id, options)
    }

    fn serve_reloadable(
        &mut self,
        reload: Reload<D>,
        options: ServeOptions,
    ) -> Result<Served<D>, StartError> {
        let id = self.reloadable_block(reload, options.forward.max_rows)?;
        serve_as(self, id, options)
    }

    fn add_pool(
        &mut self,
        served: &mut Served<D>,
        pass: Pass,
        class: &str,
        options: PoolOptions,
    ) -> Result<TaskPool<D>, StartError> {
        let info = info_of(self, served.id)?.clone();
        let name = format!("{}_{class}", pool_name(&info, pass));
        let pool = new_pool(&info, pass, name, options, self.device(), &self.clock_handle())?;
        self.pool(served.id, pass, pool.as_pool())?;
        served.more.push((pass, pool.clone()));
        Ok(pool)
    }

    fn take_over(&mut self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError> {
        if let Some((_, pool)) = served.pools().find(|(_, pool)| pool.loss().is_none()) {
            return Err(StartError::PoolInUse { pool: pool.name().to_owned() });
        }
        let id = self.block_for(block, served.forward.options().max_rows)?;
        take_over_pools(self, id, served).inspect_err(|_| self.remove_block(id))
    }

    fn join(&mut self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError> {
        let id = self.block(block)?;
        let join = |builder: &mut Self| {
            let pools = served.pools_to_join(info_of(builder, id)?)?;
            pools.into_iter().try_for_each(|(pass, pool)| builder.pool(id, pass, pool).map(drop))
        };
        join(self).inspect_err(|_| self.remove_block(id))
    }
}

impl ServeOptions {
    /// Checks them before the block is loaded, which may take long.
    pub(crate) fn check<D: Device>(&self, block: &impl Backend<D>) -> Result<(), StartError> {
        if let Ok(info) = guarded(|| block.info()) {
            self.forward.check(&pool_name(&info, Pass::Forward))?;
            self.backward.check(&pool_name(&info, Pass::Backward))?;
        }
        Ok(())
    }
}

/// Makes a pool for each pass of a block.
pub(crate) fn pools_of<D: Device>(
    info: &BlockInfo,
    options: ServeOptions,
    device: &Arc<D>,
    clock: &Arc<dyn Clock>,
) -> Result<Pools<D>, StartError> {
    let pool = |pass, options| new_pool(info, pass, pool_name(info, pass), options, device, clock);
    let forward = pool(Pass::Forward, options.forward)?;
    let backward = if info.backward { Some(pool(Pass::Backward, options.backward)?) } else { None };
    Ok((forward, backward))
}

/// Makes a pool for a pass of a block.
fn new_pool<D: Device>(
    info: &BlockInfo,
    pass: Pass,
    name: String,
    options: PoolOptions,
    device: &Arc<D>,
    clock: &Arc<dyn Clock>,
) -> Result<TaskPool<D>, StartError> {
    let schema =
        info.takes(pass).map_err(|source| StartError::Schema { block: info.name.clone(), source })?;
    let options = match pass {
        Pass::Forward => options,
        Pass::Backward => {
            let finite_inputs = options.finite_inputs.or(Some(true));
            options.finite_inputs(finite_inputs)
        }
    };
    TaskPool::new(name, pass, Arc::clone(device), schema, options, Arc::clone(clock))
}

/// Gives a block that was loaded a pool for each pass.
fn serve_as<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    id: BlockId,
    options: ServeOptions,
) -> Result<Served<D>, StartError> {
    let serve = |builder: &mut RuntimeBuilder<D>| {
        builder.warm_up(id, &options.warm_up)?;
        let info = info_of(builder, id)?.clone();
        let pools = pools_of(&info, options, builder.device(), &builder.clock_handle())?;
        let served = Served::new(info, pools, id);
        feed(builder, id, &served)?;
        Ok(served)
    };
    // Nothing of a block that cannot be served is left behind.
    serve(builder).inspect_err(|_| builder.remove_block(id))
}

/// Feeds a loaded block from pools.
fn feed<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    id: BlockId,
    served: &Served<D>,
) -> Result<(), StartError> {
    served.pools().try_for_each(|(pass, pool)| builder.pool(id, pass, pool.as_pool()).map(drop))
}

/// Feeds a loaded block from the pools of another one.
fn take_over_pools<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    id: BlockId,
    served: &Served<D>,
) -> Result<(), StartError> {
    let new = info_of(builder, id)?;
    if let Some(what) = new.difference(&served.info) {
        let (block, served) = (new.name.clone(), served.info.name.clone());
        return Err(StartError::OtherSchema { block, served, what });
    }
    served.pools().try_for_each(|(pass, pool)| builder.pool(id, pass, pool.as_successor_pool()).map(drop))
}

fn pool_name(info: &BlockInfo, pass: Pass) -> String {
    format!("{}_{pass}", info.name)
}

fn info_of<D: Device>(builder: &RuntimeBuilder<D>, id: BlockId) -> Result<&BlockInfo, StartError> {
    builder.info(id).ok_or(StartError::ForeignBlock)
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
