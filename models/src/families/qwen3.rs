//! Qwen3: Yang et al., 2025. A decoder, of which the vector of the last token is used: Qwen3-Embedding.

use crate::description::{
    Attention, Encoder, FeedForward, Layer, Pool, Projections, Reach, Rope, Step, Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::{Family, Head};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;
use serde_json::{Value, json};

pub(crate) const QWEN3: Family = Family {
    names: &["qwen3"],
    architectures: &["Qwen3"],
    prefixes: &["", "model."],
    probe: "embed_tokens.weight",
    encoder: read,
    sequence_head: |_, all, sizes| {
        // The library looks for the last token that is not padding by its id, which may be that of a token.
        let pool = sizes.pad.map_or(Pool::Last, Pool::LastBut);
        let linear = all.linear("score", sizes.hidden, sizes.labels, Bias::No)?;
        Ok(Head { pooling: vec![pool], steps: vec![Step::Linear(linear)] })
    },
    token_head: |_, all, sizes| {
        let linear = all.linear("score", sizes.hidden, sizes.labels, Bias::Yes)?;
        Ok(Head { pooling: Vec::new(), steps: vec![Step::Linear(linear)] })
    },
    head_keys: &[],
    unused: &["lm_head."],
    default_pooling: Pool::Last,
    token_types: false,
};

fn read(config: &mut Settings, tensors: &mut Under<'_>) -> Result<Encoder> {
    common::read(config)?;
    config.only("use_sliding_window", &[json!(false)])?;
    // Of no effect without it.
    config.skip(&["sliding_window", "max_window_layers", "pad_token_id"]);
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("hidden_size")?);
    let (layers, heads) = (config.size("num_hidden_layers")?, config.size("num_attention_heads")?);
    let kv_heads = config.optional_size("num_key_value_heads")?.unwrap_or(heads);
    let head_size = config.optional_size("head_dim")?.unwrap_or(128);
    common::even_head(config, "head_dim", head_size)?;
    common::check_product(config, "head_dim", head_size, heads)?;
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of `num_attention_heads`, {heads}");
        return Err(config.invalid("num_key_value_heads", &json!(kv_heads), expected));
    }
    let wide = config.size("intermediate_size")?;
    let max_tokens = config.size("max_position_embeddings")?;
    let eps = config.optional_number("rms_norm_eps")?.unwrap_or(1e-6);
    let bias: Bias = config.flag_or("attention_bias", false)?.into();
    let theta = common::rope_theta(config, 10_000.0)?;
    let activation = common::activation(config, "hidden_act", "silu")?;
    if let Some(types) = config.optional_list("layer_types")?
        && (types.len() != layers || types.iter().any(|kind| kind.as_str() != Some("full_attention")))
    {
        let expected = format!("{layers} times full_attention");
        return Err(config.invalid("layer_types", &Value::Array(types), expected));
    }

    let words = tensors.table("embed_tokens", vocabulary, hidden)?;
    let last_norm = tensors.rms_norm("norm", hidden, eps)?;
    let (inner, kv_inner) = (heads * head_size, kv_heads * head_size);
    let layer = |i: usize| {
        let mut tensors = tensors.under(format!("layers.{i}.").as_str());
        let attention = Attention {
            heads,
            kv_heads,
            head_size,
            projections: Projections::Separate {
                query: tensors.linear("self_attn.q_proj", hidden, inner, bias)?,
                key: tensors.linear("self_attn.k_proj", hidden, kv_inner, bias)?,
                value: tensors.linear("self_attn.v_proj", hidden, kv_inner, bias)?,
            },
            query_norm: Some(tensors.rms_norm("self_attn.q_norm", head_size, eps)?),
            key_norm: Some(tensors.rms_norm("self_attn.k_norm", head_size, eps)?),
            rope: Some(Rope { theta }),
            reach: Reach::Before,
            output: tensors.linear("self_attn.o_proj", inner, hidden, bias)?,
        };
        Ok(Layer {
            attention_before: Some(tensors.rms_norm("input_layernorm", hidden, eps)?),
            attention,
            attention_after: None,
            feed_before: Some(tensors.rms_norm("post_attention_layernorm", hidden, eps)?),
            feed_forward: FeedForward {
                wide: Wide::Gated {
                    gate: tensors.linear("mlp.gate_proj", hidden, wide, Bias::No)?,
                    up: tensors.linear("mlp.up_proj", hidden, wide, Bias::No)?,
                },
                activation,
                narrow: tensors.linear("mlp.down_proj", wide, hidden, Bias::No)?,
            },
            feed_after: None,
        })
    };
    Ok(Encoder {
        layers: (0..layers).map(layer).collect::<Result<_>>()?,
        words,
        positions: None,
        types: None,
        embedding_norm: None,
        projection: None,
        relative_bias: None,
        last_norm: Some(last_norm),
        hidden,
        max_tokens,
    })
}
