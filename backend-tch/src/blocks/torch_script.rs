//! Blocks that others have made: `TorchScript` files, as `torch.jit.save` writes them.

use super::inputs_text::inputs_of;
use crate::block::{Layers, Tch, VarBuilder};
use crate::shim::{self, Script, Value};
use skep_runtime_core::{BoxError, DeviceError, Schema, TensorSpec};
use skep_toolkit::blocks::{Signature, Spec};
use skep_toolkit::{Computes, Config, ConfigError, Draws};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tch::{TchError, Tensor};

/// A method of the module in a `TorchScript` file (`.pt`), `forward` unless another one is chosen. It takes tensors, and
/// gives a tensor, or tuples, lists and dicts of tensors; what is `None` is left out. Names in the result (of a dict, of a
/// named tuple) are the outputs' names.
///
/// Its parameters and buffers keep their names. A parameter that needs a gradient in the file is trained where
/// the block has an optimizer; the module is in its training mode during backward passes and in its evaluation
/// mode else. What comes out is found by the runtime in dummy runs, unless
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
/// let mut block = TchBlock::of("scale", TorchScript::new(file, inputs))?;
/// block.load(&TchDevice::cpu())?;
/// let y = block.forward(&[Tensor::from_slice(&[1.0_f32, 2.0, 3.0]).f_reshape([1, 3])?])?;
/// assert_eq!(y[0], Tensor::from_slice(&[2.0_f32, 4.0, 6.0]).f_reshape([1, 3])?);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
///
/// # State
///
/// A module that keeps state in attributes would pass it from one caller to the next, because callers share batches. It is
/// refused when it is loaded, by the attributes' names. Its state can be **rows** instead: an input and an output of each
/// task, so that a stream's caller hands in what the stream's last answer gave, and zeros, or what else the module begins
/// with, at first. silero-vad, for example, finds speech in audio; it remembers the last chunk and its network's state:
///
/// ```no_run
/// use skep_backend_tch::blocks::{TorchScript, Value};
/// use skep_backend_tch::prelude::*;
/// use skep_backend_tch::runtime::DType;
///
/// let rows = |name, dims: &[usize]| TensorSpec::rows(name, DType::F32, dims);
/// let inputs = Schema::new(vec![rows("audio", &[512]), rows("state", &[2, 128]), rows("context", &[64])])?;
/// let vad = TorchScript::new("silero_vad.jit", inputs)
///     .with_argument("sr", Value::Int(16_000))
///     .with_state("state", "_state", 1)
///     .with_state("context", "_context", 0)
///     .with_attribute("_last_sr", Value::Int(16_000))
///     .with_attribute("_last_batch_size", Value::Rows);
/// let block = TchBlock::of("vad", vad)?.inference_only();
/// # drop(block);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TorchScript {
    /// The file.
    pub file: PathBuf,
    /// The inputs: the method's arguments that are tensors, in order, and what is set as state.
    pub inputs: Schema,
    /// The method, with the names of the parts that it is in before it: `encoder.forward`.
    pub method: String,
    /// Arguments that have one value for good, by name.
    pub arguments: Vec<(String, Value)>,
    /// Attributes that are rows.
    pub states: Vec<State>,
    /// Attributes that are set before each call, by path.
    pub attributes: Vec<(String, Value)>,
}

/// An attribute of a module that is an input before each call, and an output after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The input's name, and the output's.
    pub input: String,
    /// The attribute, with the names of the parts that it is in before it.
    pub attribute: String,
    /// The dim of the attribute that is the rows. It is dim 0 of the input.
    pub batch_dim: usize,
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
    /// The module cannot be called as it is asked to be: another method, other arguments, or state of its own.
    #[error("module in {} cannot be called", .path.display())]
    Call {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: DeviceError,
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
    /// Names a file whose method `forward` takes these inputs.
    pub fn new(file: impl Into<PathBuf>, inputs: Schema) -> Self {
        Self {
            file: file.into(),
            inputs,
            method: "forward".to_owned(),
            arguments: Vec::new(),
            states: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// Chooses another method, with the names of the parts that it is in before it: `encoder.forward`.
    pub fn with_method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Gives an argument of the method one value for good: a sampling rate, say.
    pub fn with_argument(mut self, name: impl Into<String>, value: Value) -> Self {
        self.arguments.push((name.into(), value));
        self
    }

    /// Has an attribute set from the input of this name before each call, and given as an output after it. `batch_dim` is
    /// the dim of the attribute that is the rows.
    pub fn with_state(
        mut self,
        input: impl Into<String>,
        attribute: impl Into<String>,
        batch_dim: usize,
    ) -> Self {
        self.states.push(State { input: input.into(), attribute: attribute.into(), batch_dim });
        self
    }

    /// Has an attribute set to a value before each call.
    pub fn with_attribute(mut self, attribute: impl Into<String>, value: Value) -> Self {
        self.attributes.push((attribute.into(), value));
        self
    }

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

    /// Reads `file` and `inputs`: the tensors that the method takes, in order and with spaces between them, each
    /// as `name:dtype[dims of a row]`, with `x` between the dims. `..128` is a dim that differs from task to
    /// task, up to 128: `ids:i64[..128] weights:f32[3x4] label:u8[]`.
    ///
    /// May have `method`, and lists with spaces between their parts: `arguments` (`sr:16000`), `states`
    /// (`input:attribute:batch_dim`) and `attributes` (`_last_batch_size:rows`). Values are numbers, `true`, `false`,
    /// `none`, `rows`, or else text.
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["file", "inputs", "method", "arguments", "states", "attributes"])?;
        let inputs = inputs_of(&config.required::<String>("inputs")?)?;
        let mut script = Self::new(config.required::<String>("file")?, inputs);
        script.method = config.or("method", script.method)?;
        script.arguments = values(config, "arguments")?;
        script.attributes = values(config, "attributes")?;
        for part in config.or("states", String::new())?.split_whitespace() {
            let expected = "`input:attribute:batch_dim`, with spaces between them";
            let wrong = || ConfigError::invalid("states", part, expected);
            let mut words = part.split(':');
            let (Some(input), Some(attribute), Some(dim), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(wrong());
            };
            script = script.with_state(input, attribute, dim.parse().map_err(|_| wrong())?);
        }
        Ok(script)
    }

    /// Says what goes in. The file is read when the block is loaded.
    fn signature(&self) -> Result<Signature, ConfigError> {
        for State { input, .. } in &self.states {
            if self.inputs.position(input).is_none() {
                let names: Vec<_> = self.inputs.tensors().iter().map(TensorSpec::name).collect();
                return Err(ConfigError::invalid("states", input, format!("one of the inputs {names:?}")));
            }
        }
        Ok(Signature { inputs: self.inputs.clone(), outputs: None, weights: None, backward: true })
    }
}

