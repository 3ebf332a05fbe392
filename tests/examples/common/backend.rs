//! The one place that knows which backend runs: its crate, its device type, and how to make a device. The rest of
//! a demo is the same on every backend.
//!
//! The crate's cargo features choose: tch where it is on, else ort, else candle.

/// The backend's crate, under the name that the demos use. It brings the runtime, pools and stats with it.
#[cfg(not(any(feature = "tch", feature = "ort")))]
pub(crate) use skep_backend_candle as skep;
#[cfg(all(feature = "ort", not(feature = "tch")))]
pub(crate) use skep_backend_ort as skep;
#[cfg(feature = "tch")]
pub(crate) use skep_backend_tch as skep;

use skep::runtime::BoxError;

/// Where the demos run.
#[cfg(not(any(feature = "tch", feature = "ort")))]
pub(crate) type DemoDevice = skep::CandleDevice;
#[cfg(all(feature = "ort", not(feature = "tch")))]
pub(crate) type DemoDevice = skep::OrtDevice;
#[cfg(feature = "tch")]
pub(crate) type DemoDevice = skep::TchDevice;

/// The blocks that run there.
#[cfg(not(any(feature = "tch", feature = "ort")))]
pub(crate) type DemoBlock = skep::CandleBlock;
#[cfg(all(feature = "ort", not(feature = "tch")))]
pub(crate) type DemoBlock = skep::OrtBlock;
#[cfg(feature = "tch")]
pub(crate) type DemoBlock = skep::TchBlock;

/// What the backend is called.
#[cfg(not(any(feature = "tch", feature = "ort")))]
pub(crate) const BACKEND: &str = "candle";
#[cfg(all(feature = "ort", not(feature = "tch")))]
pub(crate) const BACKEND: &str = "ort";
#[cfg(feature = "tch")]
pub(crate) const BACKEND: &str = "tch";

/// The device that the environment variable `SKEP_DEVICE` names: `cpu` (also when it is not set), `cuda` or
/// `metal`. `threads` is how many threads one operation may use on a CPU; `None` leaves it to the backend.
pub(crate) fn device(threads: Option<usize>) -> Result<DemoDevice, BoxError> {
    let wanted = std::env::var_os("SKEP_DEVICE").unwrap_or_else(|| "cpu".into());
    match wanted.to_str() {
        Some("cpu") => cpu(threads),
        Some("cuda") => Ok(DemoDevice::cuda(0)?),
        #[cfg(not(any(feature = "tch", feature = "ort")))]
        Some("metal") => Ok(DemoDevice::metal(0)?),
        _ => Err(format!("SKEP_DEVICE is `{}`, expected a device of {BACKEND}", wanted.display()).into()),
    }
}

/// The processor.
#[allow(clippy::unnecessary_wraps, reason = "one of the backends may lack its library")]
pub(crate) fn cpu(threads: Option<usize>) -> Result<DemoDevice, BoxError> {
    let device = DemoDevice::cpu_with(skep::CpuOptions::default().threads(threads));
    // The others are always there.
    #[cfg(all(feature = "ort", not(feature = "tch")))]
    let device = device?;
    Ok(device)
}
