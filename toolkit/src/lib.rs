//! What Skep's backends share besides tensors: blocks by name, settings, optimizers as numbers, weights files,
//! checkpoints.
//!
//! Two backends that take these from here read the same configurations, files and checkpoints, draw the same first
//! parameters, and take the same training steps. An application finds all of it in its backend crate, as
//! `toolkit`; a backend brings the arithmetic, by [`Library`] and [`Computes`].
//!
//! ```
//! use skep_toolkit::blocks::{Ffn, Spec};
//! use skep_toolkit::{AdamW, Config, ConfigError, Optimizer, Schedule};
//!
//! let config: Config = "input=64, hidden=128, activation=relu".parse()?;
//! let ffn = Ffn::from_config(&config)?;
//! assert_eq!((ffn.hidden, ffn.output), (128, 64));
//! assert_eq!(ffn.signature()?.inputs.tensors()[0].name(), "x");
//!
//! let optimizer = Optimizer::adamw(AdamW::default().learning_rate(3e-4))
//!     .with_schedule(Schedule::WarmupLinear { warmup: 100, total: 10_000 });
//! // In a backend: `CandleBlock::of("expert.0", ffn)?.with_optimizer(optimizer)`.
//! # let _ = optimizer;
//! # Ok::<(), ConfigError>(())
//! ```
#![deny(unsafe_code)]

mod block;
pub mod blocks;
pub mod checkpoint;
mod config;
mod dtype;
mod failure;
pub mod memory;
mod optim;
mod parameters;
mod random;
mod registry;

pub use block::Block;
pub use block::error::{BlockError, check_gradients};
pub use block::library::{Build, Computes, Gradients, Library, Stepped, Tensor};
pub use block::state::RestoreError;
pub use config::{Config, ConfigError, Setting};
pub use dtype::{DTypes, UnknownDType, dtype_named};
pub use failure::FailureWords;
pub use optim::optimizer::{AdamW, Optimizer, Pace, Rule, Sgd};
pub use optim::schedule::{CustomSchedule, Schedule};
pub use optim::stepper::StepError;
pub use parameters::init::Init;
pub use parameters::source::{Source, check_converted, check_dims};
pub use parameters::weights::{ParameterError, SharedWeights, Weights, WeightsError};
pub use random::Draws;
pub use registry::{Kinds, Registry, RegistryError};

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
