//! The BERT block that there was before `models`, of libtorch's operations.

use crate::Result;
use serde_json::Value;
use skep_backend_tch::layers::{LayerNorm, Linear, SelfAttention, linear, number};
use skep_backend_tch::tch::{Kind, TchError, Tensor};
use skep_backend_tch::toolkit::Init;
use skep_backend_tch::{TchBlock, VarBuilder};
use skep_models::Model;
use skep_runtime_core::{BoxError, DType, Dim, Schema, TensorSpec};
use std::path::Path;

#[derive(Clone, Copy)]
struct Sizes {
    vocabulary: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    wide: usize,
    positions: usize,
    types: usize,
    eps: f64,
}

pub(super) fn bert(folder: &Path, name: &str) -> Result<TchBlock> {
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let size = |key: &str| {
        let size = config[key].as_u64().and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| format!("config.json has no `{key}`"))
    };
    let sizes = Sizes {
        vocabulary: size("vocab_size")?,
        hidden: size("hidden_size")?,
        layers: size("num_hidden_layers")?,
        heads: size("num_attention_heads")?,
        wide: size("intermediate_size")?,
        positions: size("max_position_embeddings")?,
        types: size("type_vocab_size")?,
        eps: config["layer_norm_eps"].as_f64().ok_or("config.json has no `layer_norm_eps`")?,
    };
    let weights = Model::read(folder)?;
    let dims = [Dim::Batch, Dim::free("tokens", sizes.positions)];
    let inputs = Schema::new(vec![
        TensorSpec::new("input_ids", DType::U32, dims.clone()).with_index_below(sizes.vocabulary as u64),
        TensorSpec::new("attention_mask", DType::U32, dims).with_index_below(2),
    ])?;
    let outputs = Schema::new(vec![TensorSpec::rows("embedding", DType::F32, &[sizes.hidden])])?;
    let block = TchBlock::new(name, inputs, move |vb| {
        let bert = Bert::new(&sizes, vb)?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![bert.embed(&inputs[0], &inputs[1])?])))
    });
    let block = block.with_parameters(move |name| Ok(weights.weights().tensor(name)?));
    Ok(block.with_outputs(outputs).inference_only())
}

struct Bert {
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
    narrow: Linear,
    norm: LayerNorm,
}

impl Bert {
    fn new(sizes: &Sizes, vb: &VarBuilder<'_>) -> std::result::Result<Self, BoxError> {
        let embeddings = vb.pp("embeddings");
        let table = |name: &str, rows: usize| {
            embeddings.pp(name).get(&[rows, sizes.hidden], "weight", Init::Const(0.0))
        };
        let layer = |i: usize| Layer::new(sizes, &vb.pp(&format!("encoder.layer.{i}")));
        Ok(Self {
            words: table("word_embeddings", sizes.vocabulary)?,
            positions: table("position_embeddings", sizes.positions)?,
            kind: table("token_type_embeddings", sizes.types)?.f_select(0, 0)?,
            norm: norm(sizes, &embeddings.pp("LayerNorm"))?,
            layers: (0..sizes.layers).map(layer).collect::<std::result::Result<_, _>>()?,
        })
    }

    fn embed(&self, ids: &Tensor, mask: &Tensor) -> std::result::Result<Tensor, TchError> {
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
    fn new(sizes: &Sizes, vb: &VarBuilder<'_>) -> std::result::Result<Self, BoxError> {
        let names = ["self.query", "self.key", "self.value", "output.dense"];
        Ok(Self {
            attention: SelfAttention::named(sizes.hidden, sizes.heads, &vb.pp("attention"), names)?,
            attention_norm: norm(sizes, &vb.pp("attention.output.LayerNorm"))?,
            wide: linear(sizes.hidden, sizes.wide, &vb.pp("intermediate.dense"))?,
            narrow: linear(sizes.wide, sizes.hidden, &vb.pp("output.dense"))?,
            norm: norm(sizes, &vb.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, x: &Tensor, hidden: &Tensor) -> std::result::Result<Tensor, TchError> {
        let h = self.attention_norm.forward(&self.attention.masked(x, Some(hidden))?.f_add(x)?)?;
        let wide = self.wide.forward(&h)?.f_gelu("none")?;
        self.norm.forward(&self.narrow.forward(&wide)?.f_add(&h)?)
    }
}

fn norm(sizes: &Sizes, vb: &VarBuilder<'_>) -> std::result::Result<LayerNorm, BoxError> {
    LayerNorm::with_eps(sizes.hidden, sizes.eps, vb)
}
