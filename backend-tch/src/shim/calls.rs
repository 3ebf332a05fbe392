//! Calls into the shim.

use super::ffi::{self, C_tensor};
use skep_runtime_core::Dims;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr;
use tch::{TchError, Tensor};

/// What libtorch knows of a tensor.
pub(crate) struct Facts {
    /// `c10::ScalarType`.
    pub(crate) scalar_type: c_int,
    pub(crate) dims: Dims,
}

/// Why tensors were not joined.
pub(crate) enum JoinError {
    /// They have this many bytes together.
    TooLarge(usize),
    Torch(TchError),
}

/// More dims than any tensor of this crate's users has.
const MAX_DIMS: usize = 16;

pub(super) fn checked(status: c_int) -> Result<(), TchError> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim gives a string that ends in NUL and lives until this thread's next call.
    let message = unsafe { CStr::from_ptr(ffi::skep_last_error()) };
    Err(TchError::Torch(message.to_string_lossy().into_owned()))
}

/// A call that gives one tensor.
fn given(call: impl FnOnce(&mut *mut C_tensor) -> c_int) -> Result<Tensor, TchError> {
    let mut out = ptr::null_mut();
    checked(call(&mut out))?;
    // SAFETY: after a 0 the shim has put a tensor there, which is now ours.
    Ok(unsafe { Tensor::from_ptr(out) })
}

pub(super) fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*const C_tensor> {
    tensors.into_iter().map(Tensor::as_ptr).collect()
}

/// libtorch counts devices in a smaller type than Rust does. What does not fit is no device.
fn index_of(ordinal: usize) -> Result<c_int, TchError> {
    i8::try_from(ordinal)
        .map(c_int::from)
        .map_err(|_| TchError::Torch(format!("device index is {ordinal}, expected at most 127")))
}

/// The host's number, and libtorch's of a CUDA device.
pub(super) fn index_or_host(cuda: Option<usize>) -> Result<c_int, TchError> {
    cuda.map_or(Ok(-1), index_of)
}

pub(crate) fn describe(tensor: &Tensor) -> Result<Facts, TchError> {
    let (mut scalar_type, mut dims, mut rank) = (0, [0; MAX_DIMS], 0);
    let (room, capacity) = (dims.as_mut_ptr(), dims.len());
    // SAFETY: the tensor is borrowed; the shim writes up to `capacity` dims.
    checked(unsafe { ffi::skep_describe(tensor.as_ptr(), &mut scalar_type, room, capacity, &mut rank) })?;
    let dims = dims.iter().take(rank).map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    Ok(Facts { scalar_type, dims })
}

/// A tensor on the host. The bytes must fill the dims.
pub(crate) fn from_bytes(bytes: &[u8], dims: &[i64], scalar_type: c_int) -> Result<Tensor, TchError> {
    let (data, shape) = (bytes.as_ptr(), dims.as_ptr());
    // SAFETY: the pointers and lengths are of borrowed slices; the shim copies out of them.
    given(|out| unsafe { ffi::skep_from_bytes(data, bytes.len(), shape, dims.len(), scalar_type, out) })
}

/// The elements of a tensor on the host, row major. `count` is the number of bytes.
pub(crate) fn to_bytes(tensor: &Tensor, count: usize) -> Result<Vec<u8>, TchError> {
    let mut bytes = vec![0; count];
    // SAFETY: the shim writes `count` bytes or none.
    checked(unsafe { ffi::skep_to_bytes(tensor.as_ptr(), bytes.as_mut_ptr(), count) })?;
    Ok(bytes)
}

/// Joins tensors along dim 0, without their graphs, on the host (`None`) or a CUDA device.
pub(crate) fn join(parts: &[Tensor], cuda: Option<usize>, limit: usize) -> Result<Tensor, JoinError> {
    let index = index_or_host(cuda).map_err(JoinError::Torch)?;
    let (parts, limit) = (pointers(parts), u64::try_from(limit).unwrap_or(u64::MAX));
    joined(|bytes, out| {
        // SAFETY: the tensors are borrowed.
        unsafe { ffi::skep_join(parts.as_ptr(), parts.len(), index, limit, bytes, out) }
    })
}

