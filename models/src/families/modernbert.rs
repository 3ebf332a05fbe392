//! `ModernBERT`: Warner et al., 2024. Norms before the layers, rotary positions, gated feed-forward layers, and layers
//! that see a window only.

use crate::description::{
    Attention, Encoder, FeedForward, Layer, Pool, Projections, Reach, Rope, Step, Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::{Family, Head, HeadSizes};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;
use serde_json::{Value, json};

const SLIDING: &str = "sliding_attention";
const FULL: &str = "full_attention";

pub(crate) const MODERNBERT: Family = Family {
    names: &["modernbert"],
    architectures: &["ModernBert"],
    prefixes: &["", "model."],
    probe: "embeddings.tok_embeddings.weight",
    encoder: read,
    sequence_head,
    token_head,
    head_keys: &["classifier_pooling", "classifier_bias", "classifier_activation"],
    unused: &["head.", "decoder."],
    default_pooling: Pool::Mean,
    token_types: false,
};

fn read(config: &mut Settings, tensors: &mut Under<'_>) -> Result<Encoder> {
    common::read(config)?;
    config.skip(&[
        "decoder_bias",
        "deterministic_flash_attn",
        "embedding_dropout",
        "initializer_cutoff_factor",
        "mlp_dropout",
        "reference_compile",
        "repad_logits_with_grad",
        "sparse_pred_ignore_index",
        "sparse_prediction",
        "pad_token_id",
    ]);
    // It has none of its own; old files say so.
    config.only("layer_norm_eps", &[json!(1e-5)])?;
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("hidden_size")?);
    let (layers, heads) = (config.size("num_hidden_layers")?, config.size("num_attention_heads")?);
    let wide = config.size("intermediate_size")?;
    let max_tokens = config.size("max_position_embeddings")?;
    let eps = config.optional_number("norm_eps")?.unwrap_or(1e-5);
    let norm_bias: Bias = config.flag_or("norm_bias", false)?.into();
    let attention_bias: Bias = config.flag_or("attention_bias", false)?.into();
    let mlp_bias: Bias = config.flag_or("mlp_bias", false)?.into();
    let activation = common::activation(config, "hidden_activation", "gelu")?;
    let head_size = common::head_size(config, hidden, "num_attention_heads", heads)?;
    common::even_head(config, "num_attention_heads", head_size)?;
    let window = config.optional_size("local_attention")?.unwrap_or(128) / 2;
    config.only("sliding_window", &[json!(window)])?;
    let thetas = thetas(config)?;

    let words = tensors.table("embeddings.tok_embeddings", vocabulary, hidden)?;
    let embedding_norm = tensors.norm("embeddings.norm", hidden, eps, norm_bias)?;
    let last_norm = tensors.norm("final_norm", hidden, eps, norm_bias)?;
    let types = layer_types(config, layers)?;
    let layer = |(i, slides): (usize, bool)| {
        let mut tensors = tensors.under(format!("layers.{i}.").as_str());
        let joined = tensors.linear("attn.Wqkv", hidden, 3 * hidden, attention_bias)?;
        let theta = if slides { thetas.sliding } else { thetas.full };
        let attention = Attention {
            heads,
            kv_heads: heads,
            head_size,
            projections: Projections::Joined(joined),
            query_norm: None,
            key_norm: None,
            rope: Some(Rope { theta }),
            reach: if slides { Reach::Within(window) } else { Reach::All },
            output: tensors.linear("attn.Wo", hidden, hidden, attention_bias)?,
        };
        let attention_before = match i {
            // The embeddings' norm has done it.
            0 => None,
            _ => Some(tensors.norm("attn_norm", hidden, eps, norm_bias)?),
        };
        Ok(Layer {
            attention_before,
            attention,
            attention_after: None,
            feed_before: Some(tensors.norm("mlp_norm", hidden, eps, norm_bias)?),
            feed_forward: FeedForward {
                wide: Wide::Joined(tensors.linear("mlp.Wi", hidden, 2 * wide, mlp_bias)?),
                activation,
                narrow: tensors.linear("mlp.Wo", wide, hidden, mlp_bias)?,
            },
            feed_after: None,
        })
    };
    Ok(Encoder {
        layers: types.into_iter().enumerate().map(layer).collect::<Result<_>>()?,
        words,
        positions: None,
        types: None,
        embedding_norm: Some(embedding_norm),
        projection: None,
        relative_bias: None,
        last_norm: Some(last_norm),
        hidden,
        max_tokens,
    })
}

