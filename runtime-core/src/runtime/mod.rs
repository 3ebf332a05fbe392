//! The runtime: placeholder while the loop is written.
mod bell;
pub use bell::{Doorbell, RuntimeId};
pub(crate) use bell::{on_thread_of};
