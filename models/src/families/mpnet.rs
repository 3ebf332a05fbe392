//! `MPNet`: Song et al., "`MPNet`: Masked and permuted pre-training", 2020. BERT's layers with a bias by distance, which
//! all layers share.

use crate::description::{
    Activation, Attention, Counting, Encoder, FeedForward, Layer, Pool, PositionTable, Projections, Reach,
    RelativeBias, Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::Family;
use crate::families::heads::{classifier, dense_and_classifier};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;
use serde_json::json;

/// Written out in the library, whatever the settings say.
const BUCKETS: usize = 32;
const MAX_DISTANCE: usize = 128;
const PADDING: u32 = 1;

pub(crate) const MPNET: Family = Family {
    names: &["mpnet"],
    architectures: &["MPNet"],
    prefixes: &["", "mpnet."],
    probe: "embeddings.word_embeddings.weight",
    encoder: read,
    sequence_head: |_, all, sizes| dense_and_classifier(all, sizes, Activation::Tanh),
    token_head: classifier,
    head_keys: &[],
    unused: &["{}embeddings.position_ids", "{}pooler.", "lm_head."],
    default_pooling: Pool::Mean,
    token_types: false,
};

fn read(config: &mut Settings, tensors: &mut Under<'_>) -> Result<Encoder> {
    common::read(config)?;
    config.only("relative_attention_num_buckets", &[json!(BUCKETS)])?;
    config.only("pad_token_id", &[json!(PADDING)])?;
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("hidden_size")?);
    let (layers, heads) = (config.size("num_hidden_layers")?, config.size("num_attention_heads")?);
    let wide = config.size("intermediate_size")?;
    let positions = config.size("max_position_embeddings")?;
    let eps = config.optional_number("layer_norm_eps")?.unwrap_or(1e-12);
    let activation = common::activation(config, "hidden_act", "gelu")?;
    let head_size = common::head_size(config, hidden, "num_attention_heads", heads)?;
    let max_tokens = positions.saturating_sub(PADDING as usize + 1);
    if max_tokens == 0 {
        return Err(config.invalid("max_position_embeddings", &json!(positions), "more than 2"));
    }

    let mut embeddings = tensors.under("embeddings.");
    let words = embeddings.table("word_embeddings", vocabulary, hidden)?;
    let table = embeddings.table("position_embeddings", positions, hidden)?;
    let embedding_norm = embeddings.norm("LayerNorm", hidden, eps, Bias::Yes)?;
    let bias = tensors.table("encoder.relative_attention_bias", BUCKETS, heads)?;
    let layer = |i: usize| {
        let mut tensors = tensors.under(format!("encoder.layer.{i}.").as_str());
        let mut square = |name: &str| tensors.linear(name, hidden, hidden, Bias::Yes);
        let attention = Attention {
            heads,
            kv_heads: heads,
            head_size,
            projections: Projections::Separate {
                query: square("attention.attn.q")?,
                key: square("attention.attn.k")?,
                value: square("attention.attn.v")?,
            },
            query_norm: None,
            key_norm: None,
            rope: None,
            reach: Reach::All,
            output: square("attention.attn.o")?,
        };
        Ok(Layer {
            attention_before: None,
            attention,
            attention_after: Some(tensors.norm("attention.LayerNorm", hidden, eps, Bias::Yes)?),
            feed_before: None,
            feed_forward: FeedForward {
                wide: Wide::Plain(tensors.linear("intermediate.dense", hidden, wide, Bias::Yes)?),
                activation,
                narrow: tensors.linear("output.dense", wide, hidden, Bias::Yes)?,
            },
            feed_after: Some(tensors.norm("output.LayerNorm", hidden, eps, Bias::Yes)?),
        })
    };
    Ok(Encoder {
        layers: (0..layers).map(layer).collect::<Result<_>>()?,
        words,
        positions: Some(PositionTable { table, counting: Counting::AfterPadding { padding: PADDING } }),
        types: None,
        embedding_norm: Some(embedding_norm),
        projection: None,
        relative_bias: Some(RelativeBias { table: bias, max_distance: MAX_DISTANCE }),
        last_norm: None,
        hidden,
        max_tokens,
    })
}
