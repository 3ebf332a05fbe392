//! Where batches run.

use crate::error::DeviceError;
use crate::tensor::{HostTensor, TensorInfo};
use std::fmt;

/// How much memory a device has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Bytes in use.
    pub used: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Where batches run: owns the tensor type and everything that the runtime does with tensors.
///
/// Callers hold tensors **on the host**. [`gather`](Self::gather) joins the tasks' tensors and places the
/// result on the device; [`scatter`](Self::scatter) is the way back. Both are called from several threads
/// at once, while the device thread runs a block, and are free to use pinned memory and copy streams.
///
/// Tensors are `Send` and need not be `Sync`, so they are passed by value between threads.
pub trait Device: Send + Sync + 'static {
    /// The tensor type of this backend. Cheap to move; cloning is never asked for.
    type Tensor: Send + 'static;

    /// What to call this device in tables and messages: `cpu`, `cuda:0`.
    fn name(&self) -> String;

    /// The element type and dims of a tensor. Called for every task on its caller's thread: cheap, and
    /// without waiting for the device.
    ///
    /// # Errors
    ///
    /// When the tensor's element type has no [`DType`](crate::DType).
    fn describe(&self, tensor: &Self::Tensor) -> Result<TensorInfo, DeviceError>;

    /// Joins tensors along dim 0 and places the result on the device.
    ///
    /// The parts agree in element type and trailing dims. There is at least one. They stay with the
    /// runtime, which may have to gather some of them again; one part alone may be shared instead of copied.
    ///
    /// # Errors
    ///
    /// When the device has no room or refuses the copy.
    fn gather(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor, DeviceError>;

    /// Brings a tensor to the host and cuts it along dim 0 into parts of `rows` rows.
    ///
    /// The rows add up to dim 0 of the tensor. Parts may be views into one allocation, which then lives as
    /// long as the last of them.
    ///
    /// # Errors
    ///
    /// When the copy fails.
    fn scatter(&self, tensor: Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError>;

    /// Joins tensors along dim 0 on the host: the outputs of one task that ran in several batches.
    ///
    /// # Errors
    ///
    /// When there is no room.
    fn join(&self, parts: Vec<Self::Tensor>) -> Result<Self::Tensor, DeviceError>;

    /// Cuts a host tensor along dim 0 into parts of `rows` rows: a task too large for one batch.
    ///
    /// # Errors
    ///
    /// When the tensor cannot be cut.
    fn split(&self, tensor: &Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError>;

    /// The first element of a host tensor of integers that is not in `0..below`, if there is one.
    /// Called at submit for inputs that hold indices.
    ///
    /// # Errors
    ///
    /// When the tensor does not hold integers.
    fn index_outside(&self, tensor: &Self::Tensor, below: u64) -> Result<Option<i64>, DeviceError>;

    /// Whether all elements of a host tensor are finite. Asked of outputs where a pool checks them
    /// ([`FailureRules::check_finite`](crate::FailureRules::check_finite)). Integers are.
    ///
    /// # Errors
    ///
    /// Those of [`to_host`](Self::to_host).
    fn all_finite(&self, tensor: &Self::Tensor) -> Result<bool, DeviceError> {
        self.to_host(tensor).map(|tensor| tensor.all_finite())
    }

    /// Whether tensors on the device are readable by the host without a copy. Where they are, a lone
    /// batch's outputs go straight to their callers; where not, a sender thread brings them back.
    fn is_host(&self) -> bool;

    /// Called once on the device thread before anything else runs on it: bind a context, set a grad mode.
    ///
    /// # Errors
    ///
    /// When the device cannot be used from this thread; the runtime then does not start.
    fn bind_thread(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Waits until everything that was started on the device is done, so that its time can be counted.
    ///
    /// # Errors
    ///
    /// When the device reports a failure of earlier work.
    fn synchronize(&self) -> Result<(), DeviceError>;

    /// The device's memory, where it can be told.
    fn memory(&self) -> Option<MemoryInfo> {
        None
    }

    /// Makes a host tensor of plain bytes: for front ends and for saved state.
    ///
    /// # Errors
    ///
    /// When this backend has no such element type.
    #[expect(clippy::wrong_self_convention, reason = "the device makes it, from host bytes")]
    fn from_host(&self, tensor: &HostTensor) -> Result<Self::Tensor, DeviceError>;

    /// Reads a tensor, on the host or on the device, into plain bytes.
    ///
    /// # Errors
    ///
    /// When the copy fails or the element type has no [`DType`](crate::DType).
    fn to_host(&self, tensor: &Self::Tensor) -> Result<HostTensor, DeviceError>;
}

/// Which way a block is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Inference: inputs to outputs.
    Forward,
    /// A training step: inputs and gradients of the outputs to gradients of the inputs.
    Backward,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        })
    }
}
