//! Further blocks, and copies of blocks, for a runtime that runs.

use crate::serve::{ServeOptions, pools_of};
use crate::served::Served;
use skep_runtime_core::pool::Pool;
use skep_runtime_core::{
    Backend, BlockInfo, Device, Handle, LoadedBlock, Pass, Reload, StartError, TensorOps,
};
use std::iter;
use std::sync::Arc;

/// Serves further blocks, with [`TaskPool`](crate::TaskPool)s, on a runtime that runs.
pub trait ServeMore<D: Device> {
    /// Loads a block onto the device, on the calling thread, and gives it a pool for each pass. The runtime takes it in
    /// between two batches; callers of other blocks do not notice. [`Handle::remove`] takes it out again, and
    /// [`Handle::replace`] puts another one in its place.
    ///
    /// ```
    /// use skep_pool::{PoolOptions, ServeMore, ServeOptions};
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// use skep_runtime_core::{RuntimeBuilder, Shutdown, SubmitError};
    /// use std::time::Duration;
    ///
    /// let runtime = RuntimeBuilder::new(FakeDevice::new()).start()?;
    /// let block = |by: f32| FnBlock::rows("times", 1, move |x: &[FakeTensor]| Ok(vec![x[0].map(|v| by * v)]));
    /// let times = runtime.handle().serve(block(2.0), ServeOptions::default())?;
    /// let task = || vec![FakeTensor::rows(&[[3.0]])];
    /// assert_eq!(times.forward.submit(task())?.wait()?, [FakeTensor::rows(&[[6.0]])]);
    ///
    /// runtime.handle().replace("times", block(5.0))?;
    /// assert_eq!(times.forward.submit(task())?.wait()?, [FakeTensor::rows(&[[15.0]])]);
    ///
    /// runtime.handle().remove("times", Shutdown::Drain, Duration::from_secs(10))?;
    /// assert!(matches!(times.forward.submit(task()).unwrap_err().error, SubmitError::Removed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns those of [`Serve::serve`](crate::Serve::serve), and those of [`Handle::add`] if the runtime takes no blocks. Nothing is left
    /// behind then.
    fn serve(&self, block: impl Backend<D>, options: ServeOptions) -> Result<Served<D>, StartError>;

    /// Serves a block that may leave the device for others, as [`Serve::serve_reloadable`](crate::Serve::serve_reloadable)
    /// does, on a runtime that runs. If there is no room for it, it comes when it is wanted.
    /// [`Handle::replace_reloadable`] puts another one in its place.
    ///
    /// # Errors
    ///
    /// Returns those of [`Serve::serve_reloadable`](crate::Serve::serve_reloadable), and those of [`Handle::add`] if the runtime takes no blocks.
    fn serve_reloadable(&self, reload: Reload<D>, options: ServeOptions) -> Result<Served<D>, StartError>;

    /// Loads a copy of a block that another runtime serves, and feeds it from the forward pool of that one:
    /// [`Serve::join`](crate::Serve::join), on a runtime that runs. [`Handle::remove`] lets the copy leave, and the others go on.
    ///
    /// # Errors
    ///
    /// Returns those of [`Serve::join`](crate::Serve::join), and those of [`Handle::add`] if the runtime takes no blocks.
    fn join(&self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError>;
}

impl<D: Device> ServeMore<D> for Handle<D> {
    fn serve(&self, block: impl Backend<D>, options: ServeOptions) -> Result<Served<D>, StartError> {
        options.check(&block)?;
        serve(self, self.load(block)?, options)
    }

    fn serve_reloadable(&self, reload: Reload<D>, options: ServeOptions) -> Result<Served<D>, StartError> {
        serve(self, self.load_reloadable(reload)?, options)
    }

    fn join(&self, block: impl Backend<D>, served: &Served<D>) -> Result<(), StartError> {
        let loaded = self.load(block)?;
        let pools = served.pools_to_join(loaded.info())?;
        self.add(loaded, pools).map(drop)
    }
}

/// Gives a loaded block a pool for each pass.
fn serve<D: Device>(
    handle: &Handle<D>,
    loaded: LoadedBlock<D>,
    options: ServeOptions,
) -> Result<Served<D>, StartError> {
    let loaded = loaded.warm_up(options.warm_up.clone());
    let info = loaded.info().clone();
    let (forward, backward) = pools_of(&info, options, handle.device(), &handle.clock_handle())?;
    let pools = iter::once((Pass::Forward, forward.as_pool()))
        .chain(backward.iter().map(|pool| (Pass::Backward, pool.as_pool())));
    let id = handle.add(loaded, pools.collect())?;
    Ok(Served::new(info, (forward, backward), id))
}

impl<D: Device> Served<D> {
    /// The pools that a copy of the block is fed from: the forward pool, and the backward pool if its home is lost.
    pub(crate) fn pools_to_join(&self, copy: &BlockInfo) -> Result<Vec<Feed<D>>, StartError> {
        let differs = copy.difference(&self.info);
        if let Some(what) = differs.filter(|what| *what != "passes") {
            let (block, served) = (copy.name.clone(), self.info.name.clone());
            return Err(StartError::OtherSchema { block, served, what });
        }
        let homeless = self.backward.iter().filter(|pool| pool.loss().is_some() && differs.is_none());
        let backward = homeless.map(|pool| (Pass::Backward, pool.as_successor_pool()));
        Ok(iter::once((Pass::Forward, self.forward.as_shared_pool())).chain(backward).collect())
    }
}

/// A pool for a pass of a block.
type Feed<D> = (Pass, Arc<dyn Pool<<D as TensorOps>::Tensor>>);