/// The same, each filled up along its other dims to `dims` with the bytes of one element.
pub(crate) fn join_padded(
    parts: &[Tensor],
    dims: &[i64],
    element: &[u8],
    cuda: Option<usize>,
    limit: usize,
) -> Result<Tensor, JoinError> {
    let index = index_or_host(cuda).map_err(JoinError::Torch)?;
    let (parts, limit) = (pointers(parts), u64::try_from(limit).unwrap_or(u64::MAX));
    joined(|bytes, out| {
        // SAFETY: the tensors are borrowed, the other pointers and lengths are of borrowed slices; the shim checks that
        // the dims and the element are those of the tensors.
        unsafe {
            ffi::skep_join_padded(
                parts.as_ptr(),
                parts.len(),
                dims.as_ptr(),
                dims.len(),
                element.as_ptr(),
                element.len(),
                index,
                limit,
                bytes,
                out,
            )
        }
    })
}

/// A call that joins tensors, or says how large they would be together.
fn joined(call: impl FnOnce(&mut u64, &mut *mut C_tensor) -> c_int) -> Result<Tensor, JoinError> {
    let (mut bytes, mut out) = (0, ptr::null_mut());
    match call(&mut bytes, &mut out) {
        2 => Err(JoinError::TooLarge(usize::try_from(bytes).unwrap_or(usize::MAX))),
        status => {
            checked(status).map_err(JoinError::Torch)?;
            // SAFETY: after a 0 the shim has put a tensor there, which is now ours.
            Ok(unsafe { Tensor::from_ptr(out) })
        }
    }
}

/// The tensor on the host, without its graph. Where it is on a device, what makes it must be done.
pub(crate) fn to_host(tensor: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: the tensor is borrowed.
    given(|out| unsafe { ffi::skep_to_host(tensor.as_ptr(), out) })
}

/// Waits for the stream that blocks run on.
pub(crate) fn synchronize(ordinal: usize) -> Result<(), TchError> {
    let index = index_of(ordinal)?;
    // SAFETY: takes no pointer.
    checked(unsafe { ffi::skep_synchronize(index) })
}

/// Has operations of this thread use so many threads, and returns how many they used; 0, and does nothing, where libtorch's
/// threads are not OpenMP's.
pub(crate) fn swap_threads(count: c_int) -> c_int {
    // SAFETY: takes no pointer.
    unsafe { ffi::skep_swap_threads(count) }
}

/// Gives memory of CUDA devices back that libtorch keeps for later.
pub(crate) fn empty_cache() -> Result<(), TchError> {
    // SAFETY: takes no pointer.
    checked(unsafe { ffi::skep_empty_cache() })
}

/// Free and total bytes of a CUDA device.
pub(crate) fn memory(ordinal: usize) -> Result<(u64, u64), TchError> {
    let index = index_of(ordinal)?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: both are written through references.
    checked(unsafe { ffi::skep_memory(index, &mut free, &mut total) })?;
    Ok((free, total))
}

/// Where the elements of a tensor lie. All are numbers to compare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Of the tensor, as libtorch counts them.
    pub(crate) identity: u64,
    /// Of the memory that it shares with others.
    pub(crate) storage: u64,
    /// The first byte.
    pub(crate) begin: u64,
    /// The byte behind the last.
    pub(crate) end: u64,
}

pub(crate) fn place(tensor: &Tensor) -> Result<Place, TchError> {
    let (mut identity, mut storage, mut begin, mut end) = (0, 0, 0, 0);
    // SAFETY: the tensor is borrowed; the numbers are written through references.
    checked(unsafe { ffi::skep_place(tensor.as_ptr(), &mut identity, &mut storage, &mut begin, &mut end) })?;
    Ok(Place { identity, storage, begin, end })
}

/// Whether two tensors are the same elements in the same order.
pub(crate) fn are_same(a: &Tensor, b: &Tensor) -> Result<bool, TchError> {
    let mut same = false;
    // SAFETY: both tensors are borrowed; the answer is written through a reference.
    checked(unsafe { ffi::skep_same(a.as_ptr(), b.as_ptr(), &mut same) })?;
    Ok(same)
}

