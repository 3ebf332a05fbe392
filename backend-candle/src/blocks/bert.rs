use super::Activation;
use crate::block::{Candle, Layers};
use candle_core::{D, DType, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use skep_toolkit::Computes;
use skep_toolkit::blocks::{Bert, BertSizes};

impl Computes<Bert> for Candle {
    fn layers(spec: &Bert, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let bert = BertModel::load(vb.clone(), &config(spec.sizes()))?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![embed(&bert, &inputs[0], &inputs[1])?])))
    }
}

/// The sizes in candle's own type, whose other fields are about training.
fn config(sizes: &BertSizes) -> Config {
    Config {
        vocab_size: sizes.vocab_size,
        hidden_size: sizes.hidden_size,
        num_hidden_layers: sizes.num_hidden_layers,
        num_attention_heads: sizes.num_attention_heads,
        intermediate_size: sizes.intermediate_size,
        hidden_act: match sizes.hidden_act {
            Activation::Gelu => HiddenAct::Gelu,
            Activation::Relu => HiddenAct::Relu,
        },
        max_position_embeddings: sizes.max_position_embeddings,
        type_vocab_size: sizes.type_vocab_size,
        layer_norm_eps: sizes.layer_norm_eps,
        model_type: Some(sizes.model_type.clone()),
        ..Config::default()
    }
}

fn embed(bert: &BertModel, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let states = bert.forward(ids, &ids.zeros_like()?, Some(mask))?;
    let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
    let sum = states.broadcast_mul(&mask)?.sum(1)?;
    let mean = sum.broadcast_div(&mask.sum(1)?.maximum(1.0)?)?;
    let length = mean.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12)?;
    mean.broadcast_div(&length)
}
