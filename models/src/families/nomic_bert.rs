//! Nomic-BERT: Nussbaum et al., "Nomic Embed", 2024. BERT's order of norms with rotary positions, gated feed-forward
//! layers and joined projections.
//!
//! Its `config.json` comes with the keys under which it was first published (`n_embd`), and with those of
//! `transformers`; the parameters have the published names in both.

use crate::description::{
    Activation, Attention, Encoder, FeedForward, Layer, Pool, Projections, Reach, Rope, Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::Family;
use crate::families::heads::{classifier, pooler_and_classifier};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;
use serde_json::json;

pub(crate) const NOMIC: Family = Family {
    names: &["nomic_bert"],
    architectures: &["NomicBert"],
    prefixes: &["", "nomic_bert.", "bert."],
    probe: "embeddings.word_embeddings.weight",
    encoder: read,
    sequence_head: pooler_and_classifier,
    token_head: classifier,
    head_keys: &[],
    unused: &["{}pooler.", "cls."],
    default_pooling: Pool::Mean,
    token_types: true,
};

struct Sizes {
    vocabulary: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    head_size: usize,
    wide: usize,
    types: usize,
    eps: f64,
    theta: f64,
    activation: Activation,
    max_tokens: usize,
    joined_bias: Bias,
    wide_bias: Bias,
    narrow_bias: Bias,
}

fn read(config: &mut Settings, tensors: &mut Under<'_>) -> Result<Encoder> {
    // The code that the published folders name is what is computed here.
    config.skip(&["auto_map", "pad_token_id"]);
    common::read(config)?;
    let sizes = if config.has("n_embd") { published(config)? } else { of_transformers(config)? };
    let Sizes { hidden, eps, types, .. } = sizes;
    let words = tensors.table("embeddings.word_embeddings", sizes.vocabulary, hidden)?;
    let types = match types {
        0 => None,
        rows => Some(tensors.table("embeddings.token_type_embeddings", rows, hidden)?),
    };
    let embedding_norm = tensors.norm("emb_ln", hidden, eps, Bias::Yes)?;
    let layer = |i: usize| layer(&mut tensors.under(format!("encoder.layers.{i}.").as_str()), &sizes);
    Ok(Encoder {
        layers: (0..sizes.layers).map(layer).collect::<Result<_>>()?,
        words,
        positions: None,
        types,
        embedding_norm: Some(embedding_norm),
        projection: None,
        relative_bias: None,
        last_norm: None,
        hidden,
        max_tokens: sizes.max_tokens,
    })
}

fn layer(tensors: &mut Under<'_>, sizes: &Sizes) -> Result<Layer> {
    let &Sizes { hidden, heads, head_size, wide, eps, .. } = sizes;
    let inner = heads * head_size;
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_size,
        projections: Projections::Joined(tensors.linear(
            "attn.Wqkv",
            hidden,
            3 * inner,
            sizes.joined_bias,
        )?),
        query_norm: None,
        key_norm: None,
        rope: Some(Rope { theta: sizes.theta }),
        reach: Reach::All,
        output: tensors.linear("attn.out_proj", inner, hidden, sizes.joined_bias)?,
    };
    let feed_forward = FeedForward {
        wide: Wide::Gated {
            gate: tensors.linear("mlp.fc12", hidden, wide, sizes.wide_bias)?,
            up: tensors.linear("mlp.fc11", hidden, wide, sizes.wide_bias)?,
        },
        activation: sizes.activation,
        narrow: tensors.linear("mlp.fc2", wide, hidden, sizes.narrow_bias)?,
    };
    Ok(Layer {
        attention_before: None,
        attention,
        attention_after: Some(tensors.norm("norm1", hidden, eps, Bias::Yes)?),
        feed_before: None,
        feed_forward,
        feed_after: Some(tensors.norm("norm2", hidden, eps, Bias::Yes)?),
    })
}

/// The keys of `transformers`.
fn of_transformers(config: &mut Settings) -> Result<Sizes> {
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("hidden_size")?);
    let (layers, heads) = (config.size("num_hidden_layers")?, config.size("num_attention_heads")?);
    let own = config.optional_size("head_dim")?;
    let head_size = match own {
        Some(size) => size,
        None => common::head_size(config, hidden, "num_attention_heads", heads)?,
    };
    common::even_head(config, "head_dim", head_size)?;
    common::check_product(config, "head_dim", head_size, heads)?;
    Ok(Sizes {
        vocabulary,
        hidden,
        layers,
        heads,
        head_size,
        wide: config.size("intermediate_size")?,
        types: config.optional_size("type_vocab_size")?.unwrap_or(2),
        eps: config.optional_number("layer_norm_eps")?.unwrap_or(1e-12),
        theta: common::rope_theta(config, 1000.0)?,
        activation: common::activation(config, "hidden_act", "silu")?,
        max_tokens: config.size("max_position_embeddings")?,
        joined_bias: Bias::No,
        wide_bias: Bias::No,
        narrow_bias: Bias::No,
    })
}

/// The keys of the published folders.
fn published(config: &mut Settings) -> Result<Sizes> {
    config.skip(&[
        "attn_pdrop",
        "dense_seq_output",
        "embd_pdrop",
        "fused_bias_fc",
        "fused_dropout_add_ln",
        "last_layer_subset",
        "max_trained_positions",
        "pad_vocab_size_multiple",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "use_flash_attn",
        "use_xentropy",
    ]);
    let off = [json!(false)];
    for key in [
        "causal",
        "parallel_block",
        "parallel_block_tied_norm",
        "prenorm",
        "rotary_emb_interleaved",
        "scale_attn_by_inverse_layer_idx",
        "use_rms_norm",
    ] {
        config.only(key, &off)?;
    }
    config.only("scale_attn_weights", &[json!(true)])?;
    config.only("rotary_emb_fraction", &[json!(1.0), json!(1)])?;
    config.only("rotary_emb_scale_base", &[])?;
    config.only("rotary_scaling_factor", &[])?;
    config.only("activation_function", &[json!("swiglu")])?;
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("n_embd")?);
    let (layers, heads) = (config.size("n_layer")?, config.size("n_head")?);
    let head_size = common::head_size(config, hidden, "n_head", heads)?;
    common::even_head(config, "n_head", head_size)?;
    // 0 stands for no table.
    let types = match config.take("type_vocab_size") {
        Some(value) if value == json!(0) => 0,
        Some(value) => match value.as_u64().and_then(|rows| usize::try_from(rows).ok()) {
            Some(rows) => rows,
            None => return Err(config.invalid("type_vocab_size", &value, "a whole number")),
        },
        None => 2,
    };
    let joined_bias: Bias = config.flag_or("qkv_proj_bias", true)?.into();
    Ok(Sizes {
        vocabulary,
        hidden,
        layers,
        heads,
        head_size,
        wide: config.size("n_inner")?,
        types,
        eps: config.optional_number("layer_norm_epsilon")?.unwrap_or(1e-5),
        theta: config.optional_number("rotary_emb_base")?.unwrap_or(10_000.0),
        activation: Activation::Silu,
        max_tokens: config.size("n_positions")?,
        joined_bias,
        wide_bias: config.flag_or("mlp_fc1_bias", true)?.into(),
        narrow_bias: config.flag_or("mlp_fc2_bias", true)?.into(),
    })
}
