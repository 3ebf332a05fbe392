//! The way in which a block is made again, after it has left its device for others.

use crate::contract::backend::Backend;
use crate::contract::device::Device;
use crate::contract::error::cause::BoxError;
use std::fmt;
use std::sync::Arc;

type Make<D> = Arc<dyn Fn() -> Result<Box<dyn Backend<D>>, BoxError> + Send + Sync>;

/// Makes a block, as often as it is wanted: for runtimes on whose device not all blocks have room
/// ([`RuntimeBuilder::budget`](crate::RuntimeBuilder::budget)).
///
/// What it makes is loaded and, if the block was trained before it left, gets the state that it had then. It is called on a thread
/// that has time for it, so it may read weights from a disk.
///
/// ```
/// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
/// use skep_runtime_core::{Reload, RuntimeBuilder};
///
/// let expert = |name: &'static str| {
///     Reload::new(move || Ok(FnBlock::rows(name, 1, |x: &[FakeTensor]| Ok(x.to_vec())))).bytes(600)
/// };
/// let mut builder = RuntimeBuilder::new(FakeDevice::new()).budget(1000);
/// for name in ["expert.0", "expert.1"] {
///     builder.reloadable_block(expert(name), usize::MAX)?; // one of the two is on the device
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reload<D: Device> {
    make: Make<D>,
    bytes: Option<u64>,
}

impl<D: Device> Reload<D> {
    /// Has the block made by `make`, which is called again each time that it comes back: blocks that are equal but for
    /// what they learn.
    pub fn new<B: Backend<D>>(make: impl Fn() -> Result<B, BoxError> + Send + Sync + 'static) -> Self {
        let make = move || Ok(Box::new(make()?) as Box<dyn Backend<D>>);
        Self { make: Arc::new(make), bytes: None }
    }

    /// Sets the memory that the block takes on the device. Default: that of its [state](Backend::state), which leaves out what
    /// it computes with: weights that are laid out anew for inference, as candle's are on the processor, are there twice.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    pub(crate) fn make(&self) -> Result<Box<dyn Backend<D>>, BoxError> {
        (self.make)()
    }

    /// The memory that was told.
    pub(crate) fn told_bytes(&self) -> Option<u64> {
        self.bytes
    }
}

impl<D: Device> Clone for Reload<D> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), bytes: self.bytes }
    }
}

impl<D: Device> fmt::Debug for Reload<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
