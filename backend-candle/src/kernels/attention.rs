//! Attention of one text, head by head: scores, shares and what they mix never leave the cache.

use super::panels::{Panels, Rows};
use super::pointwise::shares;
use super::processor::Processor;
use super::product::product;

/// Heads, and where they stand in a row of what was projected: queries, then keys, then values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    /// Of keys and of values; divides those of queries.
    pub(crate) keys: usize,
    /// Numbers of a head.
    pub(crate) size: usize,
}

impl Heads {
    /// Numbers of a row of what was projected.
    pub(crate) fn projected(self) -> usize {
        (self.queries + 2 * self.keys) * self.size
    }

    /// Numbers of a row of what comes out.
    pub(crate) fn mixed(self) -> usize {
        self.queries * self.size
    }
}

/// Memory that is kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct AttentionScratch {
    keys: Panels,
    values: Panels,
    scores: Vec<f32>,
}

/// Mixes one text's values. `projected` has a row for each token; `mask` is added to the scores of its token, and
/// `added`, `[tokens, tokens]` for all heads or for each, to those of a pair.
pub(crate) fn attend(
    processor: Processor,
    heads: Heads,
    projected: &[f32],
    mask: &[f32],
    added: Option<&[f32]>,
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    let (tokens, stride, size) = (mask.len(), heads.projected(), heads.size);
    let AttentionScratch { keys, values, scores } = scratch;
    scores.resize(tokens * tokens, 0.0);
    let scale = 1.0 / (size as f32).sqrt();
    let rows = |column: usize| Rows { numbers: &projected[column * size..], stride, count: tokens };
    let sharing = heads.queries / heads.keys;
    for shared in 0..heads.keys {
        keys.fill_from_columns(processor, rows(heads.queries + shared), size);
        values.fill_from_rows(processor, rows(heads.queries + heads.keys + shared), size);
        for head in shared * sharing..(shared + 1) * sharing {
            product(processor, rows(head), keys, 0..keys.count(), None, scores, tokens);
            let pairs = tokens * tokens;
            let added =
                added.map(|added| if added.len() == pairs { added } else { &added[head * pairs..][..pairs] });
            shares(processor, scores, scale, mask, added);
            let left = Rows { numbers: scores, stride: tokens, count: tokens };
            let to = &mut out[head * size..];
            product(processor, left, values, 0..values.count(), None, to, heads.mixed());
        }
    }
}
