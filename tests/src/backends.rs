//! The backends that are switched on, as subjects of the suite, on the host's processor.

/// Makes a subject of a backend's crate: all of them have the same names, but for device and block.
#[cfg(feature = "backend")]
macro_rules! backend {
    ($(#[$meta:meta])* $name:ident: $library:ident, $device:ident) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $name;

        impl $crate::Subject for $name {
            type Device = $library::$device;

            fn device() -> Self::Device {
                Self::Device::cpu()
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

#[cfg(feature = "candle")]
backend! {
    /// Backend candle.
    Candle: skep_backend_candle, CandleDevice
}

#[cfg(feature = "tch")]
backend! {
    /// Backend tch.
    Tch: skep_backend_tch, TchDevice
}
