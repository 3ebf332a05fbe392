//! Published text models: whatever `skep_models` describes, as a graph of ONNX's operators.

mod attention;
mod model;
mod parts;
mod pooling;

use crate::block::OrtBlock;
use crate::session::Running;
use parts::Builder;
use skep_models::{Model, Precision};
use skep_runtime_core::{BoxError, DType, Schema};
use skep_toolkit::{Config, ConfigError};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A published text model as a block.
///
/// Takes `input_ids` and `attention_mask` (1 for tokens, 0 for padding), both u32 `[batch, tokens]`; where the model
/// has them also `token_type_ids`, and `pooling_mask` (as the attention mask, without the prompt). Gives `embedding`
/// f32 `[batch, size]` (and `token_embeddings` f32 `[batch, tokens, hidden]` where the model was read
/// [with token vectors](Model::with_token_vectors)), or `logits`, f32 `[batch, labels]` for a classifier of texts and
/// `[batch, tokens, labels]` for one of tokens. The folder's `model.safetensors` is computed in f32; a folder's own ONNX files are served by
/// [`Onnx`](crate::blocks::Onnx).
///
/// ```
/// use skep_backend_ort::blocks;
/// use skep_backend_ort::models::{Ask, Model, Precision, TextModel};
/// use skep_backend_ort::prelude::*;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # if std::env::var_os("ORT_DYLIB_PATH").is_none() { println!("skipped: no ONNX Runtime"); return Ok(()) }
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
/// let model = Arc::new(Model::read(folder)?);
/// let block = blocks::TextModel { model: model.clone(), precision: Precision::F32 }.block("embed")?;
/// let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?);
/// let options = PoolOptions::default().padding(model.padding(PadTo::Multiple(2)));
/// let served = builder.serve(block, ServeOptions::forward(options))?;
/// let text = TextModel::new(model, builder.device().clone(), Arc::new(served.forward))?;
/// let runtime = builder.start()?;
///
/// let embeddings = text.embed_all(&["the cat sat", "a dog ran"], &Ask::new())?;
/// assert_eq!((embeddings[0].vector.len(), embeddings[0].tokens.given), (12, 5));
/// runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
/// # Ok::<(), skep_backend_ort::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextModel {
    /// The folder that was read.
    pub model: Arc<Model>,
    /// What its weights are computed in: f32.
    pub precision: Precision,
}

/// What `precision` may be.
const PRECISION: &str = "`f32`: backend ort computes other precisions of ONNX files only";

impl TextModel {
    /// Reads `directory`, `precision`: `f32` (unless given) or `stored`, if that is f32; and `token_vectors`: `true` to have an
    /// embedding model give those too.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the directory is missing or refused, the model gives no such vectors, or
    /// another setting is there.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["directory", "precision", "token_vectors"])?;
        let directory: String = config.required("directory")?;
        let precision = config.or("precision", "f32".to_owned())?;
        let precision: Precision = precision
            .parse()
            .map_err(|error| ConfigError::caused("precision", &precision, PRECISION, error))?;
        let mut model = Model::read(&directory).map_err(|error| {
            ConfigError::caused("directory", &directory, "a model that Skep serves", error)
        })?;
        if config.or("token_vectors", false)? {
            let told = |error| {
                ConfigError::caused("token_vectors", true, "false: it is for embedding models", error)
            };
            model = model.with_token_vectors().map_err(told)?;
        }
        Ok(Self { model: Arc::new(model), precision })
    }

    /// Makes the block of this name. The weights are read when it is loaded.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the precision is another, or the description makes no valid schema.
    pub fn block(self, name: impl Into<String>) -> Result<OrtBlock, ConfigError> {
        if self.precision.of(&self.model) != DType::F32 {
            return Err(ConfigError::invalid("precision", self.precision.of(&self.model), PRECISION));
        }
        let inputs = Schema::new(self.model.inputs())?;
        let outputs = Schema::new(self.model.outputs())?;
        let block = OrtBlock::new(name, inputs, move |parameters| {
            Ok(Box::new(Running::of_bytes(parameters.device(), &self.graph()?)?))
        });
        Ok(block.with_outputs(outputs))
    }

    /// Writes the graph as an ONNX file: for other programs on ONNX Runtime, of whose own operators it has some.
    ///
    /// # Errors
    ///
    /// Returns an error if the weights cannot be read, the file cannot be written, or the model has a part that
    /// this backend does not know.
    pub fn save(&self, file: impl AsRef<Path>) -> Result<(), BoxError> {
        Ok(fs::write(file, self.graph()?)?)
    }

    fn graph(&self) -> Result<Vec<u8>, BoxError> {
        let model = &self.model;
        let weights = |name: &str| -> Result<_, BoxError> {
            let tensor = model.weights().tensor(name)?;
            if tensor.dtype() == DType::F32 {
                return Ok(tensor);
            }
            parts::in_f32(&tensor)
        };
        Builder::new(&weights).model(model)
    }
}