/// The bases of the rotary embeddings.
struct Thetas {
    full: f64,
    sliding: f64,
}

/// One for each type of layer in `rope_parameters` of transformers 5, two keys before.
fn thetas(config: &mut Settings) -> Result<Thetas> {
    let mut full = config.optional_number("global_rope_theta")?.unwrap_or(160_000.0);
    let mut sliding = config.optional_number("local_rope_theta")?.unwrap_or(10_000.0);
    config.only("rope_scaling", &[])?;
    if let Some(mut parameters) = config.optional_inner("rope_parameters")? {
        for (key, theta) in [(FULL, &mut full), (SLIDING, &mut sliding)] {
            if let Some(own) = parameters.optional_inner(key)? {
                *theta = common::rope_of(own, *theta)?;
            }
        }
        parameters.finish()?;
    }
    Ok(Thetas { full, sliding })
}

/// Whether each layer sees a window only.
fn layer_types(config: &mut Settings, layers: usize) -> Result<Vec<bool>> {
    let every = config.optional_size("global_attn_every_n_layers")?.unwrap_or(3);
    let Some(list) = config.optional_list("layer_types")? else {
        // Checked against the file layer by layer: a number that no file holds stops there.
        return Ok((0..layers.min(1 << 16)).map(|i| i % every != 0).collect());
    };
    let slides = |value: &Value| match value.as_str() {
        Some(SLIDING) => Some(true),
        Some(FULL) => Some(false),
        _ => None,
    };
    let types: Option<Vec<bool>> = list.iter().map(slides).collect();
    types.filter(|types| types.len() == layers).ok_or_else(|| {
        let expected = format!("{layers} times {FULL} or {SLIDING}, one for each layer");
        config.invalid("layer_types", &Value::Array(list), expected)
    })
}

/// `dense`, the activation and a norm.
fn head_steps(config: &mut Settings, all: &mut Under<'_>, sizes: &HeadSizes<'_>) -> Result<Vec<Step>> {
    let bias: Bias = config.flag_or("classifier_bias", false)?.into();
    let activation = common::activation(config, "classifier_activation", "gelu")?;
    // Taken by the encoder already, whose norms have the same.
    let (eps, norm_bias) = (sizes.norm_eps, Bias::from(all.has("head.norm.bias")));
    Ok(vec![
        Step::Linear(all.linear("head.dense", sizes.hidden, sizes.hidden, bias)?),
        Step::Activation(activation),
        Step::Norm(all.norm("head.norm", sizes.hidden, eps, norm_bias)?),
        Step::Linear(all.linear("classifier", sizes.hidden, sizes.labels, Bias::Yes)?),
    ])
}

fn sequence_head(config: &mut Settings, all: &mut Under<'_>, sizes: &HeadSizes<'_>) -> Result<Head> {
    let pooling = config.optional_text("classifier_pooling")?.unwrap_or_else(|| "cls".to_owned());
    let pool = match pooling.as_str() {
        "cls" => Pool::First,
        "mean" => Pool::Mean,
        _ => return Err(config.invalid("classifier_pooling", &json!(pooling), "cls or mean")),
    };
    Ok(Head { pooling: vec![pool], steps: head_steps(config, all, sizes)? })
}

fn token_head(config: &mut Settings, all: &mut Under<'_>, sizes: &HeadSizes<'_>) -> Result<Head> {
    config.skip(&["classifier_pooling"]);
    Ok(Head { pooling: Vec::new(), steps: head_steps(config, all, sizes)? })
}
