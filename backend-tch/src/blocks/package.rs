//! Blocks that others have compiled: `.pt2` packages, as `torch._inductor.aoti_compile_and_package` writes them.

use super::inputs_text::inputs_of;
use super::nested::Nested;
use crate::block::{Layers, Tch, VarBuilder};
use crate::device::TchDevice;
use crate::shim::{Compiled, package_metadata};
use skep_runtime_core::{BoxError, Chain, DeviceError, Dim, HostTensor, Schema, TensorOps, TensorSpec};
use skep_toolkit::blocks::{Signature, Spec};
use skep_toolkit::{Computes, Config, ConfigError};
use std::collections::BTreeMap;
use std::env::consts::{ARCH, OS};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tch::{TchError, Tensor};

/// The libtorch that this crate is built with.
const TORCH: &str = "2.11.0";
/// What a package may tell of its inputs, under a key of its maker's.
const INPUTS: &str = "inputs";
/// What it may tell of the `PyTorch` that has compiled it.
const VERSION: &str = "torch";

/// A model in a compiled package (`.pt2`), forward only. It takes tensors, and gives a tensor, or tuples, lists and dicts of
/// tensors, whose keys are the outputs' names.
///
/// A package is made in Python, for one kind of device and processor. The rows must be dynamic:
///
/// ```python
/// rows = torch.export.Dim("rows", min=1, max=4096)
/// exported = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: rows},))
/// torch._inductor.aoti_compile_and_package(exported, package_path="model.pt2", inductor_configs={
///     "aot_inductor.metadata": {"inputs": "x:f32[4]", "torch": torch.__version__},
///     "aot_inductor.check_lowerbound": False,
/// })
/// ```
///
/// `inputs`, which has the form of the setting of that name of [`TorchScript`](super::TorchScript), spares an application from
/// saying it; `torch` has a package of another version refused before its code is loaded. **A package is machine code, which
/// is run: load none that you do not trust.** Code that was compiled with `-march=native`, which is the default, may not run
/// on other processors, and only the widest vector instructions are told.
///
/// ```no_run
/// use skep_backend_tch::blocks::Package;
/// use skep_backend_tch::prelude::*;
///
/// let block = TchBlock::of("expert", Package::open("model.pt2")?)?;
/// # drop(block);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Package {
    /// The file.
    pub file: PathBuf,
    /// The inputs, in order.
    pub inputs: Schema,
}

/// The reason why a package cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The file is missing or cannot be read.
    #[error("package {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a whole package: torn, or something else.
    #[error("file {} is not a whole compiled package (`.pt2`)", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// libtorch's error.
        source: DeviceError,
    },
    /// The package tells nothing of its inputs.
    #[error("package {} tells nothing of its inputs, expected `{INPUTS}` in its metadata, or inputs that are given", .path.display())]
    NoInputs {
        /// The file.
        path: PathBuf,
    },
    /// The package is for something else than what it is to run on, or with.
    #[error("package {} is compiled for {what} {got}, expected {expected}", .path.display())]
    CompiledFor {
        /// The file.
        path: PathBuf,
        /// `device`, `system`, `processor`, `instructions` or `PyTorch`.
        what: &'static str,
        /// That of the package.
        got: String,
        /// Those that would be right.
        expected: String,
    },
    /// The package takes another number of tensors.
    #[error("package {} takes {expected} tensors, and there are {got} inputs", .path.display())]
    WrongInputs {
        /// The file.
        path: PathBuf,
        /// What the package takes.
        expected: usize,
        /// What the block is given.
        got: usize,
    },
    /// The package does not take batches as they come.
    #[error("package {} does not take {rows} rows, expected any number from 1 on: export it with dynamic rows, `Dim(\"rows\", min=1)`, and compile it with `aot_inductor.check_lowerbound` off", .path.display())]
    FixedRows {
        /// The file.
        path: PathBuf,
        /// The rows that it did not take.
        rows: usize,
        /// The error of the compiled code.
        source: DeviceError,
    },
    /// The package's code cannot be loaded.
    #[error("code of package {} cannot be loaded; it must be compiled by PyTorch {TORCH}", .path.display())]
    Code {
        /// The file.
        path: PathBuf,
        /// libtorch's error.
        source: DeviceError,
    },
}

