//! Sentence embedding with a BERT model as it is published: a directory with weights and their sizes.

use super::{Activation, activate};
use crate::block::{TchBlock, VarBuilder};
use crate::layers::{LayerNorm, Linear, SelfAttention, linear, number};
use skep_runtime_core::{BoxError, DType, Dim, TensorSpec};
use skep_toolkit::{Config, ConfigError, Init, schema};
use std::path::{Path, PathBuf};
use tch::{Kind, TchError, Tensor};

/// The largest number that `config.json` may hold for a size: it keeps a torn or hostile file from asking for
/// sizes that overflow.
const MAX_SIZE: usize = 1 << 24;

/// `input_ids` and `attention_mask`, both u32 `[batch, positions]`, to `embedding`, f32 `[batch, hidden]`.
///
/// The embedding is the mean of the last layer's outputs over the positions whose mask is 1, scaled to length
/// 1, as Reimers and Gurevych, "Sentence-BERT", 2019. The mask is 1 for tokens and 0 for padding; a row of
/// padding only gives zeros. Inference only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bert {
    /// Holds `model.safetensors` and `config.json`.
    pub directory: PathBuf,
}

impl Bert {
    /// Reads `directory`.
    ///
    /// # Errors
    ///
    /// When it is missing, or another setting is there.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["directory"])?;
        Ok(Self { directory: config.required::<String>("directory")?.into() })
    }

    /// The block of this name. Reads `config.json`; the weights are read when the block is loaded.
    ///
    /// # Errors
    ///
    /// When `config.json` is missing, torn or not a BERT model's, or there is no `model.safetensors`.
    pub fn block(self, name: impl Into<String>) -> Result<TchBlock, ConfigError> {
        let model = read_config(&self.directory.join("config.json"))?;
        let weights = self.directory.join("model.safetensors");
        if !weights.is_file() {
            return Err(ConfigError::invalid(
                "directory",
                self.directory.display(),
                "a `model.safetensors` in it",
            ));
        }
        let dims = [Dim::Batch, Dim::Free { max: model.max_position_embeddings }];
        let inputs = schema(vec![
            TensorSpec::new("input_ids", DType::U32, dims).with_index_below(model.vocab_size as u64),
            TensorSpec::new("attention_mask", DType::U32, dims).with_index_below(2),
        ])?;
        let outputs = schema(vec![TensorSpec::rows("embedding", DType::F32, &[model.hidden_size])])?;
        let block = TchBlock::new(name, inputs, move |vb| {
            let bert = Model::new(&model, vb)?;
            Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![bert.embed(&inputs[0], &inputs[1])?])))
        });
        Ok(block.with_outputs(outputs).with_weights(weights).inference_only())
    }
}

/// What `config.json` says of the model.
#[derive(Debug, serde::Deserialize)]
struct ModelConfig {
    /// Stands before the names of the weights in some files.
    #[serde(default)]
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: HiddenActivation,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum HiddenActivation {
    Gelu,
    Relu,
}

fn read_config(file: &Path) -> Result<ModelConfig, ConfigError> {
    let invalid = |reason: String| ConfigError::invalid("directory", file.display(), reason);
    let text =
        std::fs::read_to_string(file).map_err(|e| invalid(format!("a file that can be read ({e})")))?;
    let config: ModelConfig =
        serde_json::from_str(&text).map_err(|e| invalid(format!("the sizes of a BERT model ({e})")))?;
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("hidden_size", config.hidden_size),
        ("num_attention_heads", config.num_attention_heads),
        ("intermediate_size", config.intermediate_size),
        ("max_position_embeddings", config.max_position_embeddings),
        ("type_vocab_size", config.type_vocab_size),
        ("num_hidden_layers", config.num_hidden_layers),
    ];
    if let Some((key, got)) = sizes.iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
        return Err(invalid(format!("`{key}` from 1 to {MAX_SIZE} in it, got {got}")));
    }
    if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        let (size, heads) = (config.hidden_size, config.num_attention_heads);
        return Err(invalid(format!("a `hidden_size` that is a multiple of {heads} heads, got {size}")));
    }
    Ok(config)
}

