//! What both demos share: the backend, the way the run is shown, and a few figures.
//!
//! The backend is chosen in [`backend`] and nowhere else. Everything that the demos call besides is the same
//! on every backend.

pub(crate) mod backend;
pub(crate) mod latency;
pub(crate) mod progress;

pub(crate) use backend::{BACKEND, DemoBlock, DemoDevice, device, skep};
pub(crate) use latency::Latencies;
pub(crate) use progress::Progress;

/// Any error: an application that only reports its errors needs no type of its own for them.
pub(crate) type Result<T> = std::result::Result<T, skep::runtime::BoxError>;

/// Exit code for what the caller of the program got wrong: arguments, files, devices. clap's own.
pub(crate) const BAD_INPUT: u8 = 2;
