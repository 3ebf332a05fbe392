//! Sentences as token ids, padded so that many of them have equal length.
//!
//! Tasks share a batch only where their lengths are equal. Padding all of them to the longest would make
//! every batch as slow as its longest sentence could be; not padding at all would leave nearly every task
//! alone. A small bucket is in between: a few wasted positions per sentence, and few different lengths.

use crate::common::{DemoDevice, Result, skep};
use skep::runtime::{DType, HostTensor, TensorOps};
use std::path::Path;
use tokenizers::{Tokenizer, TruncationParams};

/// A tensor of this demo's device.
pub(crate) type Tensor = <DemoDevice as TensorOps>::Tensor;

pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    longest: usize,
    bucket: usize,
}

impl Tokens {
    /// Reads `tokenizer.json`. `longest` is the most tokens that the model takes.
    pub(crate) fn load(directory: &Path, longest: usize, bucket: usize) -> Result<Self> {
        let file = directory.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&file)
            .map_err(|e| format!("{} is not a tokenizer that can be read: {e}", file.display()))?;
        // The file asks for all texts to be cut and padded to 128 tokens.
        let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation))?.with_padding(None);
        Ok(Self { tokenizer, longest, bucket })
    }

    /// The ids of a sentence, cut where the model takes no more.
    pub(crate) fn ids(&self, sentence: &str) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_fast(sentence, true)?.get_ids().to_vec())
    }

    /// To how many tokens a sentence of this many is padded.
    pub(crate) fn padded(&self, tokens: usize) -> usize {
        tokens.next_multiple_of(self.bucket).min(self.longest)
    }
}

/// What the model takes for one sentence: its ids and its attention mask, both u32 `[1, padded]`.
pub(crate) fn inputs(device: &DemoDevice, ids: &[u32], padded: usize) -> Result<Vec<Tensor>> {
    // Where the mask is 0, it does not matter which id stands there.
    let padding = std::iter::repeat_n(0, padded.saturating_sub(ids.len()));
    let mask = ids.iter().map(|_| 1).chain(padding.clone());
    let ids = ids.iter().copied().chain(padding);
    Ok(vec![row(device, ids)?, row(device, mask)?])
}

fn row(device: &DemoDevice, values: impl Iterator<Item = u32>) -> Result<Tensor> {
    let bytes: Vec<u8> = values.flat_map(u32::to_le_bytes).collect();
    let dims = [1, bytes.len() / DType::U32.size()];
    Ok(device.from_host(&HostTensor::new(DType::U32, &dims, bytes)?)?)
}
