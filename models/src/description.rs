//! A model as plain data: which parameters there are, of which sizes, and what is computed of them in which order.
//!
//! A backend builds this and knows no family; a family fills it in and knows no backend. Parameters are named as
//! [`Weights`](crate::Weights) knows them, and all sizes have been checked against the files.

/// A learned table: `rows` vectors of `size` numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The parameter, `[rows, size]`.
    pub name: String,
    /// Number of vectors.
    pub rows: usize,
    /// Numbers of each.
    pub size: usize,
}

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The parameter, `[output, input]`.
    pub weight: String,
    /// The parameter, `[output]`.
    pub bias: Option<String>,
    /// Numbers that go in.
    pub input: usize,
    /// Numbers that come out.
    pub output: usize,
}

/// Normalisation over the last dim.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// The formula.
    pub kind: NormKind,
    /// The parameter, `[size]`.
    pub weight: String,
    /// The parameter, `[size]`.
    pub bias: Option<String>,
    /// Numbers of each vector.
    pub size: usize,
    /// Under the division.
    pub eps: f64,
}

/// The formula of a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormKind {
    /// Ba, Kiros and Hinton, "Layer normalization", 2016.
    Layer,
    /// Zhang and Sennrich, "Root mean square layer normalization", 2019: no mean is taken off.
    RootMeanSquare,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// Leaves it as it is.
    Identity,
    /// `x · Φ(x)`, exact: Hendrycks and Gimpel, 2016.
    Gelu,
    /// The same approximated by a hyperbolic tangent.
    GeluTanh,
    /// `x · σ(1.702 x)`.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · σ(x)`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `σ(x) = 1 / (1 + exp(-x))`.
    Sigmoid,
}

/// A learned table that tells positions in a text apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionTable {
    /// The table.
    pub table: Table,
    /// The rule for the row that a token gets.
    pub counting: Counting,
}

/// The rule for the row of the table of positions that a token gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counting {
    /// The first token gets row 0, the next row 1.
    FromZero,
    /// Tokens that are not `padding` are counted from `padding + 1`; those that are get row `padding`.
    AfterPadding {
        /// The id, and the row before the first.
        padding: u32,
    },
}

/// Rotary embedding of positions: Su et al., "`RoFormer`", 2021. The first half of the numbers is turned against the
/// second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the wavelengths.
    pub theta: f64,
}

/// A learned number for each head that is added to the scores, by the distance of two tokens: Raffel et al., "T5",
/// 2020.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelativeBias {
    /// `[buckets, heads]`.
    pub table: Table,
    /// From this distance on, all are in the last bucket.
    pub max_distance: usize,
}

/// The tokens that a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// All of its text.
    All,
    /// Those at most so many positions away.
    Within(usize),
    /// Itself and those before it.
    Before,
}

/// The layers of query, key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projections {
    /// From a layer each.
    Separate {
        /// To `heads · head_size`.
        query: Linear,
        /// To `kv_heads · head_size`.
        key: Linear,
        /// To `kv_heads · head_size`.
        value: Linear,
    },
    /// From one layer whose outputs are those of query, key and value, in this order.
    Joined(Linear),
}

/// Scaled dot-product attention: Vaswani et al., "Attention is all you need", 2017.
///
/// `x + after(output(attend(before(x))))`, or `after(x + …)`: see [`Layer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_size: usize,
    /// The layers of query, key and value.
    pub projections: Projections,
    /// Of each head's query, before it is turned.
    pub query_norm: Option<Norm>,
    /// Of each head's key, before it is turned.
    pub key_norm: Option<Norm>,
    /// Turns queries and keys by their position.
    pub rope: Option<Rope>,
    /// The tokens that each token sees.
    pub reach: Reach,
    /// From `heads · head_size` back.
    pub output: Linear,
}

/// The first half of a feed-forward layer, which makes vectors wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wide {
    /// `activation(linear(x))`.
    Plain(Linear),
    /// `activation(gate(x)) · up(x)`.
    Gated {
        /// Goes through the activation.
        gate: Linear,
        /// Multiplied with the gate.
        up: Linear,
    },
    /// The same from one layer: its first half of outputs is the gate, the second is multiplied with it.
    Joined(Linear),
}

