//! The one table of combinations of backend and device: what cargo must enable for each, what the machine
//! must have, and why a combination is not possible.

use crate::combination::choice::{Choice, name};
use crate::combination::need::Need;
use crate::error::Error;
use crate::fetch::{cuda, libtorch, onnxruntime};
use clap::ValueEnum;
use std::fmt;
use std::process::Command;

/// A tensor library that blocks run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Candle,
    Tch,
    Ort,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    Cpu,
    Cuda,
    Metal,
}

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Combination {
    pub(crate) backend: Backend,
    pub(crate) device: Device,
    pub(crate) support: Support,
}

/// Whether a combination is there, and what it takes.
#[derive(Debug)]
pub(crate) enum Support {
    Available {
        /// Cargo features, each with its package, so that they hold for every selection of packages.
        features: &'static [&'static str],
        /// What compiling without linking (lint, doc) needs of the machine.
        check: &'static [Need],
        /// What linking needs of the machine.
        build: &'static [Need],
        /// What running on the device needs of the machine.
        run: &'static [Need],
    },
    /// Not possible on any machine, and why.
    Absent(&'static str),
}

/// How much of a combination a step uses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    /// Compile without linking.
    Check,
    /// Link, and no more.
    Build,
    /// Link, and run on the device.
    Run,
}

/// Every combination there is.
pub(crate) const COMBINATIONS: [Combination; 9] = [
    Combination {
        backend: Backend::Candle,
        device: Device::Cpu,
        support: Support::Available { features: &["skep-tests/candle"], check: &[], build: &[], run: &[] },
    },
    Combination {
        backend: Backend::Candle,
        device: Device::Cuda,
        support: Support::Available {
            features: &["skep-tests/candle", "skep-backend-candle/cuda"],
            check: &[Need::Nvcc],
            build: &[Need::Nvcc],
            run: &[Need::Nvcc, Need::NvidiaGpu],
        },
    },
    Combination {
        backend: Backend::Candle,
        device: Device::Metal,
        support: Support::Available {
            features: &["skep-tests/candle", "skep-backend-candle/metal"],
            check: &[Need::MacOs],
            build: &[Need::MacOs],
            run: &[Need::MacOs],
        },
    },
    Combination {
        backend: Backend::Tch,
        device: Device::Cpu,
        support: Support::Available {
            features: &["skep-tests/tch"],
            check: &[],
            build: &[Need::Libtorch],
            run: &[Need::Libtorch],
        },
    },
    Combination {
        backend: Backend::Tch,
        device: Device::Cuda,
        support: Support::Available {
            features: &["skep-tests/tch"],
            // The code is that of the row above, and only what it is linked with is another.
            check: &[Need::CudaLibtorch],
            build: &[Need::Libtorch],
            run: &[Need::CudaLibtorch, Need::NvidiaGpu],
        },
    },
    Combination {
        backend: Backend::Tch,
        device: Device::Metal,
        support: Support::Absent("backend tch has no metal device"),
    },
    Combination {
        backend: Backend::Ort,
        device: Device::Cpu,
        support: Support::Available {
            features: &["skep-tests/ort"],
            // ONNX Runtime is loaded when a device is made.
            check: &[],
            build: &[],
            run: &[Need::OnnxRuntime],
        },
    },
    Combination {
        backend: Backend::Ort,
        device: Device::Cuda,
        support: Support::Available {
            features: &["skep-tests/ort", "skep-backend-ort/cuda"],
            check: &[],
            build: &[],
            run: &[Need::CudaOnnxRuntime, Need::NvidiaGpu],
        },
    },
    Combination {
        backend: Backend::Ort,
        device: Device::Metal,
        support: Support::Absent("backend ort has no metal device"),
    },
];

/// The rows that match, in the table's order.
pub(crate) fn select(backend: Choice<Backend>, device: Choice<Device>) -> Vec<&'static Combination> {
    COMBINATIONS.iter().filter(|it| backend.covers(&it.backend) && device.covers(&it.device)).collect()
}

