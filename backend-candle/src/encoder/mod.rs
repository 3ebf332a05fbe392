//! Published text models: whatever `skep_models` describes, built of candle's operations.

mod attention;
mod fused;
mod groups;
mod inference;
mod layer;
mod parts;
mod pooling;
mod ragged;

use crate::block::{CandleBlock, Layers};
use attention::Positions;
use candle_core::{DType as CandleDType, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};
use inference::Inference;
use layer::EncoderLayer;
use parts::{Norm, Parts, activate, unknown};
use pooling::Pooling;
use ragged::Ragged;
use skep_models::description::{Counting, Description, Step};
use skep_models::{Kind, Model, Precision};
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

/// A model's layers.
struct Built {
    words: Tensor,
    positions: Option<(Tensor, Counting)>,
    types: Option<Tensor>,
    embedding_norm: Option<Norm>,
    projection: Option<Linear>,
    relative: Positions,
    layers: Vec<EncoderLayer>,
    last_norm: Option<Norm>,
    /// Layers and last norm once more, where they need not be trained.
    inference: Option<Inference>,
    pooling: Option<Pooling>,
    steps: Vec<BuiltStep>,
    /// Whether `token_type_ids` are given.
    takes_types: bool,
    /// Whether the vectors of tokens are given out too.
    gives_tokens: bool,
}

enum BuiltStep {
    Linear(Linear),
    Activation(skep_models::description::Activation),
    Norm(Norm),
    UnitLength,
    Truncate(usize),
}

impl Built {
    fn new(description: &Description, vb: &VarBuilder<'_>) -> Result<Self> {
        let encoder = &description.encoder;
        let parts = Parts::new(vb);
        // What comes after the encoder is small, and computed in full.
        let full = if vb.dtype() == CandleDType::F64 { CandleDType::F64 } else { CandleDType::F32 };
        let head = Parts::new(&vb.to_dtype(full));
        let positions = encoder.positions.as_ref();
        let step = |step: &Step| {
            Ok(match step {
                Step::Linear(linear) => BuiltStep::Linear(head.linear(linear)?),
                Step::Activation(activation) => BuiltStep::Activation(*activation),
                Step::Norm(norm) => BuiltStep::Norm(head.norm(norm)?),
                Step::UnitLength => BuiltStep::UnitLength,
                Step::Truncate(size) => BuiltStep::Truncate(*size),
                other => return Err(unknown(other)),
            })
        };
        Ok(Self {
            words: parts.table(&encoder.words)?,
            positions: match positions {
                Some(positions) => Some((parts.table(&positions.table)?, positions.counting)),
                None => None,
            },
            types: encoder.types.as_ref().map(|types| parts.table(types)).transpose()?,
            embedding_norm: parts.optional_norm(encoder.embedding_norm.as_ref())?,
            projection: encoder.projection.as_ref().map(|linear| parts.linear(linear)).transpose()?,
            relative: Positions::new(encoder, &parts)?,
            layers: encoder
                .layers
                .iter()
                .map(|layer| EncoderLayer::new(layer, &parts))
                .collect::<Result<_>>()?,
            last_norm: parts.optional_norm(encoder.last_norm.as_ref())?,
            inference: Inference::new(encoder, &parts)?,
            pooling: (description.kind != Kind::Token)
                .then(|| Pooling { pools: description.pooling.clone(), masked: description.pooling_mask }),
            steps: description.steps.iter().map(step).collect::<Result<_>>()?,
            takes_types: description.token_types,
            gives_tokens: description.token_vectors,
        })
    }

    /// The vectors of tokens after the layers.
    fn encode(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        if let Some(inference) = &self.inference {
            let (texts, tokens) = mask.dims2()?;
            if let Some(x) = inference.forward(x, mask, &vec![tokens; texts])? {
                return Ok(x);
            }
        }
        let seen = self.relative.seen(mask, x.dtype())?;
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x, &seen)?;
        }
        match &self.last_norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }

    /// The vectors of tokens, before the layers.
    fn embed(&self, ids: &Tensor, types: Option<&Tensor>) -> Result<Tensor> {
        let mut x = rows(&self.words, ids)?;
        if let Some(table) = &self.types {
            x = match types {
                Some(types) => (x + rows(table, types)?)?,
                // All tokens are of the first type.
                None => x.broadcast_add(&table.narrow(0, 0, 1)?)?,
            };
        }
        match &self.positions {
            Some((table, Counting::FromZero)) => x = x.broadcast_add(&table.narrow(0, 0, ids.dim(1)?)?)?,
            Some((table, Counting::AfterPadding { padding })) => {
                // Counted without the padding's id, wherever it stands.
                let there = ids.ne(*padding)?.to_dtype(CandleDType::F32)?;
                let counted = ((there.cumsum(1)? * &there)? + f64::from(*padding))?;
                x = (x + rows(table, &counted.to_dtype(CandleDType::U32)?)?)?;
            }
            Some((_, other)) => return Err(unknown(other)),
            None => {}
        }
        self.project(x)
    }

    /// The vectors of tokens as the layers take them.
    fn project(&self, mut x: Tensor) -> Result<Tensor> {
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x)?;
        }
        match &self.projection {
            Some(projection) => projection.forward(&x),
            None => Ok(x),
        }
    }
}

/// Row `ids[i, j]` of a table, for all of them.
fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (batch, tokens) = ids.dims2()?;
    table.index_select(&ids.flatten_all()?, 0)?.reshape((batch, tokens, table.dim(1)?))
}

impl Layers for Built {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (ids, mask) = (&inputs[0], &inputs[1]);
        let mut rest = inputs[2..].iter();
        let types = if self.takes_types { rest.next() } else { None };
        let pooling_mask = rest.next().unwrap_or(mask);

        let mut x = self.encode(&self.embed(ids, types)?, mask)?;
        if matches!(x.dtype(), CandleDType::F16 | CandleDType::BF16) {
            x = x.to_dtype(CandleDType::F32)?;
        }
        let tokens = self.gives_tokens.then(|| x.to_dtype(CandleDType::F32)).transpose()?;
        if let Some(pooling) = &self.pooling {
            x = pooling.forward(&x, ids, mask, pooling_mask)?;
        }
        for step in &self.steps {
            x = step.forward(&x)?;
        }
        Ok(std::iter::once(x.to_dtype(CandleDType::F32)?).chain(tokens).collect())
    }
}

impl BuiltStep {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear(linear) => linear.forward(x),
            Self::Activation(activation) => activate(*activation, x),
            Self::Norm(norm) => norm.forward(x),
            Self::UnitLength => {
                let last = candle_core::D::Minus1;
                let length = x.sqr()?.sum_keepdim(last)?.sqrt()?.maximum(1e-12)?;
                x.broadcast_div(&length)
            }
            Self::Truncate(size) => x.narrow(candle_core::D::Minus1, 0, *size)?.contiguous(),
        }
    }
}
