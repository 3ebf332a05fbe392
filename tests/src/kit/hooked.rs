//! A device that does what another does, and fails or waits if a case wants it to.

use skep_runtime_core::{Device, DeviceError, HostTensor, MemoryInfo, TensorInfo, TensorOps};
use std::ops::Range;

/// The operation before which a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Device::bind_thread`].
    Bind,
    /// [`Device::gather`].
    Gather,
    /// [`Device::scatter`].
    Scatter,
    /// [`TensorOps::join`].
    Join,
    /// [`TensorOps::slice`].
    Slice,
    /// [`Device::synchronize`].
    Synchronize,
    /// [`TensorOps::describe`].
    Describe,
    /// [`Device::is_host`]; a hook that fails there changes nothing, one that panics does.
    IsHost,
    /// [`Device::trim_memory`]; a hook that fails there changes nothing.
    TrimMemory,
}

type Hook = Box<dyn Fn(Operation) -> Result<(), DeviceError> + Send + Sync>;

/// A device with a hook before each operation that can fail.
pub struct Hooked<D: Device> {
    inner: D,
    hook: Hook,
    remote: bool,
}

impl<D: Device> Hooked<D> {
    /// Wraps a device with a hook that does nothing.
    pub fn new(inner: D) -> Self {
        Self { inner, hook: Box::new(|_| Ok(())), remote: false }
    }

    /// Sets the hook that is called before each operation; it may wait, fail or panic.
    pub fn hook(
        mut self,
        hook: impl Fn(Operation) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        self.hook = Box::new(hook);
        self
    }

    /// Makes the device report that outputs must be copied back, so that they always go through a sender.
    pub fn remote(mut self) -> Self {
        self.remote = true;
        self
    }
}

impl<D: Device> TensorOps for Hooked<D> {
    type Tensor = D::Tensor;

    fn describe(&self, tensor: &D::Tensor) -> Result<TensorInfo, DeviceError> {
        (self.hook)(Operation::Describe)?;
        self.inner.describe(tensor)
    }

    fn join(&self, parts: Vec<D::Tensor>) -> Result<D::Tensor, DeviceError> {
        (self.hook)(Operation::Join)?;
        self.inner.join(parts)
    }

    fn split(&self, tensor: &D::Tensor, rows: &[usize]) -> Result<Vec<D::Tensor>, DeviceError> {
        self.inner.split(tensor, rows)
    }

    fn slice(&self, tensor: &D::Tensor, rows: Range<usize>) -> Result<D::Tensor, DeviceError> {
        (self.hook)(Operation::Slice)?;
        self.inner.slice(tensor, rows)
    }

    fn reshape(&self, tensor: &D::Tensor, dims: &[usize]) -> Result<D::Tensor, DeviceError> {
        self.inner.reshape(tensor, dims)
    }

    fn narrow(&self, tensor: &D::Tensor, dim: usize, size: usize) -> Result<D::Tensor, DeviceError> {
        self.inner.narrow(tensor, dim, size)
    }

    fn index_outside(&self, tensor: &D::Tensor, below: u64) -> Result<Option<i64>, DeviceError> {
        self.inner.index_outside(tensor, below)
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<D::Tensor, DeviceError> {
        self.inner.from_host(tensor)
    }

    fn to_host(&self, tensor: &D::Tensor) -> Result<HostTensor, DeviceError> {
        self.inner.to_host(tensor)
    }
}

impl<D: Device> Device for Hooked<D> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn gather(&self, parts: &[D::Tensor]) -> Result<D::Tensor, DeviceError> {
        (self.hook)(Operation::Gather)?;
        self.inner.gather(parts)
    }

    fn gather_padded(
        &self,
        parts: &[D::Tensor],
        dims: &[usize],
        element: &[u8],
    ) -> Result<D::Tensor, DeviceError> {
        (self.hook)(Operation::Gather)?;
        self.inner.gather_padded(parts, dims, element)
    }

    fn scatter(&self, tensor: D::Tensor, rows: &[usize]) -> Result<Vec<D::Tensor>, DeviceError> {
        (self.hook)(Operation::Scatter)?;
        self.inner.scatter(tensor, rows)
    }

    fn is_host(&self) -> bool {
        (self.hook)(Operation::IsHost).ok();
        self.inner.is_host() && !self.remote
    }

    fn bind_thread(&self) -> Result<(), DeviceError> {
        (self.hook)(Operation::Bind)?;
        self.inner.bind_thread()
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        (self.hook)(Operation::Synchronize)?;
        self.inner.synchronize()
    }

    fn trim_memory(&self) {
        (self.hook)(Operation::TrimMemory).ok();
        self.inner.trim_memory();
    }

    fn memory(&self) -> Option<MemoryInfo> {
        self.inner.memory()
    }
}
