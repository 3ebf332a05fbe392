//! What a family has to say.

use crate::description::{Encoder, Pool, Step};
use crate::error::Result;
use crate::folder::parameters::Under;
use crate::folder::settings::Settings;

/// What is computed after the encoder to give numbers for labels.
pub(crate) struct Head {
    pub(crate) pooling: Vec<Pool>,
    pub(crate) steps: Vec<Step>,
}

/// One family. All of it is about files: what is computed stands in the description that comes out.
pub(crate) struct Family {
    /// Its `model_type`s.
    pub(crate) names: &'static [&'static str],
    /// What its architectures' names begin with: `Bert` of `BertModel`.
    pub(crate) architectures: &'static [&'static str],
    /// What may stand before the names of the encoder's parameters.
    pub(crate) prefixes: &'static [&'static str],
    /// An encoder parameter that every file has.
    pub(crate) probe: &'static str,
    /// Reads `config.json` and finds the encoder's parameters.
    pub(crate) encoder: fn(&mut Settings, &mut Under<'_>) -> Result<Encoder>,
    /// Finds what a classifier of texts has after the encoder: config, all parameters, the encoder's prefix, sizes.
    pub(crate) sequence_head: fn(&mut Settings, &mut Under<'_>, &HeadSizes<'_>) -> Result<Head>,
    /// The same for a classifier of tokens.
    pub(crate) token_head: fn(&mut Settings, &mut Under<'_>, &HeadSizes<'_>) -> Result<Head>,
    /// Keys of `config.json` that only a head reads.
    pub(crate) head_keys: &'static [&'static str],
    /// Tensors of other heads, which an encoder alone may leave out. `{}` stands for the encoder's prefix.
    pub(crate) unused: &'static [&'static str],
    /// How a text's vectors become one where the folder does not say: as sentence-transformers would.
    pub(crate) default_pooling: Pool,
    /// Whether the tokenizer of its class tells the texts of a pair apart.
    pub(crate) token_types: bool,
}

/// What a head is measured by.
pub(crate) struct HeadSizes<'a> {
    pub(crate) hidden: usize,
    pub(crate) labels: usize,
    /// `pad_token_id`.
    pub(crate) pad: Option<u32>,
    /// Under the divisions of the norms after the encoder.
    pub(crate) norm_eps: f64,
    /// What stands before the encoder's parameters.
    pub(crate) prefix: &'a str,
}
