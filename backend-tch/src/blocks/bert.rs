use super::{Activation, activate};
use crate::block::{Layers, Tch, VarBuilder};
use crate::layers::{LayerNorm, Linear, SelfAttention, linear, number};
use skep_runtime_core::BoxError;
use skep_toolkit::blocks::{Bert, BertSizes};
use skep_toolkit::{Computes, Init};
use tch::{Kind, TchError, Tensor};

impl Computes<Bert> for Tch {
    fn layers(spec: &Bert, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let bert = Model::new(spec.sizes(), vb)?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![bert.embed(&inputs[0], &inputs[1])?])))
    }
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
    fn new(sizes: &BertSizes, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let named = vb.pp(&sizes.model_type);
        let has_words = |vb: &VarBuilder<'_>| vb.contains("embeddings.word_embeddings.weight");
        let vb = if !has_words(vb) && has_words(&named) { &named } else { vb };

        let embeddings = vb.pp("embeddings");
        let table = |name: &str, rows: usize| {
            let init = Init::Randn { mean: 0.0, stdev: 0.02 };
            embeddings.pp(name).get(&[rows, sizes.hidden_size], "weight", init)
        };
        let layer = |i: usize| Layer::new(sizes, &vb.pp(&format!("encoder.layer.{i}")));
        Ok(Self {
            words: table("word_embeddings", sizes.vocab_size)?,
            positions: table("position_embeddings", sizes.max_position_embeddings)?,
            kind: table("token_type_embeddings", sizes.type_vocab_size)?.f_select(0, 0)?,
            norm: norm(sizes, &embeddings.pp("LayerNorm"))?,
            layers: (0..sizes.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
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
    fn new(sizes: &BertSizes, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let (size, wide) = (sizes.hidden_size, sizes.intermediate_size);
        let names = ["self.query", "self.key", "self.value", "output.dense"];
        Ok(Self {
            attention: SelfAttention::named(size, sizes.num_attention_heads, &vb.pp("attention"), names)?,
            attention_norm: norm(sizes, &vb.pp("attention.output.LayerNorm"))?,
            wide: linear(size, wide, &vb.pp("intermediate.dense"))?,
            activation: sizes.hidden_act,
            narrow: linear(wide, size, &vb.pp("output.dense"))?,
            norm: norm(sizes, &vb.pp("output.LayerNorm"))?,
        })
    }

    fn forward(&self, x: &Tensor, hidden: &Tensor) -> Result<Tensor, TchError> {
        let h = self.attention_norm.forward(&self.attention.masked(x, Some(hidden))?.f_add(x)?)?;
        let wide = activate(self.activation, &self.wide.forward(&h)?)?;
        self.norm.forward(&self.narrow.forward(&wide)?.f_add(&h)?)
    }
}

fn norm(sizes: &BertSizes, vb: &VarBuilder<'_>) -> Result<LayerNorm, BoxError> {
    LayerNorm::with_eps(sizes.hidden_size, sizes.layer_norm_eps, vb)
}
