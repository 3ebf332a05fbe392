//! Numbers about a runtime: the work that it does, the time that tasks wait for it, and the fate of each task.
//!
//! [`Stats`] observes a runtime and counts: one short lock per batch, histograms for pools that have had a
//! batch. Its [`Snapshot`] is plain values: print it as a table, serialize it, or compare two
//! ([`Snapshot::since`]). [`Reporter`] does the latter at an interval and logs the result. With the feature
//! `metrics`, `Metrics` publishes the numbers to a monitoring system.
//!
//! ```
//! # use skep_runtime_core::{Counts, Meter};
//! # use std::sync::Arc;
//! # struct Pool;
//! # impl Meter for Pool {
//! #     fn name(&self) -> &str { "ffn_forward" }
//! #     fn counts(&self) -> Counts { Counts::default().submitted(2) }
//! # }
//! use skep_runtime_core::{BatchEvent, Observer, Pass, PoolId, TaskHeader};
//! use skep_stats::Stats;
//! use std::time::{Duration, Instant};
//!
//! let stats = Stats::new();
//! let observer = stats.observer(); // for the builder of the runtime, which then does this:
//! let start = Instant::now();
//! observer.started("cpu", start);
//! observer.pool_added(PoolId::new(0), Arc::new(Pool));
//! let headers = [TaskHeader::new(8, start); 2];
//! let mut event = BatchEvent::new(PoolId::new(0), Pass::Forward, &headers, start);
//! (event.rows, event.tasks_succeeded) = (16, 2);
//! event.device = Duration::from_millis(4);
//! event.done = start + event.device;
//! observer.batch(&event);
//! observer.stopped(start + Duration::from_millis(5));
//!
//! let snapshot = stats.snapshot();
//! assert_eq!(snapshot.device_busy, 0.8);
//! assert_eq!(snapshot.pools[0].rows, 16);
//! assert_eq!(snapshot.total.accounted(), snapshot.total.submitted);
//! println!("{snapshot}\n{}", snapshot.total.accounts());
//! ```
#![forbid(unsafe_code)]

mod collector;
mod fanout;
#[cfg(feature = "metrics")]
pub mod metrics;
mod numbers;
mod parts;
mod report;
mod reporter;
mod snapshot;
mod summary;
mod table;
mod tally;

pub use collector::Stats;
pub use fanout::Fanout;
#[cfg(feature = "metrics")]
pub use metrics::{Metrics, Publishing};
pub use report::{PoolReport, Report};
pub use reporter::Reporter;
pub use snapshot::{
    PartSnapshot, PoolSnapshot, ReloadSnapshot, Snapshot, TrainingSnapshot, VerificationSnapshot,
};
pub use summary::Summary;

/// The README's example, compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
