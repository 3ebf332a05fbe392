//! The contracts and the runtime of Skep, which runs many model blocks on one shared device.
//!
//! Concurrent callers hand small tasks to pools; the runtime joins them into batches, always runs the most
//! urgent batch next, gathers the one after meanwhile, and gives every caller exactly one answer. This
//! crate knows no tensor library: a backend crate brings the [`Device`] and the blocks, and `skep-pool`
//! brings the queue. An application depends on a backend crate and gets all of this with it.
//!
//! # The life of a task
//!
//! The modules stand in the order in which a task meets them:
//!
//! 1. **submit**: a caller hands a [`Request`] to a pool ([`Submit`]). It is checked against the block's
//!    [`Schema`]; a bad one comes back as [`Refused`], a good one is answered through its [`Ticket`].
//! 2. **queue**: it waits in its [`Pool`](pool::Pool) by [`Priority`]. A pool with news rings its [`Doorbell`](pool::Doorbell).
//! 3. **choose**: when there is room, the most urgent pool is found, and only then is its batch cut.
//! 4. **gather**: [`Device::gather`] joins the inputs and places them on the device.
//! 5. **run**: the device thread calls [`Backend::forward`] or [`Backend::backward`], and does nothing else.
//! 6. **scatter**: senders bring the outputs back ([`Device::scatter`]) and cut them by the tasks' rows.
//! 7. **account**: an [`Observer`] is told, once per batch, and then the tickets are completed: who has an answer finds it
//!    counted.
//!
//! ```
//! use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
//! use skep_runtime_core::{RuntimeBuilder, Shutdown};
//! use std::time::Duration;
//!
//! let mut builder = RuntimeBuilder::new(FakeDevice::new()).prefetch(1).senders(1);
//! builder.block(FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)])))?;
//! // With skep-pool, `builder.serve(block, options)` also makes the block's pools.
//! let runtime = builder.start()?;
//! assert!(runtime.handle().is_running());
//! runtime.shutdown(Shutdown::Drain, Duration::from_secs(1))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `testing` adds [`testing`]: a fake device, blocks made of closures, and a clock that a test moves.
#![forbid(unsafe_code)]

mod contract;
mod policy;
mod runtime;
#[doc(hidden)]
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// The contract of a queue, for those who bring their own: callers and backends never meet it.
///
/// `skep-pool` has the queue that applications use.
pub mod pool {
    pub use crate::contract::answer::cell::{AfterAnswer, Cancel, TaskKey};
    pub use crate::contract::answer::parts::JoinParts;
    pub use crate::contract::answer::reply::{Reply, Settled};
    pub use crate::contract::batch::{Batch, BatchTask, Piece, Returned, SliceRows};
    pub use crate::contract::doorbell::{Doorbell, Ring};
    pub use crate::contract::policy::{Facts, Lane, Policy, Ran};
    pub use crate::contract::pool::{Expired, Look, Outlook, Pool, Terms};
    pub use crate::contract::rank::Rank;
}

/// The choice of the next batch as plain data, which a simulator can drive as the runtime does.
#[doc(hidden)]
pub mod selector {
    pub use crate::policy::selector::{Choice, Next, Selector, Timing};
}

pub use contract::answer::cell::TaskResult;
pub use contract::answer::ticket::Ticket;
pub use contract::backend::{Backend, BlockInfo, BlockState, Fit, Pass, Training, Unmatched};
pub use contract::clock::{Clock, SystemClock};
pub use contract::device::{Device, MemoryInfo};
pub use contract::dims::{Dim, Dims};
pub use contract::error::batch::BatchError;
pub use contract::error::cause::{BoxError, Chain};
pub use contract::error::control::{ControlError, ShutdownError, StartError};
pub use contract::error::device::DeviceError;
pub use contract::error::device_loss::DeviceLoss;
pub use contract::error::kind::ErrorKind;
pub use contract::error::of_rows::OfRows;
pub use contract::error::submit::{Refused, SchemaError, SubmitError};
pub use contract::error::task::TaskError;
pub use contract::event::{BatchEvent, CutReason, Forecast, Observer, Reloaded, Unrun};
pub use contract::flow::Flow;
pub use contract::front::{Front, FrontError, HostFront, NamedTensors};
pub use contract::id::{BlockId, PoolId, RuntimeId};
pub use contract::meter::{Counts, Meter, Refusals};
pub use contract::padding::{PadTo, Padding, Span, pad_into, pad_spans};
pub use contract::pool::{FailureRules, Shutdown};
pub use contract::price::{Cost, Price};
pub use contract::priority::Priority;
pub use contract::reload::Reload;
pub use contract::request::{Deadline, Inputs, Request};
pub use contract::schema::{FreeDim, Schema, Shape, TensorSpec};
pub use contract::submit::Submit;
pub use contract::task::TaskHeader;
pub use contract::tensor::{DType, Element, HostTensor, TensorInfo, WrongByteCount};
pub use contract::tensor_ops::TensorOps;
pub use contract::verify::{Verified, Verify};
pub use policy::aging::Aging;
pub use policy::earliest_deadline::EarliestDeadline;
pub use policy::oldest_first::OldestFirst;
pub use runtime::builder::RuntimeBuilder;
pub use runtime::classes::Classes;
pub use runtime::fair::Fair;
pub use runtime::handle::Handle;
pub use runtime::loaded::LoadedBlock;
pub use runtime::reloadable::BudgetUse;
pub use runtime::running::{RunningRuntime, Runtime};
pub use runtime::status::{Health, Ready};

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
