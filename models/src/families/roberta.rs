//! `RoBERTa`: Liu et al., 2019, and its kin `XLM-RoBERTa` and `CamemBERT`: BERT's encoder whose positions are counted after
//! the padding's id.

use crate::description::{Activation, Counting, Pool};
use crate::families::bert::{Own, read};
use crate::families::family::Family;
use crate::families::heads::{classifier, dense_and_classifier};

pub(crate) const ROBERTA: Family = Family {
    names: &["roberta", "xlm-roberta", "camembert"],
    architectures: &["Roberta", "XLMRoberta", "Camembert"],
    prefixes: &["", "roberta."],
    probe: "embeddings.word_embeddings.weight",
    encoder: |config, tensors| {
        let padding = config.optional_id("pad_token_id")?.unwrap_or(1);
        let own = Own { embedding_size: None, counting: Counting::AfterPadding { padding }, eps: 1e-12 };
        read(config, tensors, &own)
    },
    sequence_head: |_, all, sizes| dense_and_classifier(all, sizes, Activation::Tanh),
    token_head: classifier,
    head_keys: &[],
    unused: &["{}embeddings.position_ids", "{}embeddings.token_type_ids", "{}pooler.", "lm_head."],
    default_pooling: Pool::Mean,
    token_types: false,
};
