//! Skep on [ONNX Runtime](https://onnxruntime.ai): everything that an application needs to serve ONNX files and
//! published text models on the processor, for inference only.
//!
//! A request meets this crate twice: [`OrtDevice`] gathers the inputs of a batch and scatters its outputs; in between,
//! an [`OrtBlock`] runs forward. Blocks are ONNX files ([`blocks::Onnx`]), published folders
//! ([`blocks::TextModel`]), or made by name ([`Registry`]); names and settings are those of the other backends.
//!
//! ```
//! use skep_backend_ort::blocks::{Activation, Ffn};
//! use skep_backend_ort::prelude::*;
//!
//! # if std::env::var_os("ORT_DYLIB_PATH").is_none() { println!("skipped: no ONNX Runtime"); return Ok(()) }
//! let ffn = Ffn { input: 4, hidden: 16, output: 2, activation: Activation::Gelu };
//! let mut block = OrtBlock::of("expert.0", ffn)?.with_seed(7);
//!
//! let device = OrtDevice::cpu()?;
//! block.load(&device)?;
//! let x = device.from_host(&HostTensor::from_f32(&[1, 4], &[0.5, -1.0, 2.0, 0.0])?)?;
//! let y = block.forward(&[x])?;
//! assert_eq!(y[0].dims(), [1, 2]);
//! # Ok::<(), skep_backend_ort::runtime::BoxError>(())
//! ```
//!
//! # ONNX Runtime
//!
//! The crate builds without ONNX Runtime and loads it when the first device is made: the library whose path
//! `ORT_DYLIB_PATH` names, version 1.24 or later. In Skep's workspace, `cargo xtask onnxruntime` gets it, and cargo sets
//! the variable; elsewhere it is in the Python package `onnxruntime` (`onnxruntime/capi/libonnxruntime.so.*`).
//!
//! # Features
//!
//! `models` (on by default) adds `blocks::TextModel`. `cuda` adds [`OrtDevice::cuda`], for an ONNX Runtime that was
//! built with CUDA; nothing of it is needed to build.
#![forbid(unsafe_code)]

mod block;
pub mod blocks;
mod device;
#[cfg(feature = "models")]
mod encoder;
mod graph;
mod onnx;
mod registry;
mod session;

pub use block::{Layers, Ort, OrtBlock, Parameters};
pub use device::{CpuOptions, LibraryError, OrtDevice, OrtTensor};
pub use registry::Registry;
pub use session::Optimization;
#[cfg(feature = "models")]
pub use skep_models as models;
pub use skep_pool as pool;
pub use skep_runtime_core as runtime;
pub use skep_stats as stats;
pub use skep_toolkit as toolkit;
pub use skep_toolkit::{
    AdamW, BlockError, Config, ConfigError, Init, Optimizer, ParameterError, RegistryError, Schedule,
    Setting, Sgd, WeightsError,
};

/// The names that most applications use.
pub mod prelude {
    pub use crate::{Config, CpuOptions, Layers, Optimization, OrtBlock, OrtDevice, OrtTensor, Registry};
    pub use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served};
    // Its methods only, as the other backends have it.
    pub use skep_runtime_core::Device as _;
    pub use skep_runtime_core::{
        Backend, BlockState, Dim, HostTensor, PadTo, Padding, Priority, Reload, Request, RuntimeBuilder,
        Schema, Shutdown, TensorOps, TensorSpec, Ticket,
    };
}

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