/// The two or three linear layers of each position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedForward {
    /// From the hidden size to the wide one.
    pub wide: Wide,
    /// In between.
    pub activation: Activation,
    /// Back.
    pub narrow: Linear,
}

/// One layer:
///
/// ```text
/// h = attention_after(x + attention(attention_before(x)))
/// y = feed_after(h + feed_forward(feed_before(h)))
/// ```
///
/// A norm that is not there leaves its input as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Before the attention.
    pub attention_before: Option<Norm>,
    /// Mixes tokens.
    pub attention: Attention,
    /// After the attention is added.
    pub attention_after: Option<Norm>,
    /// Before the feed-forward layer.
    pub feed_before: Option<Norm>,
    /// Applied to each token.
    pub feed_forward: FeedForward,
    /// After the feed-forward layer is added.
    pub feed_after: Option<Norm>,
}

/// Token ids to one vector for each token.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    /// The vectors of the vocabulary; a token id is below its rows.
    pub words: Table,
    /// Added for the position.
    pub positions: Option<PositionTable>,
    /// Added for the text of a pair that a token is from.
    pub types: Option<Table>,
    /// Of the sum of these.
    pub embedding_norm: Option<Norm>,
    /// From the vocabulary's size of vector to the layers'.
    pub projection: Option<Linear>,
    /// Added to the scores of all layers.
    pub relative_bias: Option<RelativeBias>,
    /// One after the other.
    pub layers: Vec<Layer>,
    /// After the last.
    pub last_norm: Option<Norm>,
    /// Numbers of each token's vector.
    pub hidden: usize,
    /// The most tokens of a text that the model has positions for.
    pub max_tokens: usize,
}

/// A way to make one vector of those of a text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pool {
    /// That of the first token.
    First,
    /// That of the last token.
    Last,
    /// That of the last token whose id is another one; of the first token where there is none.
    LastBut(u32),
    /// The mean.
    Mean,
    /// The largest of each number.
    Max,
    /// The sum over the square root of the number of tokens.
    MeanSqrt,
    /// The mean, weighted by the position, the first being 1.
    WeightedMean,
}

/// A step that a vector takes after the encoder.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A linear layer.
    Linear(Linear),
    /// Of each number.
    Activation(Activation),
    /// A norm with parameters.
    Norm(Norm),
    /// Divided by its Euclidean length.
    UnitLength,
    /// Its first numbers.
    Truncate(usize),
}

/// The kind of answer that a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A vector for each text.
    Embedding,
    /// A number for each label of a text, or of a pair of texts: classifiers, cross-encoders, regression.
    Sequence,
    /// A number for each label of each token.
    Token,
}

/// Everything that a backend computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The name of the family, as `config.json` calls it.
    pub family: String,
    /// The kind of answer.
    pub kind: Kind,
    /// Ids to vectors.
    pub encoder: Encoder,
    /// Make one vector of a text's: those of several poolings one after the other. Empty for
    /// [`Kind::Token`].
    pub pooling: Vec<Pool>,
    /// Set if the block takes a third mask, `pooling_mask`: tokens of a prompt are encoded and not pooled.
    pub pooling_mask: bool,
    /// Set if the block takes `token_type_ids`, the text of a pair that each token is from.
    pub token_types: bool,
    /// Applied to the pooled vector, or to each token's, in order.
    pub steps: Vec<Step>,
    /// Numbers that come out for each text, or token.
    pub output: usize,
    /// Set if an embedding model gives the vectors of its tokens too, as they are before they become one:
    /// [`Model::with_token_vectors`](crate::Model::with_token_vectors).
    pub token_vectors: bool,
}

impl Description {
    /// Returns the name of the block's output.
    pub fn output_name(&self) -> &'static str {
        if self.kind == Kind::Embedding { "embedding" } else { "logits" }
    }

    /// Returns the name of the second output, the vectors of tokens, if the block gives them.
    pub fn token_output_name(&self) -> Option<&'static str> {
        self.token_vectors.then_some("token_embeddings")
    }
}
