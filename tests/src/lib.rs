//! The conformance suite: what every backend owes its callers, written once over the contracts.
//!
//! A case in [`suite`] is a function over a [`Subject`], which says how to make a device. It holds blocks at
//! a [`Gate`](kit::Gate), makes a device fail with [`Hooked`](kit::Hooked), and decides itself what time it
//! is. So a case knows what every thread is doing at the moment it looks, and needs neither sleeps nor
//! retries. The only times in here are limits ([`kit::LIMIT`]), which turn a hang into a failure.
//!
//! A backend joins by naming its device, in a test file of its own:
//!
//! ```
//! use skep_tests::{Subject, conformance};
//! use skep_runtime_core::testing::FakeDevice;
//!
//! struct Fake;
//! impl Subject for Fake {
//!     type Device = FakeDevice;
//!     fn device() -> FakeDevice {
//!         FakeDevice::new()
//!     }
//! }
//! conformance!(Fake);
//! ```
//!
//! A backend with blocks that learn also implements [`Learner`] and instantiates [`training!`]. Those of this
//! workspace are in [`backends`], each behind a feature of its name.
#![forbid(unsafe_code)]
#![allow(missing_debug_implementations, reason = "nobody prints what tests are made of")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what is not as expected fails the test")]

pub mod backends;
pub mod kit;
mod macros;
pub mod soak;
mod subject;
pub mod suite;

pub use subject::{Learner, Learning, Subject};
