//! The backends that are switched on, as subjects of the suite.
//!
//! The environment variable `SKEP_DEVICE` names the device: `cpu` (also when it is not set), `cuda` or `metal`. It
//! speaks of the backend that the features choose for the demos and benchmarks, too: tch where it is on,
//! else ort, else candle. A backend beside that one is what it is compared with, and stays on the host's processor.
//!
//! The suite asks the same of every device. Tolerances are those of full f32, which is what both libraries compute with
//! on a GPU unless they are told otherwise: devices then differ in the order of their sums alone. What is compared to the
//! bit is a copy, or comes twice from the same kernels with the same dims. No GPU has run it yet.

#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "backend")]
mod named;
#[cfg(feature = "ort")]
mod ort;
#[cfg(feature = "tch")]
mod tch;

#[cfg(feature = "candle")]
pub use candle::Candle;
#[cfg(feature = "ort")]
pub use ort::Ort;
#[cfg(feature = "tch")]
pub use tch::Tch;