impl Package {
    /// Names a file whose model takes these inputs.
    pub fn new(file: impl Into<PathBuf>, inputs: Schema) -> Self {
        Self { file: file.into(), inputs }
    }

    /// Names a file that tells itself what its model takes.
    ///
    /// # Errors
    ///
    /// Returns [`PackageError::Read`] or [`PackageError::Torn`] if it cannot be read, [`PackageError::NoInputs`] if it does
    /// not tell, and a [`ConfigError`] if it tells what is no list of inputs.
    pub fn open(file: impl Into<PathBuf>) -> Result<Self, BoxError> {
        let file = file.into();
        match metadata(&file)?.get(INPUTS) {
            Some(text) => Ok(Self { inputs: inputs_of(text)?, file }),
            None => Err(PackageError::NoInputs { path: file }.into()),
        }
    }
}

fn metadata(file: &Path) -> Result<BTreeMap<String, String>, PackageError> {
    let path = || file.to_owned();
    // libtorch tells a missing file from a torn one in its text only.
    File::open(file).map_err(|source| PackageError::Read { path: path(), source })?;
    let torn = |error| PackageError::Torn { path: path(), source: TchDevice::cpu().failure(error) };
    let found = package_metadata(file).map_err(torn)?;
    if found.is_empty() {
        let none = TchError::Torch("it has no metadata of a compiled model".to_owned());
        return Err(torn(none));
    }
    Ok(found)
}

impl Spec for Package {
    const KIND: &'static str = "package";

    /// Reads `file` and, unless the package tells them, `inputs`, as for `torch_script`.
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["file", "inputs"])?;
        let file: String = config.required("file")?;
        match config.optional::<String>("inputs")? {
            Some(text) => Ok(Self::new(file, inputs_of(&text)?)),
            None => Self::open(&file)
                .map_err(|error| ConfigError::caused("file", file, "a package that tells its inputs", error)),
        }
    }

    /// Says what goes in. The code is loaded with the block.
    fn signature(&self) -> Result<Signature, ConfigError> {
        Ok(Signature { inputs: self.inputs.clone(), outputs: None, weights: None, backward: false })
    }
}

impl Computes<Package> for Tch {
    fn layers(spec: &Package, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(Model::load(spec, vb.device())?))
    }
}

struct Model {
    compiled: Compiled,
    /// The inputs' names.
    inputs: Vec<String>,
    /// The outputs' names.
    outputs: Vec<String>,
}

impl Model {
    fn load(spec: &Package, device: &TchDevice) -> Result<Self, BoxError> {
        let Package { file, inputs } = spec;
        let path = || file.clone();
        check(file, &metadata(file)?, device)?;
        let (compiled, texts) = Compiled::load(file, device.cuda_ordinal())
            .map_err(|error| PackageError::Code { path: path(), source: device.failure(error) })?;
        let names = |at: usize| texts.get(at).map(|text| Nested::read(text)).transpose();
        let (Some(taken), Some(given)) = (names(0)?, names(1)?) else {
            return Err("package does not tell how its inputs and outputs are nested".into());
        };
        let (expected, got) = (taken.leaves(), inputs.tensors().len());
        if expected != got {
            return Err(PackageError::WrongInputs { path: path(), expected, got }.into());
        }
        let names = inputs.tensors().iter().map(|spec| spec.name().to_owned()).collect();
        let model = Self { compiled, inputs: names, outputs: given.names() };
        model.check_rows(spec, device)?;
        Ok(model)
    }

