//! BERT: Devlin et al., "BERT: Pre-training of deep bidirectional transformers", 2019; and ELECTRA, which is the same
//! encoder with smaller vectors at its start.

use crate::description::{
    Activation, Attention, Counting, Encoder, FeedForward, Layer, Pool, PositionTable, Projections, Reach,
    Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::Family;
use crate::families::heads::{classifier, dense_and_classifier, pooler_and_classifier};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;
use serde_json::json;

pub(crate) const BERT: Family = Family {
    names: &["bert"],
    architectures: &["Bert"],
    prefixes: &["", "bert."],
    probe: "embeddings.word_embeddings.weight",
    encoder: |config, tensors| {
        read(config, tensors, &Own { embedding_size: None, counting: Counting::FromZero, eps: 1e-12 })
    },
    sequence_head: pooler_and_classifier,
    token_head: classifier,
    head_keys: &[],
    unused: &["{}embeddings.position_ids", "{}embeddings.token_type_ids", "{}pooler.", "cls."],
    default_pooling: Pool::Mean,
    token_types: true,
};

pub(crate) const ELECTRA: Family = Family {
    names: &["electra"],
    architectures: &["Electra"],
    prefixes: &["", "electra."],
    probe: "embeddings.word_embeddings.weight",
    encoder: |config, tensors| {
        let embedding_size = config.optional_size("embedding_size")?.unwrap_or(128);
        let own = Own { embedding_size: Some(embedding_size), counting: Counting::FromZero, eps: 1e-12 };
        read(config, tensors, &own)
    },
    sequence_head: |_, all, sizes| dense_and_classifier(all, sizes, Activation::Gelu),
    token_head: classifier,
    head_keys: &[],
    unused: &[
        "{}embeddings.position_ids",
        "{}embeddings.token_type_ids",
        "discriminator_predictions.",
        "generator_predictions.",
        "generator_lm_head.",
    ],
    default_pooling: Pool::Mean,
    token_types: true,
};

/// What differs among the families with this encoder.
pub(super) struct Own {
    /// Numbers of the vocabulary's vectors, where they are not those of the layers.
    pub(super) embedding_size: Option<usize>,
    pub(super) counting: Counting,
    /// Where `layer_norm_eps` is not given.
    pub(super) eps: f64,
}

/// Reads the sizes and finds the parameters of this encoder.
pub(super) fn read(config: &mut Settings, tensors: &mut Under<'_>, own: &Own) -> Result<Encoder> {
    common::read(config)?;
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("hidden_size")?);
    let (layers, heads) = (config.size("num_hidden_layers")?, config.size("num_attention_heads")?);
    let wide = config.size("intermediate_size")?;
    let positions = config.size("max_position_embeddings")?;
    let types = config.optional_size("type_vocab_size")?.unwrap_or(2);
    let eps = config.optional_number("layer_norm_eps")?.unwrap_or(own.eps);
    let activation = common::activation(config, "hidden_act", "gelu")?;
    let head_size = common::head_size(config, hidden, "num_attention_heads", heads)?;
    let max_tokens = match own.counting {
        Counting::FromZero => positions,
        Counting::AfterPadding { padding } => positions.saturating_sub(padding as usize + 1),
    };
    if max_tokens == 0 {
        let expected = "more than `pad_token_id` + 1, from where this family counts";
        return Err(config.invalid("max_position_embeddings", &json!(positions), expected));
    }
    let size = own.embedding_size.unwrap_or(hidden);
    let mut embeddings = tensors.under("embeddings.");
    let words = embeddings.table("word_embeddings", vocabulary, size)?;
    let table = embeddings.table("position_embeddings", positions, size)?;
    let types = embeddings.table("token_type_embeddings", types, size)?;
    let embedding_norm = embeddings.norm("LayerNorm", size, eps, Bias::Yes)?;
    let projection = if size == hidden {
        None
    } else {
        Some(tensors.linear("embeddings_project", size, hidden, Bias::Yes)?)
    };
    let sizes = Sizes { hidden, heads, head_size, wide, eps, activation };
    let layers =
        (0..layers).map(|i| layer(&mut tensors.under(format!("encoder.layer.{i}.").as_str()), &sizes));
    Ok(Encoder {
        layers: layers.collect::<Result<_>>()?,
        words,
        positions: Some(PositionTable { table, counting: own.counting }),
        types: Some(types),
        embedding_norm: Some(embedding_norm),
        projection,
        relative_bias: None,
        last_norm: None,
        hidden,
        max_tokens,
    })
}

struct Sizes {
    hidden: usize,
    heads: usize,
    head_size: usize,
    wide: usize,
    eps: f64,
    activation: Activation,
}

fn layer(tensors: &mut Under<'_>, sizes: &Sizes) -> Result<Layer> {
    let Sizes { hidden, heads, head_size, wide, eps, activation } = *sizes;
    let mut square = |name: &str| tensors.linear(name, hidden, hidden, Bias::Yes);
    let projections = Projections::Separate {
        query: square("attention.self.query")?,
        key: square("attention.self.key")?,
        value: square("attention.self.value")?,
    };
    let attention = Attention {
        heads,
        kv_heads: heads,
        head_size,
        projections,
        query_norm: None,
        key_norm: None,
        rope: None,
        reach: Reach::All,
        output: square("attention.output.dense")?,
    };
    let feed_forward = FeedForward {
        wide: Wide::Plain(tensors.linear("intermediate.dense", hidden, wide, Bias::Yes)?),
        activation,
        narrow: tensors.linear("output.dense", wide, hidden, Bias::Yes)?,
    };
    Ok(Layer {
        attention_before: None,
        attention,
        attention_after: Some(tensors.norm("attention.output.LayerNorm", hidden, eps, Bias::Yes)?),
        feed_before: None,
        feed_forward,
        feed_after: Some(tensors.norm("output.LayerNorm", hidden, eps, Bias::Yes)?),
    })
}
