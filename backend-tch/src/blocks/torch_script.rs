//! Blocks that others have made: `TorchScript` files, as `torch.jit.save` writes them.

use crate::block::{Layers, Tch, VarBuilder};
use crate::shim::{self, Script};
use skep_runtime_core::{BoxError, DeviceError, Dim, Schema, TensorSpec};
use skep_toolkit::blocks::{Signature, Spec, schema};
use skep_toolkit::{Computes, Config, ConfigError, dtype_named};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tch::{TchError, Tensor};

/// The module in a `TorchScript` file (`.pt`), by its method `forward`, which takes tensors and gives a tensor or
/// a tuple or list of tensors.
///
/// Its parameters and buffers keep their names. A parameter that needs a gradient in the file is trained where
/// the block has an optimizer; the module is in its training mode during backward passes and in its evaluation
/// mode else. What comes out is found by the runtime in one dummy run, unless
/// [`with_outputs`](skep_toolkit::Block::with_outputs) says it.
///
/// ```
/// use skep_backend_tch::blocks::TorchScript;
/// use skep_backend_tch::prelude::*;
/// use skep_backend_tch::runtime::DType;
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("scale.pt");
/// let source = "def forward(self, x):\n    return x * self.scale\n";
/// let scale = Tensor::from_slice(&[2.0_f32]);
/// TorchScript::save(&file, source, &[("scale", scale, true)])?;
///
/// let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[3])])?;
/// let mut block = TchBlock::of("scale", TorchScript { file, inputs })?;
/// block.load(&TchDevice::cpu())?;
/// let y = block.forward(&[Tensor::from_slice(&[1.0_f32, 2.0, 3.0]).f_reshape([1, 3])?])?;
/// assert_eq!(y[0], Tensor::from_slice(&[2.0_f32, 4.0, 6.0]).f_reshape([1, 3])?);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchScript {
    /// The file.
    pub file: PathBuf,
    /// The inputs of `forward`, in order.
    pub inputs: Schema,
}

/// The reason why a `TorchScript` file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The file is missing or cannot be read.
    #[error("TorchScript file {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a whole `TorchScript` file: torn, or something else.
    #[error("file {} is not a whole TorchScript file", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// libtorch's error.
        source: DeviceError,
    },
}

impl TorchScript {
    /// Writes a `TorchScript` file, without Python: `source` holds the method `forward` (and others that it
    /// calls) in `TorchScript`'s language; `values` are what it finds under `self`, each with whether it is
    /// trained. Types other than `Tensor` need annotations.
    ///
    /// # Errors
    ///
    /// Returns an error if the source is wrong or the file cannot be written; libtorch's message names the line.
    pub fn save(file: &Path, source: &str, values: &[(&str, Tensor, bool)]) -> Result<(), TchError> {
        shim::save_script(source, values, file)
    }
}

impl Spec for TorchScript {
    const KIND: &'static str = "torch_script";

    /// Reads `file` and `inputs`: the tensors that `forward` takes, in order and with spaces between them, each
    /// as `name:dtype[dims of a row]`, with `x` between the dims. `..128` is a dim that differs from task to
    /// task, up to 128: `ids:i64[..128] weights:f32[3x4] label:u8[]`.
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["file", "inputs"])?;
        let text: String = config.required("inputs")?;
        let invalid = |got: &str| {
            ConfigError::invalid("inputs", got, "tensors like `x:f32[3x4]`, with spaces between them")
        };
        let specs = text.split_whitespace().map(|part| spec(part).ok_or_else(|| invalid(part)));
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        if specs.is_empty() {
            return Err(invalid(&text));
        }
        Ok(Self { file: config.required::<String>("file")?.into(), inputs: schema(specs)? })
    }

    /// Says what goes in. The file is read when the block is loaded.
    fn signature(&self) -> Result<Signature, ConfigError> {
        Ok(Signature { inputs: self.inputs.clone(), outputs: None, weights: None, backward: true })
    }
}

impl Computes<TorchScript> for Tch {
    fn layers(spec: &TorchScript, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(Module::load(&spec.file, vb)?))
    }
}

/// `name:dtype[dims]`.
fn spec(text: &str) -> Option<TensorSpec> {
    let (name, rest) = text.split_once(':')?;
    let (dtype, dims) = rest.strip_suffix(']')?.split_once('[')?;
    let dtype = dtype_named(dtype)?;
    let dim = |text: &str| {
        Some(match text.strip_prefix("..") {
            Some(max) => Dim::Free { max: max.parse().ok()? },
            None => Dim::Fixed(text.parse().ok()?),
        })
    };
    let row = dims.split('x').filter(|_| !dims.is_empty()).map(dim).collect::<Option<Vec<_>>>()?;
    let named = !name.is_empty();
    named.then(|| TensorSpec::new(name, dtype, [vec![Dim::Batch], row].concat()))
}

struct Module {
    script: Script,
    /// The mode that the module is in, once it was set: setting it walks through all of the module's parts.
    training: Cell<Option<bool>>,
}

impl Module {
    fn load(file: &Path, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        // libtorch tells a missing file from a torn one in its text only.
        File::open(file).map_err(|source| ScriptError::Read { path: file.to_owned(), source })?;
        let script = Script::load(file, vb.device().cuda_ordinal()).map_err(|error| ScriptError::Torn {
            path: file.to_owned(),
            source: vb.device().failure(error),
        })?;
        for named in script.tensors()? {
            vb.adopt(&named.name, named.parameter, named.tensor);
        }
        Ok(Self { script, training: Cell::new(None) })
    }
}

impl Layers for Module {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self.script.forward(inputs)
    }

    fn training(&self, on: bool) -> Result<(), TchError> {
        if self.training.get() != Some(on) {
            self.script.train(on)?;
            self.training.set(Some(on));
        }
        Ok(())
    }
}
