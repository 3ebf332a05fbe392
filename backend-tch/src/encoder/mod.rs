//! Published text models: whatever `skep_models` describes, built of libtorch's operations.

mod attention;
mod layer;
mod parts;
mod pooling;

use crate::block::{Layers, TchBlock, VarBuilder};
use crate::device::{TchDevice, torch_dims};
use crate::layers::{number, whole};
use attention::Positions;
use layer::EncoderLayer;
use parts::{BuiltLinear, Norm, Parts, activate, unknown};
use pooling::Pooling;
use skep_models::description::{Counting, Description, Step};
use skep_models::{Model, Precision};
use skep_runtime_core::{BoxError, DType, Device, Schema};
use skep_toolkit::{Config, ConfigError};
use std::sync::Arc;
use tch::{Kind, TchError, Tensor};

/// A published text model as a block.
///
/// Takes `input_ids` and `attention_mask` (1 for tokens, 0 for padding), both u32 `[batch, tokens]`; where the model
/// has them also `token_type_ids`, and `pooling_mask` (as the attention mask, without the prompt). Gives `embedding`
/// f32 `[batch, size]` (and `token_embeddings` f32 `[batch, tokens, hidden]` where the model was read
/// [with token vectors](Model::with_token_vectors)), or `logits`, f32 `[batch, labels]` for a classifier of texts and
/// `[batch, tokens, labels]` for one of tokens. Computed in f32 it can be trained.
///
/// ```
/// use skep_backend_tch::blocks;
/// use skep_backend_tch::models::{Ask, Model, Precision, TextModel};
/// use skep_backend_tch::prelude::*;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
/// let model = Arc::new(Model::read(folder)?);
/// let block = blocks::TextModel { model: model.clone(), precision: Precision::F32 }.block("embed")?;
/// let mut builder = RuntimeBuilder::new(TchDevice::cpu());
/// let options = PoolOptions::default().padding(model.padding(PadTo::Multiple(2)));
/// let served = builder.serve(block, ServeOptions::forward(options))?;
/// let text = TextModel::new(model, builder.device().clone(), Arc::new(served.forward))?;
/// let runtime = builder.start()?;
///
/// let embeddings = text.embed_all(&["the cat sat", "a dog ran"], &Ask::new())?;
/// assert_eq!((embeddings[0].vector.len(), embeddings[0].tokens.given), (12, 5));
/// runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
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
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["directory", "precision", "token_vectors"])?;
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

    /// The block of this name. The weights are read when it is loaded.
    ///
    /// # Errors
    ///
    /// When the description makes no valid schema.
    pub fn block(self, name: impl Into<String>) -> Result<TchBlock, ConfigError> {
        let Self { model, precision } = self;
        let inputs = Schema::new(model.inputs())?;
        let outputs = Schema::new(model.outputs())?;
        let described = Arc::clone(&model);
        let kind = match precision.of(&model) {
            DType::F16 => Kind::Half,
            DType::BF16 => Kind::BFloat16,
            DType::F64 => Kind::Double,
            _ => Kind::Float,
        };
        let block = TchBlock::new(name, inputs, move |vb| {
            check_instructions(precision, vb.device())?;
            Ok(Box::new(Built::new(described.description(), vb, kind)?))
        });
        let block =
            block.with_outputs(outputs).with_parameters(move |name| Ok(model.weights().tensor(name)?));
        // Steps of an optimizer are too small for fewer bits.
        Ok(if kind == Kind::Float { block } else { block.inference_only() })
    }
}

/// A precision that the processor would compute in a hundredth of its speed, by other instructions.
#[derive(Debug, thiserror::Error)]
#[error("precision is `{got}`, for which this processor has no instructions, expected `f32`")]
struct NoInstructions {
    got: &'static str,
}

/// Refuses a precision that was asked for by name and that the processor has no instructions for. A folder's own is
/// computed in anyway: it is what the folder's makers chose.
fn check_instructions(precision: Precision, device: &TchDevice) -> Result<(), NoInstructions> {
    let [f16, bf16] = half_instructions();
    match precision {
        Precision::F16 if device.is_host() && !f16 => Err(NoInstructions { got: "f16" }),
        Precision::BF16 if device.is_host() && !bf16 => Err(NoInstructions { got: "bf16" }),
        _ => Ok(()),
    }
}

/// Whether this processor computes in f16, and in bf16.
fn half_instructions() -> [bool; 2] {
    #[cfg(target_arch = "x86_64")]
    let found = [
        std::arch::is_x86_feature_detected!("avx512fp16"),
        std::arch::is_x86_feature_detected!("avx512bf16"),
    ];
    #[cfg(target_arch = "aarch64")]
    let found =
        [std::arch::is_aarch64_feature_detected!("fp16"), std::arch::is_aarch64_feature_detected!("bf16")];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = [false; 2];
    found
}

