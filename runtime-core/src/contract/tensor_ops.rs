//! Work with tensors that needs no device.

use crate::contract::error::device::DeviceError;
use crate::contract::tensor::{HostTensor, TensorInfo};
use std::ops::Range;

/// Describes, joins, cuts and converts tensors: the work that needs no device, and all that a pool asks for.
///
/// Callers hold tensors **on the host**. Tensors are `Send` and need not be `Sync`, so they are passed by value
/// between threads. All methods may be called from several threads at once.
pub trait TensorOps: Send + Sync + 'static {
    /// The tensor type. Cheap to move; cloning is never asked for.
    type Tensor: Send + 'static;

    /// Returns the element type and dims of a tensor. Called for every task on its caller's thread: cheap, and
    /// without waiting for a device.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the tensor's element type has no [`DType`](crate::DType).
    fn describe(&self, tensor: &Self::Tensor) -> Result<TensorInfo, DeviceError>;

    /// Joins host tensors along dim 0: the outputs of one task that ran in several batches.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if there is no room.
    fn join(&self, parts: Vec<Self::Tensor>) -> Result<Self::Tensor, DeviceError>;

    /// Cuts a host tensor along dim 0 into parts of `rows` rows: a task too large for one batch.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the tensor cannot be cut.
    fn split(&self, tensor: &Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError>;

    /// Cuts `rows` out of a host tensor along dim 0: the next part of a task too large for one batch, when its turn
    /// comes. Costs no more than these rows if it can be done so. The default [splits](Self::split) the tensor.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the tensor cannot be cut.
    fn slice(&self, tensor: &Self::Tensor, rows: Range<usize>) -> Result<Self::Tensor, DeviceError> {
        let all = self.describe(tensor)?.rows().unwrap_or(0);
        let after = all
            .checked_sub(rows.end)
            .ok_or_else(|| DeviceError::operation(format!("tensor has {all} rows, expected {}", rows.end)))?;
        let pieces = [rows.start, rows.len(), after];
        let at = usize::from(rows.start > 0);
        let pieces: Vec<_> = pieces.into_iter().filter(|rows| *rows > 0).collect();
        let piece = self.split(tensor, &pieces)?.into_iter().nth(at);
        piece.ok_or_else(|| DeviceError::operation(format!("tensor was not cut into {pieces:?} rows")))
    }

    /// Cuts a host tensor along another dim than 0 to its first `size`: an output whose task was padded. The default goes
    /// through plain bytes.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the tensor has no such dim, or less than `size` along it.
    fn narrow(&self, tensor: &Self::Tensor, dim: usize, size: usize) -> Result<Self::Tensor, DeviceError> {
        let host = self.to_host(tensor)?;
        let Some(&all) = host.dims().get(dim).filter(|all| **all >= size) else {
            let wrong = format!("tensor of dims {:?} cannot be cut to {size} along dim {dim}", host.dims());
            return Err(DeviceError::operation(wrong));
        };
        let inner = host.dims()[dim + 1..].iter().product::<usize>() * host.dtype().size();
        let blocks = host.bytes().chunks_exact((all * inner).max(1));
        let bytes = blocks.flat_map(|block| &block[..size * inner]).copied().collect();
        let mut dims = host.dims().to_vec();
        dims[dim] = size;
        self.from_host(&HostTensor::new(host.dtype(), &dims, bytes).map_err(DeviceError::operation)?)
    }

    /// Returns a host tensor of the same elements in other dims, of which there are as many: a view of the same memory if it
    /// is contiguous. Called for tasks that are laid end to end ([`Schema::ragged`](crate::Schema::ragged)), on their way in
    /// and out. The default goes through plain bytes.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if these dims have another number of elements.
    fn reshape(&self, tensor: &Self::Tensor, dims: &[usize]) -> Result<Self::Tensor, DeviceError> {
        let host = self.to_host(tensor)?;
        let reshaped = HostTensor::new(host.dtype(), dims, host.into_bytes());
        self.from_host(&reshaped.map_err(DeviceError::operation)?)
    }

    /// Returns the first element of a host tensor of integers that is not in `0..below`, if there is one.
    /// Called at submit for inputs that hold indices.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the tensor does not hold integers.
    fn index_outside(&self, tensor: &Self::Tensor, below: u64) -> Result<Option<i64>, DeviceError>;

    /// Returns true if all elements of a host tensor are finite, as integers are. Asked of outputs if a pool checks
    /// them ([`FailureRules::check_finite`](crate::FailureRules::check_finite)).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`to_host`](Self::to_host).
    fn all_finite(&self, tensor: &Self::Tensor) -> Result<bool, DeviceError> {
        self.to_host(tensor).map(|tensor| tensor.all_finite())
    }

    /// Creates a host tensor from plain bytes: for front ends and for saved state.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if this backend has no such element type.
    #[expect(clippy::wrong_self_convention, reason = "the backend makes it, from host bytes")]
    fn from_host(&self, tensor: &HostTensor) -> Result<Self::Tensor, DeviceError>;

    /// Reads a tensor, on the host or on a device, into plain bytes.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the copy fails or the element type has no [`DType`](crate::DType).
    fn to_host(&self, tensor: &Self::Tensor) -> Result<HostTensor, DeviceError>;
}
