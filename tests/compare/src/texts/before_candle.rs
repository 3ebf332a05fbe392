//! The BERT block that there was before `models`: candle-transformers', the mean of its vectors, brought to length 1.

use crate::Result;
use candle_transformers::models::bert::{BertModel, Config};
use skep_backend_candle::CandleBlock;
use skep_backend_candle::candle_core::{self, D, DType as CandleDType, Tensor};
use skep_models::Model;
use skep_runtime_core::{DType, Dim, Schema, TensorSpec};
use std::path::Path;

pub(super) fn bert(folder: &Path, name: &str) -> Result<CandleBlock> {
    let config: Config = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let weights = Model::read(folder)?;
    let dims = [Dim::Batch, Dim::free("tokens", config.max_position_embeddings)];
    let inputs = Schema::new(vec![
        TensorSpec::new("input_ids", DType::U32, dims.clone()).with_index_below(config.vocab_size as u64),
        TensorSpec::new("attention_mask", DType::U32, dims).with_index_below(2),
    ])?;
    let outputs = Schema::new(vec![TensorSpec::rows("embedding", DType::F32, &[config.hidden_size])])?;
    let block = CandleBlock::new(name, inputs, move |vb| {
        let bert = BertModel::load(vb.clone(), &config)?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![embed(&bert, &inputs[0], &inputs[1])?])))
    });
    let block = block.with_parameters(move |name| Ok(weights.weights().tensor(name)?));
    Ok(block.with_outputs(outputs).inference_only())
}

fn embed(bert: &BertModel, ids: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let states = bert.forward(ids, &ids.zeros_like()?, Some(mask))?;
    let mask = mask.to_dtype(CandleDType::F32)?.unsqueeze(2)?;
    let sum = states.broadcast_mul(&mask)?.sum(1)?;
    let mean = sum.broadcast_div(&mask.sum(1)?.maximum(1.0)?)?;
    let length = mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
    mean.broadcast_div(&length)
}