    /// Batches have any number of rows; the code tells which it was compiled for. Any other error is the dummy run's to tell.
    fn check_rows(&self, spec: &Package, device: &TchDevice) -> Result<(), BoxError> {
        for rows in [1, 2] {
            let zeros = spec.inputs.tensors().iter().map(|input| zeros(device, input, rows));
            if let Err(error) = self.forward(&zeros.collect::<Result<Vec<_>, _>>()?) {
                let source = device.failure(error);
                let told = Chain(&source).to_string();
                if ["unmatched dim value at 0", "too small at 0", "too large at 0"]
                    .iter()
                    .any(|words| told.contains(words))
                {
                    return Err(PackageError::FixedRows { path: spec.file.clone(), rows, source }.into());
                }
            }
        }
        Ok(())
    }
}

/// The longest free dim that rows are checked with.
const LONGEST: usize = 16;

fn zeros(device: &TchDevice, input: &TensorSpec, rows: usize) -> Result<Tensor, BoxError> {
    let size = |dim: &Dim| match *dim {
        Dim::Batch => rows,
        Dim::Fixed(size) => size,
        Dim::Free { max, .. } => max.min(LONGEST),
    };
    let dims: Vec<usize> = input.dims().iter().map(size).collect();
    let zeros = HostTensor::zeros(input.dtype(), &dims).ok_or("input is too large to be checked")?;
    Ok(device.from_host(&zeros)?.f_to(device.place())?)
}

/// Checks that a package is for this device, this processor and this libtorch.
fn check(file: &Path, metadata: &BTreeMap<String, String>, device: &TchDevice) -> Result<(), PackageError> {
    let kind = if device.cuda_ordinal().is_some() { "cuda" } else { "cpu" };
    let system = match OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let same = |what, key: &str, own: &[&str]| {
        let got = metadata.get(key).filter(|got| !own.iter().any(|own| got.eq_ignore_ascii_case(own)));
        match got {
            Some(got) => Err(PackageError::CompiledFor {
                path: file.to_owned(),
                what,
                got: got.clone(),
                expected: own.first().copied().unwrap_or_default().to_owned(),
            }),
            None => Ok(()),
        }
    };
    same("device", "AOTI_DEVICE_KEY", &[kind])?;
    same("system", "AOTI_PLATFORM", &[system])?;
    same("processor", "AOTI_MACHINE", if ARCH == "x86_64" { &[ARCH, "AMD64"] } else { &[ARCH, "arm64"] })?;
    if let Some(isa) = metadata.get("AOTI_CPU_ISA").filter(|_| kind == "cpu") {
        let lacks = isa.split_whitespace().find(|name| !has_instructions(name));
        if let Some(name) = lacks {
            return Err(PackageError::CompiledFor {
                path: file.to_owned(),
                what: "instructions",
                got: name.to_owned(),
                expected: "those of this processor".to_owned(),
            });
        }
    }
    if let Some(version) = metadata.get(VERSION).filter(|version| version.split('+').next() != Some(TORCH)) {
        let (path, got, expected) = (file.to_owned(), version.clone(), TORCH.to_owned());
        return Err(PackageError::CompiledFor { path, what: "PyTorch", got, expected });
    }
    Ok(())
}

/// Whether the processor has the vector instructions of this name of `PyTorch`'s. A name that is not known is none of those
/// that can be missing.
fn has_instructions(name: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    match name.to_ascii_lowercase().as_str() {
        "avx2" => return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        "avx512" => {
            return is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw");
        }
        _ => {}
    }
    let _ = name;
    true
}

impl Layers for Model {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let outputs = self.compiled.run(inputs).map_err(|error| self.named(error))?;
        if outputs.len() != self.outputs.len() {
            let (got, expected) = (outputs.len(), self.outputs.len());
            return Err(TchError::Torch(format!("package gave {got} tensors, expected {expected}")));
        }
        Ok(outputs)
    }

    fn read_through(&self) -> bool {
        true
    }

    fn output_names(&self) -> Vec<String> {
        self.outputs.clone()
    }
}

impl Model {
    /// Names the input that compiled code gives the number of.
    fn named(&self, error: TchError) -> TchError {
        let TchError::Torch(mut text) = error else { return error };
        for (at, name) in self.inputs.iter().enumerate() {
            text = text.replace(&format!("input_handles[{at}]"), &format!("input `{name}`"));
        }
        TchError::Torch(text)
    }
}
