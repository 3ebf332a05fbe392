//! Skep on [libtorch](tch): everything that an application needs to serve and train blocks on the processor or
//! a GPU, blocks that were exported as `TorchScript` included.
//!
//! A request meets this crate twice: [`TchDevice`] gathers the inputs of a batch and scatters its outputs;
//! in between, a [`TchBlock`] runs forward or backward. Blocks are made by type
//! ([`blocks::Ffn`]), by name ([`Registry`]), or of an application's own layers. Names, settings and parameter names
//! are those of `skep-backend-candle`, so that a configuration and a checkpoint serve both.
//!
//! ```
//! use skep_backend_tch::blocks::{Activation, Ffn};
//! use skep_backend_tch::prelude::*;
//!
//! let ffn = Ffn { input: 4, hidden: 16, output: 2, activation: Activation::Gelu };
//! let optimizer = Optimizer::adamw(AdamW::default());
//! let mut block = TchBlock::of("expert.0", ffn)?.with_seed(7).with_optimizer(optimizer)?;
//!
//! let device = TchDevice::cpu();
//! block.load(&device)?;
//! let x = device.from_host(&HostTensor::from_f32(&[1, 4], &[0.5, -1.0, 2.0, 0.0])?)?;
//! let y = block.forward(&[x])?;
//! assert_eq!(y[0].size(), [1, 2]);
//! # Ok::<(), skep_backend_tch::runtime::BoxError>(())
//! ```
//!
//! # libtorch
//!
//! This crate needs libtorch 2.11.0 to be built and to run; where it is missing, the build stops and says so.
//! There is no cargo feature to switch it on: who depends on this crate wants it. Three ways to have it:
//!
//! - In Skep's workspace, `cargo xtask libtorch` gets it into `.libtorch`, and cargo finds it there.
//! - `LIBTORCH` names the folder that holds its `include` and `lib`.
//! - `LIBTORCH_USE_PYTORCH=1` takes the one of the `torch` package of Python.
//!
//! To start, a program must find it too. Either `LD_LIBRARY_PATH` names its `lib` folder, or the program knows
//! it, by these lines in the application's `build.rs`:
//!
//! ```no_run
//! if let Ok(lib) = std::env::var("DEP_SKEP_TCH_LIBTORCH_LIB") {
//!     println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
//! }
//! ```
//!
//! So that the rest of the workspace works on a machine without libtorch, this crate is not among its default
//! members: plain `cargo test`, `check`, `clippy` and `doc` leave it out. To check it there, or write its
//! documentation, turn on the feature `doc-only`, with which nothing can be linked:
//! `cargo clippy --workspace --features skep-backend-tch/doc-only`.
//!
//! # Features
//!
//! `models` (on by default) adds `blocks::TextModel`. CUDA needs no feature, but a libtorch that has it:
//! [`TchDevice::cuda`].
#![deny(unsafe_code)]

mod block;
pub mod blocks;
mod device;
#[cfg(feature = "models")]
mod encoder;
pub mod layers;
mod optim;
mod registry;
mod shim;

pub use block::{Layers, Tch, TchBlock, VarBuilder};
pub use device::{CpuOptions, TchDevice};
pub use registry::Registry;
#[cfg(feature = "models")]
pub use skep_models as models;
pub use skep_pool as pool;
pub use skep_runtime_core as runtime;
pub use skep_stats as stats;
pub use skep_toolkit as toolkit;
pub use skep_toolkit::{
    AdamW, BlockError, Config, ConfigError, Init, Optimizer, ParameterError, RegistryError, RestoreError,
    Schedule, Setting, Sgd, SharedWeights, StepError, WeightsError,
};
pub use tch;

/// The names that most applications use; none of them is one of the tensor library's prelude.
pub mod prelude {
    pub use crate::{
        AdamW, Config, CpuOptions, Layers, Optimizer, Registry, Schedule, Sgd, TchBlock, TchDevice,
    };
    pub use skep_pool::{Copies, PoolOptions, Serve, ServeMore, ServeOptions, Served};
    // Its methods only: a tensor library has a `Device` of its own.
    pub use skep_runtime_core::Device as _;
    pub use skep_runtime_core::{
        Backend, BlockState, Dim, HostTensor, PadTo, Padding, Priority, Reload, Request, RuntimeBuilder,
        Schema, Shutdown, TensorOps, TensorSpec, Ticket,
    };
    pub use tch::Tensor;
}

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
