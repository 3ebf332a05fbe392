//! A model as its folder describes it.

use crate::description::{Activation, Description, Kind};
use crate::text::error::{TextError, gives};
use crate::text::tokens::Tokens;
use crate::weights::Weights;
use skep_runtime_core::{DType, Dim, PadTo, Padding, TensorSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The options of reading a folder.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Keys of settings that are not known and that the caller takes on himself: they are left out as if they were
    /// not there. Nested keys with dots.
    pub ignored_keys: Vec<String>,
}

/// Prompts by name: what is put before a text.
pub type Prompts = BTreeMap<String, String>;

/// The measure of how near two vectors are, as the model's makers chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Similarity {
    /// The cosine of the angle between them.
    Cosine,
    /// Their product.
    Dot,
    /// Minus their Euclidean distance.
    Euclidean,
    /// Minus the sum of the distances of their numbers.
    Manhattan,
}

impl Similarity {
    /// Returns how near two vectors are: the larger, the nearer. Vectors of different lengths are compared as far as both go.
    pub fn of(self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = || a.iter().zip(b);
        let dot = || pairs().map(|(a, b)| a * b).sum::<f32>();
        let length = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
        match self {
            Self::Cosine => dot() / (length(a) * length(b)),
            Self::Dot => dot(),
            Self::Euclidean => -pairs().map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt(),
            Self::Manhattan => -pairs().map(|(a, b)| (a - b).abs()).sum::<f32>(),
        }
    }
}

/// The rule by which a classifier's numbers become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scores {
    /// Nothing: regression.
    AsTheyAre,
    /// Each for itself: several labels may hold, or there is one.
    Each(Activation),
    /// They add up to 1: one label holds.
    Softmax,
}

/// The labels that a classifier's numbers stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// In the order of the numbers.
    pub names: Vec<String>,
    /// Applied to the numbers when a text, or a token, is classified.
    pub classify: Scores,
    /// Applied to them when pairs are ranked.
    pub rank: Scores,
    /// Set if the folder says that it judges pairs of texts: a `CrossEncoder` of sentence-transformers.
    pub pairs: bool,
}

/// A published model: what is computed, with which weights, of which tokens.
///
/// ```no_run
/// use skep_models::Model;
///
/// let model = Model::read("all-MiniLM-L6-v2")?;
/// println!("{} numbers for each text", model.description().output);
/// # Ok::<(), skep_models::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Model {
    pub(crate) folder: PathBuf,
    pub(crate) description: Description,
    pub(crate) weights: Weights,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) labels: Option<Labels>,
    pub(crate) prompts: Prompts,
    pub(crate) default_prompt: Option<String>,
    pub(crate) similarity: Option<Similarity>,
    pub(crate) notes: Vec<String>,
}

impl Model {
    /// Returns the folder that was read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what a backend computes.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Returns what makes tokens of texts; `None` if the folder has no `tokenizer.json`.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Returns what the numbers of a classifier stand for; `None` for an embedding model.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// Returns what may be put before a text, by name. An empty one is none.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// Returns the prompt that is used if none is named.
    pub fn default_prompt(&self) -> Option<&str> {
        self.default_prompt.as_deref()
    }

    /// Returns the measure of how near two vectors are; the cosine if the folder does not say.
    pub fn similarity(&self) -> Similarity {
        self.similarity.unwrap_or(Similarity::Cosine)
    }

    /// Returns what the block takes: ids and mask, both u32 `[batch, tokens]`, and more where the description says so.
    pub fn inputs(&self) -> Vec<TensorSpec> {
        let dims = [Dim::Batch, Dim::free("tokens", self.description.encoder.max_tokens)];
        let spec = |name: &str, below: usize| {
            TensorSpec::new(name, DType::U32, dims.clone()).with_index_below(below as u64)
        };
        let mut specs =
            vec![spec("input_ids", self.description.encoder.words.rows), spec("attention_mask", 2)];
        if self.description.token_types {
            let types = self.description.encoder.types.as_ref().map_or(1, |types| types.rows);
            specs.push(spec("token_type_ids", types));
        }
        if self.description.pooling_mask {
            specs.push(spec("pooling_mask", 2));
        }
        specs
    }

    /// Returns the rule by which a pool pads texts, for the options of the pool that the block is served with: texts of
    /// different lengths share batches then, and each gets what it gets alone.
    ///
    /// The shorter the steps of `to`, the less is padding, and the fewer texts share a batch: where many texts wait,
    /// [`PadTo::Multiple`] of 2 makes batches large enough, on the processor above all, where a batch takes about as long as
    /// its tokens are many.
    pub fn padding(&self, to: PadTo) -> Padding {
        let padding = self.tokens().map_or(0, Tokens::padding);
        Padding::new(to).with_value("input_ids", padding)
    }

    /// Has the block of an embedding model give the vectors of the tokens too, `token_embeddings`, f32
    /// `[batch, tokens, hidden]`: those that come out of the last layer, before they become one.
    /// [`TextModel::embed_tokens`](crate::TextModel::embed_tokens) asks for them.
    ///
    /// Each text's answer is as many times as large as it has tokens then, and that much more is copied from the device.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::OtherKind`] if the model is no embedding model.
    pub fn with_token_vectors(mut self) -> Result<Self, TextError> {
        match self.description.kind {
            Kind::Embedding => {
                self.description.token_vectors = true;
                Ok(self)
            }
            other => Err(TextError::OtherKind { asked: "give the vectors of tokens", got: gives(other) }),
        }
    }

    /// Returns what the block gives, f32.
    pub fn outputs(&self) -> Vec<TensorSpec> {
        let name = self.description.output_name();
        let size = Dim::Fixed(self.description.output);
        let tokens = Dim::free("tokens", self.description.encoder.max_tokens);
        let mut specs = vec![match self.description.kind {
            Kind::Token => TensorSpec::new(name, DType::F32, [Dim::Batch, tokens.clone(), size]),
            _ => TensorSpec::new(name, DType::F32, [Dim::Batch, size]),
        }];
        if let Some(name) = self.description.token_output_name() {
            let hidden = Dim::Fixed(self.description.encoder.hidden);
            specs.push(TensorSpec::new(name, DType::F32, [Dim::Batch, tokens, hidden]));
        }
        specs
    }

    /// Returns what a reader should know and no error says: assumptions, and parts of the folder that are left out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// The precision in which a model's weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// In f32, whatever they are stored in. The answers are those of the folder to within 1e-5.
    #[default]
    F32,
    /// In f16: half the memory, and answers that differ from those in f32 in the third digit.
    F16,
    /// In bf16: half the memory, answers that differ from those in f32 in the third digit, and with libtorch several times
    /// as many texts on processors that have instructions for it.
    BF16,
    /// In the type that they are stored in: half the memory for bf16 and f16, and answers that differ from those in
    /// f32 in the third digit. The crate's documentation has the figures.
    Stored,
}

impl Precision {
    /// Returns the element type that this comes to.
    pub fn of(self, model: &Model) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::Stored => model.weights.dtype(&model.description.encoder.words.name).unwrap_or(DType::F32),
        }
    }
}

/// A name that no precision has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("precision is unknown, expected `f32`, `f16`, `bf16` or `stored`")]
pub struct UnknownPrecision;

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            "stored" => Ok(Self::Stored),
            _ => Err(UnknownPrecision),
        }
    }
}
