//! Dynamic batching: many small tasks from many callers become few large batches.
//!
//! A [`TaskPool`] takes the tasks for one pass of one block. It checks each against the block's schema, lets
//! it wait, first in first out within a priority, and cuts a batch of what has gathered when the device can
//! take one: the busier the device, the larger the batches.
//!
//! ```
//! use skep_pool::{PoolOptions, Serve, ServeOptions};
//! use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
//! use skep_runtime_core::{RuntimeBuilder, Shutdown};
//! use std::time::Duration;
//!
//! let mut builder = RuntimeBuilder::new(FakeDevice::new());
//! let options = PoolOptions::default().max_rows(32);
//! let double = builder.serve(
//!     FnBlock::rows("double", 2, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| v * 2.0)])),
//!     ServeOptions::forward(options),
//! )?;
//! let runtime = builder.start()?;
//!
//! let ticket = double.forward.submit(vec![FakeTensor::rows(&[[1.0, 2.0], [3.0, 4.0]])])?;
//! assert_eq!(ticket.wait()?, vec![FakeTensor::rows(&[[2.0, 4.0], [6.0, 8.0]])]);
//! runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod admission;
mod answers;
mod copies;
mod enter;
mod line;
mod options;
mod queue;
mod room;
mod runtime_side;
mod seats;
mod serve;
mod serve_more;
mod served;
mod shared;
mod sooner;
mod task;
mod task_pool;
mod view;

pub use copies::{Copied, Copies};
pub use options::PoolOptions;
pub use serve::{Serve, ServeOptions};
pub use serve_more::ServeMore;
pub use served::Served;
pub use task_pool::TaskPool;

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
