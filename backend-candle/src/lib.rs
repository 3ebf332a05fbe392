//! Skep on [candle](candle_core): everything that an application needs to serve and train blocks on the
//! processor or a GPU.
//!
//! A request meets this crate twice: [`CandleDevice`] gathers the inputs of a batch and scatters its outputs;
//! in between, a [`CandleBlock`] runs forward or backward. Blocks are made by type
//! ([`blocks::Ffn`]), by name ([`Registry`]), or of an application's own layers.
//!
//! ```
//! use skep_backend_candle::blocks::{Activation, Ffn};
//! use skep_backend_candle::prelude::*;
//!
//! let ffn = Ffn { input: 4, hidden: 16, output: 2, activation: Activation::Gelu };
//! let optimizer = Optimizer::adamw(AdamW::default());
//! let mut block = CandleBlock::of("expert.0", ffn)?.with_seed(7).with_optimizer(optimizer)?;
//!
//! let device = CandleDevice::cpu();
//! block.load(&device)?;
//! let x = device.from_host(&HostTensor::from_f32(&[1, 4], &[0.5, -1.0, 2.0, 0.0])?)?;
//! let y = block.forward(&[x])?;
//! assert_eq!(y[0].dims(), [1, 2]);
//! # Ok::<(), skep_backend_candle::runtime::BoxError>(())
//! ```
//!
//! # Features
//!
//! `models` (on by default) adds `blocks::TextModel`. `cuda`, `cudnn`, `metal` and `accelerate` are candle's
//! features of these names, with candle's requirements at build time. Without them the crate needs nothing
//! but a Rust compiler.
#![forbid(unsafe_code)]

mod block;
pub mod blocks;
mod device;
#[cfg(feature = "models")]
mod encoder;
mod kernels;
pub mod layers;
mod optim;
mod registry;

pub use block::{Buffer, Candle, CandleBlock, Layers};
pub use candle_core;
pub use candle_nn;
pub use device::{CandleDevice, CpuOptions};
pub use registry::Registry;
#[cfg(feature = "models")]
pub use skep_models as models;
pub use skep_pool as pool;
pub use skep_runtime_core as runtime;
pub use skep_stats as stats;
pub use skep_toolkit as toolkit;
pub use skep_toolkit::{
    AdamW, BlockError, Config, ConfigError, Optimizer, ParameterError, RegistryError, RestoreError, Schedule,
    Setting, Sgd, SharedWeights, StepError, WeightsError,
};

/// The names that most applications use; none of them is one of the tensor library's prelude.
pub mod prelude {
    pub use crate::{
        AdamW, CandleBlock, CandleDevice, Config, CpuOptions, Layers, Optimizer, Registry, Schedule, Sgd,
    };
    pub use candle_core::Tensor;
    pub use skep_pool::{Copies, PoolOptions, Serve, ServeMore, ServeOptions, Served};
    // Its methods only: a tensor library has a `Device` of its own.
    pub use skep_runtime_core::Device as _;
    pub use skep_runtime_core::{
        Backend, BlockState, Dim, HostTensor, PadTo, Padding, Priority, Reload, Request, RuntimeBuilder,
        Schema, Shutdown, TensorOps, TensorSpec, Ticket,
    };
}

/// The examples of the workspace's README and of this crate's, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
