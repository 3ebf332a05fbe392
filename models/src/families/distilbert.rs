//! `DistilBERT`: Sanh et al., 2019. BERT's layers under other names, without types of tokens and without a pooler.

use crate::description::{
    Activation, Attention, Counting, Encoder, FeedForward, Layer, Pool, PositionTable, Projections, Reach,
    Step, Wide,
};
use crate::error::Result;
use crate::families::common;
use crate::families::family::{Family, Head, HeadSizes};
use crate::families::heads::classifier;
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;

/// Written out in the library, whatever the settings say.
const EPS: f64 = 1e-12;

pub(crate) const DISTILBERT: Family = Family {
    names: &["distilbert"],
    architectures: &["DistilBert"],
    prefixes: &["", "distilbert."],
    probe: "embeddings.word_embeddings.weight",
    encoder: read,
    sequence_head,
    token_head: classifier,
    head_keys: &[],
    unused: &["{}embeddings.position_ids", "vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
    default_pooling: Pool::Mean,
    token_types: false,
};

fn read(config: &mut Settings, tensors: &mut Under<'_>) -> Result<Encoder> {
    common::read(config)?;
    // The table of positions stands in the file, whether it was learned or made of sines.
    config.skip(&["dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_"]);
    let (vocabulary, hidden) = (config.size("vocab_size")?, config.size("dim")?);
    let (layers, heads) = (config.size("n_layers")?, config.size("n_heads")?);
    let wide = config.size("hidden_dim")?;
    let positions = config.size("max_position_embeddings")?;
    let activation = common::activation(config, "activation", "gelu")?;
    let head_size = common::head_size(config, hidden, "n_heads", heads)?;

    let mut embeddings = tensors.under("embeddings.");
    let words = embeddings.table("word_embeddings", vocabulary, hidden)?;
    let table = embeddings.table("position_embeddings", positions, hidden)?;
    let embedding_norm = embeddings.norm("LayerNorm", hidden, EPS, Bias::Yes)?;
    let layer = |i: usize| {
        let mut tensors = tensors.under(format!("transformer.layer.{i}.").as_str());
        let mut square = |name: &str| tensors.linear(name, hidden, hidden, Bias::Yes);
        let attention = Attention {
            heads,
            kv_heads: heads,
            head_size,
            projections: Projections::Separate {
                query: square("attention.q_lin")?,
                key: square("attention.k_lin")?,
                value: square("attention.v_lin")?,
            },
            query_norm: None,
            key_norm: None,
            rope: None,
            reach: Reach::All,
            output: square("attention.out_lin")?,
        };
        Ok(Layer {
            attention_before: None,
            attention,
            attention_after: Some(tensors.norm("sa_layer_norm", hidden, EPS, Bias::Yes)?),
            feed_before: None,
            feed_forward: FeedForward {
                wide: Wide::Plain(tensors.linear("ffn.lin1", hidden, wide, Bias::Yes)?),
                activation,
                narrow: tensors.linear("ffn.lin2", wide, hidden, Bias::Yes)?,
            },
            feed_after: Some(tensors.norm("output_layer_norm", hidden, EPS, Bias::Yes)?),
        })
    };
    Ok(Encoder {
        layers: (0..layers).map(layer).collect::<Result<_>>()?,
        words,
        positions: Some(PositionTable { table, counting: Counting::FromZero }),
        types: None,
        embedding_norm: Some(embedding_norm),
        projection: None,
        relative_bias: None,
        last_norm: None,
        hidden,
        max_tokens: positions,
    })
}

fn sequence_head(_: &mut Settings, all: &mut Under<'_>, sizes: &HeadSizes<'_>) -> Result<Head> {
    let steps = vec![
        Step::Linear(all.linear("pre_classifier", sizes.hidden, sizes.hidden, Bias::Yes)?),
        Step::Activation(Activation::Relu),
        Step::Linear(all.linear("classifier", sizes.hidden, sizes.labels, Bias::Yes)?),
    ];
    Ok(Head { pooling: vec![Pool::First], steps })
}
