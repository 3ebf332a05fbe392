//! Devices: where batches run.

use crate::contract::error::device::DeviceError;
use crate::contract::padding::pad_into;
use crate::contract::tensor::HostTensor;
use crate::contract::tensor_ops::TensorOps;

/// The memory of a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// Bytes in use.
    pub used: u64,
    /// Bytes in all.
    pub total: u64,
}

impl MemoryInfo {
    /// Creates the memory of a device, of which `used` of `total` bytes are in use.
    pub const fn new(used: u64, total: u64) -> Self {
        Self { used, total }
    }
}

/// A device: everything that the runtime does with tensors to run batches.
///
/// [`gather`](Self::gather) joins the tasks' tensors and places the result on the device; [`scatter`](Self::scatter)
/// is the way back. Both are called from several threads at once, while the device thread runs a block, and are free
/// to use pinned memory and copy streams.
pub trait Device: TensorOps {
    /// Returns the device's name for tables and messages: `cpu`, `cuda:0`.
    fn name(&self) -> String;

    /// Joins tensors along dim 0 and places the result on the device.
    ///
    /// The tensors agree in element type and trailing dims. There is at least one. They stay with the
    /// runtime, which may have to gather some of them again; one tensor alone may be shared instead of copied.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the device has no room or refuses the copy.
    fn gather(&self, column: &[Self::Tensor]) -> Result<Self::Tensor, DeviceError>;

    /// Joins tensors along dim 0, each filled up with `element` along its other dims to `dims`, and places the result on
    /// the device. `element` are the bytes of one element, little endian.
    ///
    /// The tensors agree in element type and number of dims, and no dim is larger than in `dims`, which leaves dim 0
    /// out. There is at least one. They stay with the runtime. The default goes through plain bytes; a backend writes
    /// each element once.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`gather`](Self::gather).
    fn gather_padded(
        &self,
        column: &[Self::Tensor],
        dims: &[usize],
        element: &[u8],
    ) -> Result<Self::Tensor, DeviceError> {
        let (mut bytes, mut rows, mut dtype) = (Vec::new(), 0, None);
        for tensor in column {
            let host = self.to_host(tensor)?;
            let own = host.dims().first().copied().unwrap_or(0);
            let to: Vec<usize> = std::iter::once(own).chain(dims.iter().copied()).collect();
            pad_into(&mut bytes, host.bytes(), host.dims(), &to, element);
            (rows, dtype) = (rows + own, Some(host.dtype()));
        }
        let dims: Vec<usize> = std::iter::once(rows).chain(dims.iter().copied()).collect();
        let dtype = dtype.ok_or_else(|| DeviceError::operation("nothing to join"))?;
        let host = HostTensor::new(dtype, &dims, bytes).map_err(DeviceError::operation)?;
        self.gather(&[self.from_host(&host)?])
    }

    /// Brings a tensor to the host and cuts it along dim 0 into tensors of `rows` rows.
    ///
    /// The rows add up to dim 0 of the tensor. The results may be views into one allocation, which then lives as
    /// long as the last of them.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the copy fails.
    fn scatter(&self, tensor: Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError>;

    /// Returns true if the host can read tensors on the device without a copy. Then a lone
    /// batch's outputs go straight to their callers; else a sender thread brings them back.
    fn is_host(&self) -> bool;

    /// Prepares the device thread before anything else runs on it: binds a context, sets a grad mode.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the device cannot be used from this thread; the runtime then does not start.
    fn bind_thread(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Waits until everything that was started on the device is done, so that its time can be counted.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the device reports a failure of earlier work.
    fn synchronize(&self) -> Result<(), DeviceError>;

    /// Gives memory back to the system that nothing uses any more, where an allocator keeps it for later.
    ///
    /// Called when a block has left the device or was replaced, on a thread that may wait: batches run meanwhile.
    fn trim_memory(&self) {}

    /// Returns the device's memory, or `None` if it cannot be told.
    fn memory(&self) -> Option<MemoryInfo> {
        None
    }
}
