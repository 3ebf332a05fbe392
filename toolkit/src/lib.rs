//! What backends are made of besides tensors: settings, kinds of blocks by name, first values, weights files,
//! optimizers as numbers, saved state.
//!
//! Two backends that both take these from here read the same configurations, files and checkpoints, draw the
//! same first parameters, and take the same training steps. An application finds all of it in its backend crate,
//! as `toolkit`.
#![forbid(unsafe_code)]

mod activation;
mod block;
pub mod checkpoint;
mod config;
mod init;
pub mod memory;
mod optimizer;
mod registry;
mod schedule;
pub mod state;
mod stepper;
mod weights;

pub use activation::{Activation, UnknownActivation};
pub use block::{BlockError, check_gradients, check_sizes, schema};
pub use config::{Config, ConfigError, Setting};
pub use init::Init;
pub use optimizer::{AdamW, Optimizer, Rule, Sgd};
pub use registry::{Kinds, Registry, RegistryError};
pub use schedule::Schedule;
pub use state::RestoreError;
pub use stepper::{Pace, StepError, Stepper};
pub use weights::{ParameterError, Weights, WeightsError};
