//! The only `unsafe` code of this crate: calls into the C++ files in `shim`.
//!
//! Why it is needed stands at the head of `skep_shim.cpp`. What keeps it sound: each function of the shim catches
//! every C++ exception; it gets pointers to tensors that its caller borrows or owns for the length of the call;
//! a tensor that it gives is a new one, which becomes a [`Tensor`] and is freed by it.
#![allow(unsafe_code)]

mod calls;
mod ffi;
mod package;
mod script;

pub(crate) use calls::{
    GradMode, JoinError, Place, are_same, copy, cuda_count, describe, empty_cache, flush_denormals,
    from_bytes, gradients, join, join_padded, load_cuda, memory, place, swap_threads, synchronize, to_bytes,
    to_host,
};
#[cfg(feature = "models")]
pub(crate) use calls::{pack_linear, packed_linear, records_graph};
pub(crate) use package::{Compiled, package_metadata};
pub use script::Value;
pub(crate) use script::{Script, save_script};
