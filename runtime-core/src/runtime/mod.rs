//! The runtime: from a ring at the door to an answered ticket, in the order of the files below.

mod bell;
mod builder;
mod ceiling;
mod core;
mod device_loop;
mod flight;
mod handle;
mod jobs;
mod loader;
mod loss;
mod probe;
mod running;
mod select;
mod sender;
mod stage;
mod status;
mod timer;

pub(crate) use bell::on_thread_of;
pub use bell::{Doorbell, RuntimeId};
pub use builder::{BlockId, RuntimeBuilder};
pub use handle::Handle;
pub use running::{RunningRuntime, Runtime};
pub use status::{Health, Ready};
