//! Sentence embedding with a BERT model as it is published: a directory with weights and their sizes.

use crate::block::CandleBlock;
use candle_core::{D, DType as CandleDType, Result, Tensor};
use candle_transformers::models::bert::{BertModel, Config as ModelConfig};
use skep_runtime_core::{DType, Dim, TensorSpec};
use skep_toolkit::{Config, ConfigError, schema};
use std::path::{Path, PathBuf};

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
    pub fn from_config(config: &Config) -> std::result::Result<Self, ConfigError> {
        config.only(&["directory"])?;
        Ok(Self { directory: config.required::<String>("directory")?.into() })
    }

    /// The block of this name. Reads `config.json`; the weights are read when the block is loaded.
    ///
    /// # Errors
    ///
    /// When `config.json` is missing, torn or not a BERT model's, or there is no `model.safetensors`.
    pub fn block(self, name: impl Into<String>) -> std::result::Result<CandleBlock, ConfigError> {
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
        let block = CandleBlock::new(name, inputs, move |vb| {
            let bert = BertModel::load(vb.clone(), &model)?;
            Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![embed(&bert, &inputs[0], &inputs[1])?])))
        });
        Ok(block.with_outputs(outputs).with_weights(weights).inference_only())
    }
}

fn read_config(file: &Path) -> std::result::Result<ModelConfig, ConfigError> {
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

fn embed(bert: &BertModel, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let states = bert.forward(ids, &ids.zeros_like()?, Some(mask))?;
    let mask = mask.to_dtype(CandleDType::F32)?.unsqueeze(2)?;
    let sum = states.broadcast_mul(&mask)?.sum(1)?;
    let mean = sum.broadcast_div(&mask.sum(1)?.maximum(1.0)?)?;
    let length = mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
    mean.broadcast_div(&length)
}
