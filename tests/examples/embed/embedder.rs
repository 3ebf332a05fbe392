//! The model behind a runtime, as its callers see it: a sentence in, a vector out.

use crate::common::{DemoBlock, DemoDevice, Result, skep};
use crate::tokens::{Tensor, Tokens, inputs};
use skep::blocks::Bert;
use skep::pool::{PoolOptions, Serve, ServeOptions, Served};
use skep::runtime::{Dim, Priority, Request, RuntimeBuilder, TensorOps, TensorSpec};
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Embedder {
    device: Arc<DemoDevice>,
    tokens: Tokens,
    block: Served<DemoDevice>,
}

/// A sentence's vector, of length 1, and what it took.
pub(crate) struct Embedded {
    pub(crate) vector: Vec<f32>,
    pub(crate) tokens: usize,
    /// Tokens and padding.
    pub(crate) padded: usize,
}

impl Embedder {
    /// Reads the model in `directory` and registers it.
    pub(crate) fn serve(
        builder: &mut RuntimeBuilder<DemoDevice>,
        directory: &Path,
        bucket: usize,
        max_rows: usize,
    ) -> Result<Self> {
        let block = DemoBlock::of("minilm", Bert::open(directory)?)?;
        let options = PoolOptions { max_rows, ..PoolOptions::default() };
        let block = builder.serve(block, ServeOptions::forward(options))?;
        // The schema says how long a text may be.
        let dims = block.info.inputs.tensors().iter().flat_map(TensorSpec::dims);
        let longest =
            dims.filter_map(|dim| if let Dim::Free { max } = dim { Some(*max) } else { None }).min();
        let tokens = Tokens::load(directory, longest.ok_or("model takes texts of one length only")?, bucket)?;
        Ok(Self { device: Arc::clone(builder.device()), tokens, block })
    }

    /// Embeds one sentence, in whatever batch it meets others of its padded length.
    pub(crate) fn embed(&self, sentence: &str, priority: Priority) -> Result<Embedded> {
        let ids = self.tokens.ids(sentence)?;
        let padded = self.tokens.padded(ids.len());
        let request = Request::new(inputs(&self.device, &ids, padded)?).priority(priority);
        let ticket = self.block.forward.submit(request).map_err(|refused| refused.error)?;
        let vector = vector(&self.device, &ticket.wait()?)?;
        Ok(Embedded { vector, tokens: ids.len(), padded })
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// The only output: an embedding, f32 `[1, hidden]`.
pub(crate) fn vector(device: &DemoDevice, outputs: &[Tensor]) -> Result<Vec<f32>> {
    let output = outputs.first().ok_or("model gave no output")?;
    Ok(device.to_host(output)?.to_f32().ok_or("embedding is not f32")?)
}