/// `name:value`, with spaces between them.
fn values(config: &Config, key: &str) -> Result<Vec<(String, Value)>, ConfigError> {
    let text = config.or(key, String::new())?;
    let pair = |part: &str| {
        let (name, value) = part.split_once(':')?;
        Some((name.to_owned(), value_of(value)))
    };
    text.split_whitespace()
        .map(|part| {
            let expected = "values like `sr:16000`, with spaces between them";
            pair(part).ok_or_else(|| ConfigError::invalid(key, part, expected))
        })
        .collect()
}

fn value_of(text: &str) -> Value {
    match text {
        "none" => Value::None,
        "rows" => Value::Rows,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text
            .parse()
            .map(Value::Int)
            .or_else(|_| text.parse().map(Value::Float))
            .unwrap_or_else(|_| Value::Text(text.to_owned())),
    }
}

impl Computes<TorchScript> for Tch {
    fn layers(spec: &TorchScript, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(Module::load(spec, vb)?))
    }
}

struct Module {
    script: Script,
    draws: Arc<Draws>,
    /// The mode that the module is in, once it was set: setting it walks through all of the module's parts.
    training: Cell<Option<bool>>,
    /// The names of the outputs, once there were some.
    names: RefCell<Vec<String>>,
    /// The outputs' names of states, by their attributes.
    states: Vec<(String, String)>,
}

impl Module {
    fn load(spec: &TorchScript, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let file = &spec.file;
        // libtorch tells a missing file from a torn one in its text only.
        File::open(file).map_err(|source| ScriptError::Read { path: file.clone(), source })?;
        let script = Script::load(file, vb.device().cuda_ordinal())
            .map_err(|error| ScriptError::Torn { path: file.clone(), source: vb.device().failure(error) })?;
        let called = |error| ScriptError::Call { path: file.clone(), source: vb.device().failure(error) };
        Self::prepare(&script, spec).map_err(called)?;
        for named in script.tensors()? {
            let trained = named.parameter && named.tensor.requires_grad();
            vb.adopt(&named.name, trained, named.tensor);
        }
        let states = spec.states.iter().map(|state| (state.attribute.clone(), state.input.clone())).collect();
        Ok(Self { script, draws: vb.draws(), training: Cell::new(None), names: RefCell::default(), states })
    }

    /// Says how the module is called.
    fn prepare(script: &Script, spec: &TorchScript) -> Result<(), TchError> {
        script.method(&spec.method)?;
        for (name, value) in &spec.arguments {
            script.argument(name, value)?;
        }
        for (path, value) in &spec.attributes {
            script.attribute(path, value)?;
        }
        for input in spec.inputs.tensors() {
            let state = spec.states.iter().find(|state| state.input == input.name());
            script.input(state.map(|state| (&*state.attribute, state.batch_dim)))?;
        }
        script.check()
    }

    fn call(&self, inputs: &[Tensor], training: bool) -> Result<Vec<Tensor>, TchError> {
        if self.training.get() != Some(training) {
            self.script.train(training)?;
            self.training.set(Some(training));
        }
        let outputs = self.script.forward(inputs, training, self.draws.seed())?;
        if outputs.is_empty() {
            return Err(TchError::Torch("method gave no tensor, expected at least one".to_owned()));
        }
        let mut names = self.names.borrow_mut();
        if names.len() != outputs.len() {
            let results = outputs.len() - self.states.len();
            let name =
                |(at, (path, _)): (usize, &(String, Tensor))| match self.states.get(at.wrapping_sub(results))
                {
                    Some((_, name)) => name.clone(),
                    None => output_name(path, at),
                };
            *names = outputs.iter().enumerate().map(name).collect();
        }
        Ok(outputs.into_iter().map(|(_, tensor)| tensor).collect())
    }
}

/// The name of an output that was at this place in the result.
pub(super) fn output_name(path: &str, at: usize) -> String {
    match path.chars().next() {
        None => format!("output_{at}"),
        Some(first) if first.is_ascii_digit() => format!("output_{path}"),
        Some(_) => path.to_owned(),
    }
}

impl Layers for Module {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self.call(inputs, false)
    }

    fn forward_training(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self.call(inputs, true)
    }

    fn read_through(&self) -> bool {
        true
    }

    fn output_names(&self) -> Vec<String> {
        self.names.borrow().clone()
    }
}