impl Combination {
    /// Why a step cannot use this combination, or `None` when it can. `has` tells what the machine has.
    pub(crate) fn obstacle(&self, usage: Use, has: impl Fn(Need) -> bool) -> Option<&'static str> {
        match (&self.support, usage) {
            (Support::Absent(why), _) => Some(why),
            (Support::Available { check: needs, .. }, Use::Check)
            | (Support::Available { build: needs, .. }, Use::Build)
            | (Support::Available { run: needs, .. }, Use::Run) => {
                needs.iter().find(|need| !has(**need)).map(|need| need.lack())
            }
        }
    }

    /// Gets what a step that links needs and the machine does not have yet.
    pub(crate) fn prepare(&self, usage: Use) -> Result<(), Error> {
        match (self.backend, self.device, usage) {
            (Backend::Tch, _, Use::Build | Use::Run) => libtorch::get().map(|_| ()),
            (Backend::Candle, Device::Cuda, _) => cuda::get().map(|_| ()),
            (Backend::Ort, _, Use::Run) => onnxruntime::get().map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Tells cargo's build scripts, and programs, what they cannot find by themselves.
    pub(crate) fn tell(&self, command: &mut Command) {
        if let (Backend::Candle, Device::Cuda, Some(toolkit)) = (self.backend, self.device, cuda::found()) {
            toolkit.tell(command);
        }
        if self.backend == Backend::Ort {
            onnxruntime::tell(command);
        }
    }

    /// Which packages cargo is to work on, and how.
    ///
    /// The workspace's default members are all that can be built without libtorch. backend tch adds itself and the
    /// suite, in which the backends are then compared. Where libtorch is missing, it can be checked and documented,
    /// and no more.
    pub(crate) fn packages(&self) -> &'static [&'static str] {
        const TCH: [&str; 5] = [
            "--package=skep-backend-tch",
            "--package=skep-tests",
            // The door is that of all backends; with both, models run on libtorch.
            "--package=skep-server",
            "--features=skep-server/tch",
            "--features=skep-backend-tch/doc-only",
        ];
        const ORT: [&str; 2] = ["--package=skep-backend-ort", "--package=skep-tests"];
        match self.backend {
            Backend::Candle => &[],
            // The others have been built and tested with candle.
            Backend::Ort => &ORT,
            Backend::Tch if libtorch::is_there() => &TCH[..4],
            Backend::Tch => &TCH,
        }
    }

    /// The cargo features, none where the combination is absent.
    pub(crate) fn features(&self) -> &'static [&'static str] {
        match self.support {
            Support::Available { features, .. } => features,
            Support::Absent(_) => &[],
        }
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", name(&self.backend), name(&self.device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete() {
        for backend in Backend::value_variants() {
            for device in Device::value_variants() {
                assert_eq!(select(Choice::One(*backend), Choice::One(*device)).len(), 1);
            }
        }
        assert_eq!(select(Choice::All, Choice::All).len(), COMBINATIONS.len());
    }

    #[test]
    fn each_combination_can_run_or_says_why_not() {
        for combination in &COMBINATIONS {
            for usage in [Use::Check, Use::Build, Use::Run] {
                let reason = combination.obstacle(usage, |_| false);
                let possible = combination.obstacle(usage, |_| true).is_none();
                assert!(reason.is_none_or(|reason| !reason.is_empty()));
                assert_eq!(possible, !combination.features().is_empty(), "{combination}");
            }
        }
    }

    #[test]
    fn candle_on_the_cpu_needs_nothing() {
        assert_eq!(COMBINATIONS[0].to_string(), "candle cpu");
        assert_eq!(COMBINATIONS[0].obstacle(Use::Run, |_| false), None);
    }

    #[test]
    fn the_first_need_that_is_missing_is_named() {
        let cuda = &COMBINATIONS[1];
        assert_eq!(cuda.obstacle(Use::Run, |_| false), Some(Need::Nvcc.lack()));
        assert_eq!(cuda.obstacle(Use::Run, |need| need == Need::Nvcc), Some(Need::NvidiaGpu.lack()));
        assert_eq!(cuda.obstacle(Use::Check, |need| need == Need::Nvcc), None);
    }

    #[test]
    fn building_for_a_gpu_takes_none() {
        let cuda = select(Choice::All, Choice::One(Device::Cuda));
        for cuda in cuda.into_iter().filter(|it| !it.features().is_empty()) {
            assert_eq!(cuda.obstacle(Use::Build, |need| need != Need::NvidiaGpu), None, "{cuda}");
            assert_eq!(cuda.obstacle(Use::Run, |need| need != Need::NvidiaGpu), Some(Need::NvidiaGpu.lack()));
        }
    }
}
