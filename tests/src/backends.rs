//! The backends that are switched on, as subjects of the suite.
//!
//! The environment variable `SKEP_DEVICE` names the device: `cpu` (also when it is not set), `cuda` or `metal`. It
//! speaks of the backend that the features choose for the demos and benchmarks, too: tch if it is on, else candle.
//! If both are on, tch is compared with candle, which stays on the host's processor.
//!
//! The suite asks the same of every device. Tolerances are those of full f32, which is what both libraries compute with
//! on a GPU unless they are told otherwise: devices then differ in the order of their sums alone. A comparison to the
//! bit is of copies, or of results that come twice from the same kernels with the same dims. No GPU has run it yet.

#[cfg(feature = "backend")]
use skep_runtime_core::DeviceError;
#[cfg(feature = "backend")]
use std::ffi::OsStr;

/// Makes a subject of a backend's crate: all of them have the same names, but for device and block.
#[cfg(feature = "backend")]
macro_rules! backend {
    ($(#[$meta:meta])* $name:ident: $library:ident, $device:ident, [$($kind:ident),*], $chosen:expr) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::Subject for $name {
            type Device = $library::$device;

            fn device() -> Self::Device {
                let kinds: &[Kind<Self::Device>] = &[
                    ("cpu", || Ok($library::$device::cpu())),
                    $((stringify!($kind), || $library::$device::$kind(0)),)*
                ];
                let named = std::env::var_os("SKEP_DEVICE").filter(|_| $chosen);
                device(named.as_deref().unwrap_or(OsStr::new("cpu")), kinds)
            }
        }

        impl $crate::Learner for $name {
            fn block(
                kind: &str,
                name: &str,
                config: $library::Config,
                optimizer: Option<$library::Optimizer>,
            ) -> impl skep_runtime_core::Backend<Self::Device> {
                let block = $library::Registry::with_defaults().build(kind, name, &config).unwrap();
                match optimizer {
                    Some(optimizer) => block.with_optimizer(optimizer),
                    None => block,
                }
            }
        }
    };
}

/// A device's name, and the function that makes it.
#[cfg(feature = "backend")]
type Kind<D> = (&'static str, fn() -> Result<D, DeviceError>);

/// Makes the device of this name, which must be there: a test that falls back to another one shows nothing.
#[cfg(feature = "backend")]
fn device<D>(name: &OsStr, kinds: &[Kind<D>]) -> D {
    let Some((_, make)) = kinds.iter().find(|(kind, _)| name == *kind) else {
        let known: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
        panic!("SKEP_DEVICE is `{}`, expected one of {}", name.display(), known.join(", "));
    };
    make().unwrap_or_else(|error| panic!("SKEP_DEVICE is `{}`: {error}", name.display()))
}

#[cfg(feature = "candle")]
backend! {
    /// Backend candle.
    Candle: skep_backend_candle, CandleDevice, [cuda, metal], cfg!(not(feature = "tch"))
}

#[cfg(feature = "tch")]
backend! {
    /// Backend tch.
    Tch: skep_backend_tch, TchDevice, [cuda], true
}

#[cfg(all(test, feature = "backend"))]
mod tests {
    use super::*;
    use skep_runtime_core::testing::FakeDevice;

    const KINDS: &[Kind<FakeDevice>] =
        &[("cpu", || Ok(FakeDevice::new())), ("cuda", || Err(DeviceError::operation("no driver")))];

    #[test]
    #[should_panic(expected = "SKEP_DEVICE is `gpu`, expected one of cpu, cuda")]
    fn an_unknown_device_is_told_with_the_known_ones() {
        device(OsStr::new("gpu"), KINDS);
    }

    #[test]
    #[should_panic(expected = "SKEP_DEVICE is `cuda`: no driver")]
    fn a_device_that_is_not_there_is_told() {
        device(OsStr::new("cuda"), KINDS);
    }
}
