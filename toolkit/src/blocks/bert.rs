//! Sentence embedding with a BERT model as it is published: a directory with weights and their sizes.

use super::activation::Activation;
use super::spec::{Signature, Spec};
use crate::config::{Config, ConfigError};
use serde::Deserialize;
use skep_runtime_core::{DType, Dim, TensorSpec};
use std::fs;
use std::path::{Path, PathBuf};

/// The largest number that `config.json` may hold for a size: it keeps a torn or hostile file from asking for
/// sizes that overflow.
const MAX_SIZE: usize = 1 << 24;

/// `input_ids` and `attention_mask`, both u32 `[batch, positions]`, to `embedding`, f32 `[batch, hidden]`.
///
/// The embedding is the mean of the last layer's outputs over the positions whose mask is 1, scaled to length
/// 1, as Reimers and Gurevych, "Sentence-BERT", 2019. The mask is 1 for tokens and 0 for padding; a row of
/// padding only gives zeros. Inference only.
#[derive(Clone, Debug, PartialEq)]
pub struct Bert {
    weights: PathBuf,
    sizes: BertSizes,
}

/// The numbers that `config.json` has of a BERT model, under their names there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BertSizes {
    /// Stands before the names of the weights in some files.
    #[serde(default)]
    pub model_type: String,
    /// Rows of the table of words.
    pub vocab_size: usize,
    /// Features of a position.
    pub hidden_size: usize,
    /// Layers of the encoder.
    pub num_hidden_layers: usize,
    /// Heads of the attention.
    pub num_attention_heads: usize,
    /// Features between the linear layers.
    pub intermediate_size: usize,
    /// Between the linear layers.
    #[serde(deserialize_with = "activation")]
    pub hidden_act: Activation,
    /// The most positions of a row.
    pub max_position_embeddings: usize,
    /// Rows of the table of kinds of tokens.
    pub type_vocab_size: usize,
    /// The number under the norms' division.
    pub layer_norm_eps: f64,
    /// Refused where it is any other: nothing computes it.
    #[serde(default)]
    position_embedding_type: PositionEmbeddings,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PositionEmbeddings {
    #[default]
    Absolute,
}

impl Bert {
    /// Reads `config.json` in a directory that also holds `model.safetensors`, which is read when the block is loaded.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if `config.json` is missing, torn or not a BERT model's, or there is no
    /// `model.safetensors`.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let directory = directory.as_ref();
        let sizes = read(&directory.join("config.json"))?;
        let weights = directory.join("model.safetensors");
        if weights.is_file() {
            return Ok(Self { weights, sizes });
        }
        Err(ConfigError::invalid("directory", directory.display(), "a `model.safetensors` in it"))
    }

    /// Returns the model's sizes.
    pub fn sizes(&self) -> &BertSizes {
        &self.sizes
    }
}

impl Spec for Bert {
    const KIND: &'static str = "bert";

    /// Reads `directory`, and [opens](Bert::open) it.
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["directory"])?;
        Self::open(config.required::<String>("directory")?)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let BertSizes { vocab_size, hidden_size, max_position_embeddings, .. } = self.sizes;
        let dims = [Dim::Batch, Dim::Free { max: max_position_embeddings }];
        let inputs = vec![
            TensorSpec::new("input_ids", DType::U32, dims).with_index_below(vocab_size as u64),
            TensorSpec::new("attention_mask", DType::U32, dims).with_index_below(2),
        ];
        let outputs = vec![TensorSpec::rows("embedding", DType::F32, &[hidden_size])];
        let weights = Some(self.weights.clone());
        Ok(Signature { weights, backward: false, ..Signature::new(inputs, outputs)? })
    }
}

fn read(file: &Path) -> Result<BertSizes, ConfigError> {
    let invalid = |reason: String| ConfigError::invalid("directory", file.display(), reason);
    let text = fs::read_to_string(file)
        .map_err(|e| ConfigError::caused("directory", file.display(), "a file that can be read", e))?;
    let sizes: BertSizes = serde_json::from_str(&text)
        .map_err(|e| ConfigError::caused("directory", file.display(), "the sizes of a BERT model", e))?;
    let counts = [
        ("vocab_size", sizes.vocab_size),
        ("hidden_size", sizes.hidden_size),
        ("num_attention_heads", sizes.num_attention_heads),
        ("intermediate_size", sizes.intermediate_size),
        ("max_position_embeddings", sizes.max_position_embeddings),
        ("type_vocab_size", sizes.type_vocab_size),
        ("num_hidden_layers", sizes.num_hidden_layers),
    ];
    if let Some((key, got)) = counts.iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
        return Err(invalid(format!("`{key}` from 1 to {MAX_SIZE} in it, got {got}")));
    }
    if !sizes.hidden_size.is_multiple_of(sizes.num_attention_heads) {
        let (size, heads) = (sizes.hidden_size, sizes.num_attention_heads);
        return Err(invalid(format!("a `hidden_size` that is a multiple of {heads} heads, got {size}")));
    }
    Ok(sizes)
}

fn activation<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Activation, D::Error> {
    String::deserialize(text)?.parse().map_err(serde::de::Error::custom)
}
