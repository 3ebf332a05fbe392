//! A device, blocks, gates and a clock for tests: no tensor library, no waiting, everything under control.
//! [`Handle::settled`](crate::Handle::settled) waits until all has happened that can.
//!
//! Behind the `testing` feature, for this workspace's tests and for applications' own.
//!
//! ```
//! use skep_runtime_core::testing::{FakeDevice, FakeTensor, ManualClock};
//! use skep_runtime_core::{Clock, Device, DeviceError};
//! use std::time::Duration;
//!
//! let clock = ManualClock::new();
//! let start = clock.now();
//! clock.advance(Duration::from_secs(3));
//! assert_eq!(clock.now() - start, Duration::from_secs(3));
//!
//! let device = FakeDevice::new();
//! let batch = device.gather(&[FakeTensor::rows(&[[1.0]]), FakeTensor::rows(&[[2.0], [3.0]])])?;
//! let parts = device.scatter(batch, &[2, 1])?;
//! assert_eq!(parts[0], FakeTensor::rows(&[[1.0], [2.0]]));
//! # Ok::<(), DeviceError>(())
//! ```

mod block;
mod clock;
pub(crate) mod device;
mod gate;

pub use block::FnBlock;
pub use clock::ManualClock;
pub use device::{FakeDevice, FakeTensor};
pub use gate::Gate;
