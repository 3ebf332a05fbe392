//! The backends that this program was built with.

use crate::Result;
use crate::work::block_of;
use skep_runtime_core::{Backend, Device};

/// A backend on the processor.
pub(crate) trait Engine: 'static {
    type Device: Device + Clone;

    const NAME: &'static str;

    fn device(threads: usize) -> Result<Self::Device>;

    /// A device of one thread, on this core if the backend can keep it there.
    fn device_on(core: usize) -> Result<Self::Device> {
        let _ = core;
        Self::device(1)
    }

    /// The block of a kind of the registry.
    fn block(kind: &str, name: &str, config: &str) -> Result<Box<dyn Backend<Self::Device>>>;
}

#[cfg(feature = "candle")]
pub(crate) struct Candle;

#[cfg(feature = "candle")]
impl Engine for Candle {
    type Device = skep_backend_candle::CandleDevice;

    const NAME: &'static str = "candle";

    fn device(threads: usize) -> Result<Self::Device> {
        use skep_backend_candle::{CandleDevice, CpuOptions};
        Ok(CandleDevice::cpu_with(CpuOptions::default().threads(Some(threads))))
    }

    fn device_on(core: usize) -> Result<Self::Device> {
        use skep_backend_candle::{CandleDevice, CpuOptions};
        Ok(CandleDevice::cpu_with(CpuOptions::default().threads(1).first_core(core)))
    }

    fn block(kind: &str, name: &str, config: &str) -> Result<Box<dyn Backend<Self::Device>>> {
        Ok(block_of(skep_backend_candle::Registry::with_defaults().build(kind, name, &config.parse()?)?))
    }
}

#[cfg(feature = "tch")]
pub(crate) struct Tch;

#[cfg(feature = "tch")]
impl Engine for Tch {
    type Device = skep_backend_tch::TchDevice;

    const NAME: &'static str = "tch";

    fn device(threads: usize) -> Result<Self::Device> {
        use skep_backend_tch::{CpuOptions, TchDevice};
        Ok(TchDevice::cpu_with(CpuOptions::default().threads(Some(threads))))
    }

    fn block(kind: &str, name: &str, config: &str) -> Result<Box<dyn Backend<Self::Device>>> {
        Ok(block_of(skep_backend_tch::Registry::with_defaults().build(kind, name, &config.parse()?)?))
    }
}

#[cfg(feature = "ort")]
pub(crate) struct Ort;

#[cfg(feature = "ort")]
impl Engine for Ort {
    type Device = skep_backend_ort::OrtDevice;

    const NAME: &'static str = "ort";

    fn device(threads: usize) -> Result<Self::Device> {
        use skep_backend_ort::{CpuOptions, OrtDevice};
        Ok(OrtDevice::cpu_with(CpuOptions::default().threads(Some(threads)))?)
    }

    fn block(kind: &str, name: &str, config: &str) -> Result<Box<dyn Backend<Self::Device>>> {
        Ok(block_of(skep_backend_ort::Registry::with_defaults().build(kind, name, &config.parse()?)?))
    }
}

/// Runs a contest for each backend that this program was built with.
macro_rules! for_each_backend {
    ($contest:ident($($argument:expr),*)) => {{
        #[cfg(feature = "candle")]
        $contest::<$crate::processor::engines::Candle>($($argument),*)?;
        #[cfg(feature = "tch")]
        $contest::<$crate::processor::engines::Tch>($($argument),*)?;
        #[cfg(feature = "ort")]
        $contest::<$crate::processor::engines::Ort>($($argument),*)?;
    }};
}
pub(crate) use for_each_backend;
