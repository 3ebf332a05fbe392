//! Blocks that others have made: ONNX files.

use crate::block::{Layers, Ort, Parameters};
use crate::onnx::read::{self, FileDim, OnnxError, Outlet};
use crate::session::{Optimization, Running};
use skep_runtime_core::{BoxError, Dim, TensorSpec};
use skep_toolkit::blocks::{Signature, Spec, schema};
use skep_toolkit::{Computes, Config, ConfigError};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The graph in an ONNX file (`.onnx`), in whatever precision it was written: f32, f16, int8.
///
/// Inputs and outputs are those of the file. The first dim of each must be free: it counts the rows. Other free dims
/// of inputs get their largest size from [`with_max`](Self::with_max). Outputs with dims that no input has are found by
/// the runtime in one dummy run.
///
/// ```no_run
/// use skep_backend_ort::blocks::Onnx;
/// use skep_backend_ort::prelude::*;
///
/// let file = Onnx::new("model.onnx").with_max("sequence_length", 512);
/// let mut block = OrtBlock::of("embed", file)?;
/// block.load(&OrtDevice::cpu()?)?;
/// # Ok::<(), skep_backend_ort::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onnx {
    file: PathBuf,
    max: BTreeMap<String, usize>,
    optimization: Optimization,
}

impl Onnx {
    /// Names the file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), max: BTreeMap::new(), optimization: Optimization::All }
    }

    /// Sets the largest size of a free dim by its name in the file.
    pub fn with_max(mut self, dim: impl Into<String>, max: usize) -> Self {
        self.max.insert(dim.into(), max);
        self
    }

    /// Sets how much ONNX Runtime rewrites the graph. [`Optimization::All`] unless set.
    pub fn with_optimization(mut self, optimization: Optimization) -> Self {
        self.optimization = optimization;
        self
    }

    fn specs(&self, outlets: &[Outlet], what: &str) -> Result<Option<Vec<TensorSpec>>, OnnxError> {
        let part = |outlet: &Outlet, got: String, expected: &str| OnnxError::Part {
            path: self.file.clone(),
            part: format!("{what} `{}`", outlet.name),
            got,
            expected: expected.to_owned(),
        };
        let mut specs = Vec::with_capacity(outlets.len());
        for outlet in outlets {
            let is_input = what == "input";
            let Some(dims) = &outlet.dims else {
                if is_input {
                    return Err(part(outlet, "without dims".to_owned(), "dims: export it with them"));
                }
                return Ok(None);
            };
            let mut known = Vec::with_capacity(dims.len());
            for (place, dim) in dims.iter().enumerate() {
                known.push(match (place, dim) {
                    (0, FileDim::Fixed(size)) => {
                        let expected =
                            "a free first dim, which counts the rows: export it with a dynamic batch";
                        return Err(part(outlet, format!("of {size} rows always"), expected));
                    }
                    (0, _) => Dim::Batch,
                    (_, FileDim::Fixed(size)) => Dim::Fixed(*size),
                    (_, FileDim::Named(name)) => match self.max.get(name) {
                        Some(&max) => Dim::free(&**name, max),
                        None if is_input => {
                            let expected = "a largest size: `with_max`, or `max` in a configuration";
                            return Err(part(outlet, format!("free in its dim `{name}`"), expected));
                        }
                        None => return Ok(None),
                    },
                    (_, FileDim::Unknown) if is_input => {
                        let expected = "a name for it: export it with named dynamic axes";
                        return Err(part(outlet, format!("free in dim {place}"), expected));
                    }
                    (_, FileDim::Unknown) => return Ok(None),
                });
            }
            if known.is_empty() {
                return Err(part(outlet, "a scalar".to_owned(), "a tensor whose first dim counts the rows"));
            }
            specs.push(TensorSpec::new(&*outlet.name, outlet.dtype, known));
        }
        Ok(Some(specs))
    }
}

impl Spec for Onnx {
    const KIND: &'static str = "onnx";

    /// Reads `file`, `max` (the largest sizes of free dims, with spaces between them: `sequence=512 labels=8`) and
    /// `optimization`: `off`, `basic`, `extended` or `all` (unless given).
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["file", "max", "optimization"])?;
        let mut onnx = Self::new(config.required::<String>("file")?);
        let text: String = config.or("max", String::new())?;
        for part in text.split_whitespace() {
            let pair = part.split_once('=').and_then(|(name, max)| Some((name, max.parse().ok()?)));
            let expected = "names and sizes like `sequence=512`, with spaces between them";
            let (name, max) = pair.ok_or_else(|| ConfigError::invalid("max", part, expected))?;
            onnx = onnx.with_max(name, max);
        }
        let level: String = config.or("optimization", "all".to_owned())?;
        Ok(onnx.with_optimization(match &*level {
            "off" => Optimization::Off,
            "basic" => Optimization::Basic,
            "extended" => Optimization::Extended,
            "all" => Optimization::All,
            other => {
                let expected = "`off`, `basic`, `extended` or `all`";
                return Err(ConfigError::invalid("optimization", other, expected));
            }
        }))
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let refused = |error: OnnxError| {
            ConfigError::caused("file", self.file.display(), "an ONNX file that can be served", error)
        };
        let outlets = read::read(&self.file).map_err(refused)?;
        if outlets.inputs.is_empty() || outlets.outputs.is_empty() {
            let expected = "an ONNX file with at least one input and one output";
            return Err(ConfigError::invalid("file", self.file.display(), expected));
        }
        let inputs = self.specs(&outlets.inputs, "input").map_err(refused)?.unwrap_or_default();
        let outputs = self.specs(&outlets.outputs, "output").map_err(refused)?.map(schema).transpose()?;
        Ok(Signature { inputs: schema(inputs)?, outputs, weights: None, backward: false })
    }
}

impl Computes<Onnx> for Ort {
    fn layers(spec: &Onnx, parameters: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        let device = parameters.device();
        let running = Running::of_file(device, &spec.file, spec.optimization);
        let refused = |error| OnnxError::Refused { path: spec.file.clone(), source: device.failure(error) };
        Ok(Box::new(running.map_err(refused)?))
    }
}