/// A model's layers.
struct Built {
    words: Tensor,
    positions: Option<(Tensor, Counting)>,
    types: Option<Tensor>,
    embedding_norm: Option<Norm>,
    projection: Option<BuiltLinear>,
    relative: Positions,
    layers: Vec<EncoderLayer>,
    last_norm: Option<Norm>,
    pooling: Option<Pooling>,
    steps: Vec<BuiltStep>,
    /// Whether `token_type_ids` are given.
    takes_types: bool,
    /// Whether the vectors of tokens are given out too.
    gives_tokens: bool,
}

enum BuiltStep {
    Linear(BuiltLinear),
    Activation(skep_models::description::Activation),
    Norm(Norm),
    UnitLength,
    Truncate(i64),
}

impl Built {
    fn new(description: &Description, vb: &VarBuilder<'_>, kind: Kind) -> Result<Self, BoxError> {
        let encoder = &description.encoder;
        let parts = Parts { vb, kind };
        // What comes after the encoder is small, and computed in full.
        let head = Parts { vb, kind: if kind == Kind::Double { kind } else { Kind::Float } };
        let step = |step: &Step| {
            Ok(match step {
                Step::Linear(linear) => BuiltStep::Linear(head.linear(linear)?),
                Step::Activation(activation) => BuiltStep::Activation(*activation),
                Step::Norm(norm) => BuiltStep::Norm(head.norm(norm)?),
                Step::UnitLength => BuiltStep::UnitLength,
                Step::Truncate(size) => BuiltStep::Truncate(torch_dims(&[*size])?[0]),
                other => return Err(unknown(other).into()),
            })
        };
        Ok(Self {
            words: parts.table(&encoder.words)?,
            positions: match &encoder.positions {
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
                .collect::<Result<_, BoxError>>()?,
            last_norm: parts.optional_norm(encoder.last_norm.as_ref())?,
            pooling: (description.kind != skep_models::Kind::Token)
                .then(|| Pooling { pools: description.pooling.clone(), masked: description.pooling_mask }),
            steps: description.steps.iter().map(step).collect::<Result<_, BoxError>>()?,
            takes_types: description.token_types,
            gives_tokens: description.token_vectors,
        })
    }

    /// The vectors of tokens, before the layers.
    fn embed(&self, ids: &Tensor, types: Option<&Tensor>) -> Result<Tensor, TchError> {
        let (_, tokens) = ids.size2()?;
        let mut x = rows(&self.words, ids)?;
        if let Some(table) = &self.types {
            x = match types {
                Some(types) => x.f_add(&rows(table, &types.f_to_kind(Kind::Int64)?)?)?,
                // All tokens are of the first type.
                None => x.f_add(&table.f_select(0, 0)?)?,
            };
        }
        match &self.positions {
            Some((table, Counting::FromZero)) => x = x.f_add(&table.f_narrow(0, 0, tokens)?)?,
            Some((table, Counting::AfterPadding { padding })) => {
                // Counted without the padding's id, wherever it stands.
                let padding = whole(i64::from(*padding))?.f_to(ids.device())?;
                let there = ids.f_ne_tensor(&padding)?.f_to_kind(Kind::Int64)?;
                let counted = there.f_cumsum(1, Kind::Int64)?.f_mul(&there)?.f_add(&padding)?;
                x = x.f_add(&rows(table, &counted)?)?;
            }
            Some((_, other)) => return Err(unknown(other)),
            None => {}
        }
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
fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor, TchError> {
    Tensor::f_embedding(table, ids, -1, false, false)
}

impl Layers for Built {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        let (ids, mask) = (&inputs[0].f_to_kind(Kind::Int64)?, &inputs[1]);
        let mut rest = inputs[2..].iter();
        let types = if self.takes_types { rest.next() } else { None };
        let pooling_mask = rest.next().unwrap_or(mask);

        let mut x = self.embed(ids, types)?;
        let seen = self.relative.seen(mask, x.kind())?;
        for layer in &self.layers {
            x = layer.forward(&x, &seen)?;
        }
        if let Some(norm) = &self.last_norm {
            x = norm.forward(&x)?;
        }
        if x.kind() != Kind::Double {
            x = x.f_to_kind(Kind::Float)?;
        }
        let tokens = self.gives_tokens.then(|| x.f_to_kind(Kind::Float)).transpose()?;
        if let Some(pooling) = &self.pooling {
            x = pooling.forward(&x, ids, mask, pooling_mask)?;
        }
        for step in &self.steps {
            x = step.forward(&x)?;
        }
        Ok(std::iter::once(x.f_to_kind(Kind::Float)?).chain(tokens).collect())
    }

    fn prepare(&self, steady: bool) -> Result<(), TchError> {
        self.layers.iter().try_for_each(|layer| layer.prepare(steady))
    }
}

impl BuiltStep {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Linear(linear) => linear.forward(x),
            Self::Activation(activation) => activate(*activation, x),
            Self::Norm(norm) => norm.forward(x),
            Self::UnitLength => {
                let last: &[i64] = &[-1];
                let length = x.f_square()?.f_sum_dim_intlist(last, true, x.kind())?.f_sqrt()?;
                x.f_div(&length.f_maximum(&number(1e-12)?)?)
            }
            Self::Truncate(size) => x.f_narrow(-1, 0, *size)?.f_contiguous(),
        }
    }
}