/// A BERT encoder: Devlin et al., "BERT: Pre-training of deep bidirectional transformers", 2019.
struct Model {
    words: Tensor,
    positions: Tensor,
    /// The embedding of tokens of the first kind, which all are.
    kind: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    wide: Linear,
    activation: Activation,
    narrow: Linear,
    norm: LayerNorm,
}

impl Model {
    fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let named = vb.pp(&config.model_type);
        let has_words = |vb: &VarBuilder<'_>| vb.contains("embeddings.word_embeddings.weight");
        let vb = if !has_words(vb) && has_words(&named) { &named } else { vb };

        let embeddings = vb.pp("embeddings");
        let table = |name: &str, rows: usize| {
            let init = Init::Randn { mean: 0.0, stdev: 0.02 };
            embeddings.pp(name).get(&[rows, config.hidden_size], "weight", init)
        };
        let layer = |i: usize| Layer::new(config, &vb.pp(&format!("encoder.layer.{i}")));
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            kind: table("token_type_embeddings", config.type_vocab_size)?.f_select(0, 0)?,
            norm: norm(config, &embeddings.pp("LayerNorm"))?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        })
    }

    fn embed(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor, TchError> {
        let (_, length) = ids.size2()?;
        let words = Tensor::f_embedding(&self.words, &ids.f_to_kind(Kind::Int64)?, -1, false, false)?;
        let positions = self.positions.f_narrow(0, 0, length)?;
        let mut x = self.norm.forward(&words.f_add(&positions)?.f_add(&self.kind)?)?;

        let mask = mask.f_to_kind(Kind::Float)?;
        // 0 where a position is kept, the least number where it is padding.
        let hidden = mask.f_sub(&number(1.0)?)?.f_mul(&number(f64::from(f32::MAX))?)?;
        let hidden = hidden.f_unsqueeze(1)?.f_unsqueeze(1)?;
        for layer in &self.layers {
            x = layer.forward(&x, &hidden)?;
        }

        let mask = mask.f_unsqueeze(2)?;
        let rows: &[i64] = &[1];
        let sum = x.f_mul(&mask)?.f_sum_dim_intlist(rows, false, Kind::Float)?;
        let count = mask.f_sum_dim_intlist(rows, false, Kind::Float)?.f_maximum(&number(1.0)?)?;
        let mean = sum.f_div(&count)?;
        let squares = mean.f_square()?.f_sum_dim_intlist(rows, true, Kind::Float)?;
        mean.f_div(&squares.f_sqrt()?.f_maximum(&number(1e-12)?)?)
    }
}

impl Layer {
    fn new(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let (size, wide) = (config.hidden_size, config.intermediate_size);
        let names = ["self.query", "self.key", "self.value", "output.dense"];
        Ok(Self {
            attention: SelfAttention::named(size, config.num_attention_heads, &vb.pp("attention"), names)?,
            attention_norm: norm(config, &vb.pp("attention.output.LayerNorm"))?,
            wide: linear(size, wide, &vb.pp("intermediate.dense"))?,
            activation: match config.hidden_act {
                HiddenActivation::Gelu => Activation::Gelu,
                HiddenActivation::Relu => Activation::Relu,
            },
            narrow: linear(wide, size, &vb.pp("output.dense"))?,
            norm: norm(config, &vb.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, x: &Tensor, hidden: &Tensor) -> Result<Tensor, TchError> {
        let h = self.attention_norm.forward(&self.attention.masked(x, Some(hidden))?.f_add(x)?)?;
        let wide = activate(self.activation, &self.wide.forward(&h)?)?;
        self.norm.forward(&self.narrow.forward(&wide)?.f_add(&h)?)
    }
}

fn norm(config: &ModelConfig, vb: &VarBuilder<'_>) -> Result<LayerNorm, BoxError> {
    LayerNorm::with_eps(config.hidden_size, config.layer_norm_eps, vb)
}
