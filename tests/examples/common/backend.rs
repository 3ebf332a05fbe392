//! The one place that knows which backend runs: its crate, its device type, and how to make a device.

use super::Result;

/// The backend's crate, under the name that the demos use. It brings the runtime, pools and stats with it.
#[cfg(feature = "candle")]
pub(crate) use skep_backend_candle as skep;

/// Where the demos run.
#[cfg(feature = "candle")]
pub(crate) type DemoDevice = skep::CandleDevice;

/// The device that the environment variable `SKEP_DEVICE` names: `cpu` (also when it is not set), `cuda` or
/// `metal`. `threads` is how many threads one product of matrices may use on a CPU; `None` leaves it to the
/// backend.
#[cfg(feature = "candle")]
pub(crate) fn device(threads: Option<usize>) -> Result<DemoDevice> {
    let wanted = std::env::var_os("SKEP_DEVICE").unwrap_or_else(|| "cpu".into());
    match wanted.to_str() {
        Some("cpu") => Ok(DemoDevice::cpu_with(skep::CpuOptions { threads, ..skep::CpuOptions::default() })),
        Some("cuda") => Ok(DemoDevice::cuda(0)?),
        Some("metal") => Ok(DemoDevice::metal(0)?),
        _ => Err(format!("SKEP_DEVICE is `{}`, expected cpu, cuda or metal", wanted.display()).into()),
    }
}