/// A copy in memory of its own, without a graph.
pub(crate) fn copy(tensor: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: the tensor is borrowed.
    given(|out| unsafe { ffi::skep_copy(tensor.as_ptr(), out) })
}

/// Makes CUDA usable where this libtorch has it.
pub(crate) fn load_cuda() -> Result<(), TchError> {
    // SAFETY: loads a library that was made to be loaded; it stays.
    checked(unsafe { ffi::skep_load_cuda() })
}

/// How many CUDA devices there are.
pub(crate) fn cuda_count() -> Result<usize, TchError> {
    let mut count = 0;
    // SAFETY: written through a reference.
    checked(unsafe { ffi::skep_cuda_count(&mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Whether this thread records graphs, until the guard is dropped: also when a panic drops it, unlike tch's
/// `with_grad`.
pub(crate) struct GradMode {
    before: bool,
    /// The mode is the thread's own.
    _not_send: PhantomData<*const ()>,
}

impl GradMode {
    pub(crate) fn set(on: bool) -> Self {
        // SAFETY: takes no pointer.
        Self { before: unsafe { ffi::skep_set_grad_mode(on) }, _not_send: PhantomData }
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        // SAFETY: takes no pointer.
        unsafe { ffi::skep_set_grad_mode(self.before) };
    }
}

/// Has this thread take numbers below the smallest normal one for 0, where the processor can.
pub(crate) fn flush_denormals() {
    // SAFETY: takes no pointer.
    unsafe { ffi::skep_flush_denormals() };
}

/// Whether this thread records a graph.
#[cfg(feature = "models")]
pub(crate) fn records_graph() -> bool {
    // SAFETY: takes no pointer.
    unsafe { ffi::skep_grad_mode() }
}

/// A weight `[output, input]` on the host, laid out for oneDNN; `None` where this libtorch has no oneDNN, or oneDNN no bf16 on
/// this processor.
#[cfg(feature = "models")]
pub(crate) fn pack_linear(weight: &Tensor) -> Result<Option<Tensor>, TchError> {
    let mut out = ptr::null_mut();
    // SAFETY: the tensor is borrowed.
    checked(unsafe { ffi::skep_pack_linear(weight.as_ptr(), &mut out) })?;
    // SAFETY: after a 0, what is not null is a tensor that is now ours.
    Ok((!out.is_null()).then(|| unsafe { Tensor::from_ptr(out) }))
}

/// `function` of `x · weightᵀ + bias`, with a weight that [`pack_linear`] has laid out. No graph is recorded.
#[cfg(feature = "models")]
pub(crate) fn packed_linear(
    x: &Tensor,
    packed: &Tensor,
    bias: Option<&Tensor>,
    function: &CStr,
) -> Result<Tensor, TchError> {
    let bias = bias.map_or(ptr::null(), Tensor::as_ptr);
    // SAFETY: the tensors are borrowed, and the text ends in NUL.
    given(|out| unsafe { ffi::skep_packed_linear(x.as_ptr(), packed.as_ptr(), bias, function.as_ptr(), out) })
}

/// The gradients of `sum(outputs * gradients)` by `leaves`, `None` where none flows.
pub(crate) fn gradients(
    outputs: &[&Tensor],
    gradients: &[&Tensor],
    leaves: &[&Tensor],
) -> Result<Vec<Option<Tensor>>, TchError> {
    let count = outputs.len().min(gradients.len());
    let (outputs, gradients) = (pointers(outputs.iter().copied()), pointers(gradients.iter().copied()));
    let leaves = pointers(leaves.iter().copied());
    let mut found = vec![ptr::null_mut(); leaves.len()];
    // SAFETY: the tensors are borrowed, and `found` has room for one per leaf.
    checked(unsafe {
        ffi::skep_gradients(
            outputs.as_ptr(),
            gradients.as_ptr(),
            count,
            leaves.as_ptr(),
            leaves.len(),
            found.as_mut_ptr(),
        )
    })?;
    // SAFETY: after a 0, what is not null is a tensor that is now ours.
    let own = |tensor: *mut C_tensor| (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) });
    Ok(found.into_iter().map(own).collect())
}
