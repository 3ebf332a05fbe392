//! A model whose texts come laid end to end: of different lengths, without any padding between them.

use super::built::Built;
use super::parts::unknown;
use crate::block::Layers;
use candle_core::{Error, Result, Tensor};
use skep_models::description::Counting;
use std::ops::Range;

/// A model's layers, for inference by the backend's own arithmetic.
pub(super) struct Ragged(Built);

impl Ragged {
    /// Refuses where that arithmetic cannot run.
    pub(super) fn new(built: Built) -> Result<Self> {
        if built.inference.is_none() {
            let wrong = "rows is `ragged`, expected `padded`: ragged ones are computed in f32 on a processor with vector instructions";
            return Err(Error::Msg(wrong.to_owned()));
        }
        Ok(Self(built))
    }

    /// The vectors of all tokens, before the layers.
    fn embed(&self, ids: &Tensor, types: Option<&Tensor>, texts: &[Range<usize>]) -> Result<Tensor> {
        let built = &self.0;
        let mut x = built.words.index_select(ids, 0)?;
        if let Some(table) = &built.types {
            x = match types {
                Some(types) => (x + table.index_select(types, 0)?)?,
                // All tokens are of the first type.
                None => x.broadcast_add(&table.narrow(0, 0, 1)?)?,
            };
        }
        if let Some((table, counting)) = &built.positions {
            let places = places(*counting, ids, texts)?;
            let places = Tensor::from_vec(places, ids.dims(), ids.device())?;
            x = (x + table.index_select(&places, 0)?)?;
        }
        built.project(x)
    }
}

/// The position of each token.
fn places(counting: Counting, ids: &Tensor, texts: &[Range<usize>]) -> Result<Vec<u32>> {
    let places = |text: &Range<usize>| 0..u32::try_from(text.len()).unwrap_or(u32::MAX);
    match counting {
        Counting::FromZero => Ok(texts.iter().flat_map(places).collect()),
        Counting::AfterPadding { padding } => {
            // Counted without the padding's id, wherever it stands.
            let ids = ids.to_vec1::<u32>()?;
            let mut counted = Vec::with_capacity(ids.len());
            for text in texts {
                let mut last = padding;
                counted.extend(ids[text.clone()].iter().map(|&id| {
                    last += u32::from(id != padding);
                    if id == padding { padding } else { last }
                }));
            }
            Ok(counted)
        }
        other => Err(unknown(&other)),
    }
}

/// Where each text stands among the tokens.
fn texts(offsets: &Tensor, tokens: usize) -> Result<Vec<Range<usize>>> {
    let offsets = offsets.to_vec1::<i64>()?;
    let wrong = || Error::Msg(format!("offsets are {offsets:?}, expected 0 to {tokens}, which ascend"));
    let at = |offset: &i64| usize::try_from(*offset).map_err(|_| wrong());
    let texts: Vec<_> =
        offsets.windows(2).map(|pair| Ok(at(&pair[0])?..at(&pair[1])?)).collect::<Result<_>>()?;
    let ascends = texts.iter().all(|text| text.start < text.end);
    let fills = texts.first().is_some_and(|text| text.start == 0)
        && texts.last().is_some_and(|text| text.end == tokens);
    if ascends && fills { Ok(texts) } else { Err(wrong()) }
}

impl Layers for Ragged {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let built = &self.0;
        let [ids, mask, rest @ .., offsets] = inputs else {
            return Err(Error::Msg(format!("got {} inputs, expected ids, a mask and offsets", inputs.len())));
        };
        let mut rest = rest.iter();
        let types = if built.takes_types { rest.next() } else { None };
        let pooling_mask = rest.next().unwrap_or(mask);

        let texts = texts(offsets, ids.dim(0)?)?;
        let lengths: Vec<_> = texts.iter().map(ExactSizeIterator::len).collect();
        let x = self.embed(ids, types, &texts)?;
        let inference = built.inference.as_ref().map(|inference| inference.forward(&x, mask, &lengths));
        // Never trained, so nothing is left to candle's operations.
        let trained = || Error::Msg("a model of ragged rows cannot be trained".to_owned());
        let mut x = inference.transpose()?.flatten().ok_or_else(trained)?;
        let tokens = built.gives_tokens.then(|| x.clone());
        if let Some(pooling) = &built.pooling {
            let pooled = texts.iter().map(|text| {
                let of_text = |all: &Tensor| all.narrow(0, text.start, text.len())?.unsqueeze(0);
                pooling.forward(&of_text(&x)?, &of_text(ids)?, &of_text(mask)?, &of_text(pooling_mask)?)
            });
            x = Tensor::cat(&pooled.collect::<Result<Vec<_>>>()?, 0)?;
        }
        for step in &built.steps {
            x = step.forward(&x)?;
        }
        Ok(std::iter::once(x).chain(tokens).collect())
    }
}
