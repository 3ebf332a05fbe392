//! Published text models: whatever `skep_models` describes, built of candle's operations.

mod attention;
mod built;
mod fused;
mod groups;
mod inference;
mod layer;
mod parts;
mod pooling;
mod ragged;

use crate::block::{CandleBlock, Layers};
use built::Built;
use candle_core::{DType as CandleDType, Result};
use ragged::Ragged;
use skep_models::{Model, Precision};
use skep_runtime_core::{DType, Schema};
use skep_toolkit::{Config, ConfigError};
use std::sync::Arc;

/// A published text model as a block.
///
/// Takes `input_ids` and `attention_mask` (1 for tokens, 0 for padding), both u32 `[batch, tokens]`; where the model
/// has them also `token_type_ids`, and `pooling_mask` (as the attention mask, without the prompt). Gives `embedding`
/// f32 `[batch, size]` (and `token_embeddings` f32 `[batch, tokens, hidden]` where the model was read
/// [with token vectors](Model::with_token_vectors)), or `logits`, f32 `[batch, labels]` for a classifier of texts and
/// `[batch, tokens, labels]` for one of tokens. Computed in f32 it can be trained.
///
/// ```
/// use skep_backend_candle::blocks;
/// use skep_backend_candle::models::{Ask, Model, Precision, TextModel};
/// use skep_backend_candle::prelude::*;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
/// let model = Arc::new(Model::read(folder)?);
/// let block = blocks::TextModel { model: model.clone(), precision: Precision::F32 }.block("embed")?;
/// let mut builder = RuntimeBuilder::new(CandleDevice::cpu());
/// let options = PoolOptions::default().padding(model.padding(PadTo::Multiple(2)));
/// let served = builder.serve(block, ServeOptions::forward(options))?;
/// let text = TextModel::new(model, builder.device().clone(), Arc::new(served.forward))?;
/// let runtime = builder.start()?;
///
/// let embeddings = text.embed_all(&["the cat sat", "a dog ran"], &Ask::new())?;
/// assert_eq!((embeddings[0].vector.len(), embeddings[0].tokens.given), (12, 5));
/// runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
/// # Ok::<(), skep_backend_candle::runtime::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextModel {
    /// The folder that was read.
    pub model: Arc<Model>,
    /// What its weights are computed in.
    pub precision: Precision,
}

impl TextModel {
    /// Reads `directory`, `precision`: `f32` (unless given), `f16`, `bf16` or `stored`; and `token_vectors`: `true` to have
    /// an embedding model give those too.
    ///
    /// # Errors
    ///
    /// When the directory is missing or refused, the model gives no such vectors, or another setting is there.
    pub fn from_config(config: &Config) -> std::result::Result<Self, ConfigError> {
        config.only(&["directory", "precision", "token_vectors"])?;
        Self::read(config)
    }

    fn read(config: &Config) -> std::result::Result<Self, ConfigError> {
        let directory: String = config.required("directory")?;
        let precision = config.or("precision", "f32".to_owned())?;
        let precision = precision.parse().map_err(|error| {
            ConfigError::caused("precision", &precision, "`f32`, `f16`, `bf16` or `stored`", error)
        })?;
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

    /// The block of this name that the settings of [`from_config`](Self::from_config) say, and `rows`: `padded` (unless
    /// given), or `ragged` for a [`ragged_block`](Self::ragged_block).
    ///
    /// # Errors
    ///
    /// Those of `from_config` and of either block.
    pub fn block_from_config(name: &str, config: &Config) -> std::result::Result<CandleBlock, ConfigError> {
        config.only(&["directory", "precision", "token_vectors", "rows"])?;
        let (text, rows) = (Self::read(config)?, config.or("rows", "padded".to_owned())?);
        match &*rows {
            "padded" => text.block(name),
            "ragged" => text.ragged_block(name),
            _ => Err(ConfigError::invalid("rows", &rows, "`padded` or `ragged`")),
        }
    }

    /// The block of this name. The weights are read when it is loaded.
    ///
    /// # Errors
    ///
    /// When the description makes no valid schema.
    pub fn block(self, name: impl Into<String>) -> std::result::Result<CandleBlock, ConfigError> {
        let inputs = Schema::new(self.model.inputs())?;
        let dtype = self.dtype();
        let block = self.built(name, inputs, |built| Ok(Box::new(built)))?;
        // Steps of an optimizer are too small for fewer bits.
        Ok(if dtype == CandleDType::F32 { block } else { block.inference_only() })
    }

    /// The block of this name that takes texts laid end to end ([`Schema::ragged`]): texts of any lengths share a batch, no token
    /// is computed that is none, and linear layers run over all tokens of a batch at once. Its pool has no rule for padding, and
    /// bounds a batch by the tokens that are there ([`PoolOptions::max_elements`](skep_pool::PoolOptions::max_elements)).
    ///
    /// For inference in f32 on the processor, by the backend's own arithmetic. Where that cannot run, loading the block fails.
    ///
    /// # Errors
    ///
    /// When the description makes no valid schema, or the model is not computed in f32.
    pub fn ragged_block(self, name: impl Into<String>) -> std::result::Result<CandleBlock, ConfigError> {
        let dtype = self.dtype();
        if dtype != CandleDType::F32 {
            let expected =
                format!("`padded`: rows are ragged in f32, and this model is computed in {dtype:?}");
            return Err(ConfigError::invalid("rows", "ragged", expected));
        }
        let inputs = Schema::new(self.model.inputs())?.ragged("offsets")?;
        Ok(self.built(name, inputs, |built| Ok(Box::new(Ragged::new(built)?)))?.inference_only())
    }

    fn dtype(&self) -> CandleDType {
        match self.precision.of(&self.model) {
            DType::F16 => CandleDType::F16,
            DType::BF16 => CandleDType::BF16,
            DType::F64 => CandleDType::F64,
            _ => CandleDType::F32,
        }
    }

    /// A block of these inputs, whose layers `wrap` makes of the model's.
    fn built(
        self,
        name: impl Into<String>,
        inputs: Schema,
        wrap: fn(Built) -> Result<Box<dyn Layers>>,
    ) -> std::result::Result<CandleBlock, ConfigError> {
        let (dtype, Self { model, .. }) = (self.dtype(), self);
        let outputs = Schema::new(model.outputs())?;
        let described = Arc::clone(&model);
        let block = CandleBlock::new(name, inputs, move |vb| {
            wrap(Built::new(described.description(), &vb.to_dtype(dtype))?)
        });
        Ok(block.with_outputs(outputs).with_parameters(move |name| Ok(model.weights().tensor(name)?)))
    }
}
