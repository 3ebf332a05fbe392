//! A model's layers, as its description says.

use super::attention::Positions;
use super::inference::Inference;
use super::layer::EncoderLayer;
use super::parts::{Norm, Parts, activate, unknown};
use super::pooling::Pooling;
use crate::block::Layers;
use candle_core::{DType as CandleDType, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};
use skep_models::Kind;
use skep_models::description::{Counting, Description, Step};

/// A model's layers.
pub(super) struct Built {
    pub(super) words: Tensor,
    pub(super) positions: Option<(Tensor, Counting)>,
    pub(super) types: Option<Tensor>,
    embedding_norm: Option<Norm>,
    projection: Option<Linear>,
    relative: Positions,
    layers: Vec<EncoderLayer>,
    last_norm: Option<Norm>,
    /// Layers and last norm once more, where they need not be trained.
    pub(super) inference: Option<Inference>,
    pub(super) pooling: Option<Pooling>,
    pub(super) steps: Vec<BuiltStep>,
    /// Whether `token_type_ids` are given.
    pub(super) takes_types: bool,
    /// Whether the vectors of tokens are given out too.
    pub(super) gives_tokens: bool,
}

pub(super) enum BuiltStep {
    Linear(Linear),
    Activation(skep_models::description::Activation),
    Norm(Norm),
    UnitLength,
    Truncate(usize),
}

impl Built {
    pub(super) fn new(description: &Description, vb: &VarBuilder<'_>) -> Result<Self> {
        let encoder = &description.encoder;
        let parts = Parts::new(vb);
        // What comes after the encoder is small, and computed in full.
        let full = if vb.dtype() == CandleDType::F64 { CandleDType::F64 } else { CandleDType::F32 };
        let head = Parts::new(&vb.to_dtype(full));
        let positions = encoder.positions.as_ref();
        let step = |step: &Step| {
            Ok(match step {
                Step::Linear(linear) => BuiltStep::Linear(head.linear(linear)?),
                Step::Activation(activation) => BuiltStep::Activation(*activation),
                Step::Norm(norm) => BuiltStep::Norm(head.norm(norm)?),
                Step::UnitLength => BuiltStep::UnitLength,
                Step::Truncate(size) => BuiltStep::Truncate(*size),
                other => return Err(unknown(other)),
            })
        };
        Ok(Self {
            words: parts.table(&encoder.words)?,
            positions: match positions {
                Some(positions) => Some((parts.table(&positions.table)?, positions.counting)),
                None => None,
            },
            types: encoder.types.as_ref().map(|types| parts.table(types)).transpose()?,
            embedding_norm: parts.optional_norm(encoder.embedding_norm.as_ref())?,
            projection: encoder.projection.as_ref().map(|linear| parts.linear(linear)).transpose()?,
            relative: Positions::new(encoder, &parts)?,
            layers: encoder
                .layers
                .iter()
                .map(|layer| EncoderLayer::new(layer, &parts))
                .collect::<Result<_>>()?,
            last_norm: parts.optional_norm(encoder.last_norm.as_ref())?,
            inference: Inference::new(encoder, &parts)?,
            pooling: (description.kind != Kind::Token)
                .then(|| Pooling { pools: description.pooling.clone(), masked: description.pooling_mask }),
            steps: description.steps.iter().map(step).collect::<Result<_>>()?,
            takes_types: description.token_types,
            gives_tokens: description.token_vectors,
        })
    }

    /// The vectors of tokens after the layers.
    fn encode(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        if let Some(inference) = &self.inference {
            let (texts, tokens) = mask.dims2()?;
            if let Some(x) = inference.forward(x, mask, &vec![tokens; texts])? {
                return Ok(x);
            }
        }
        let seen = self.relative.seen(mask, x.dtype())?;
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x, &seen)?;
        }
        match &self.last_norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }

    /// The vectors of tokens, before the layers.
    fn embed(&self, ids: &Tensor, types: Option<&Tensor>) -> Result<Tensor> {
        let mut x = rows(&self.words, ids)?;
        if let Some(table) = &self.types {
            x = match types {
                Some(types) => (x + rows(table, types)?)?,
                // All tokens are of the first type.
                None => x.broadcast_add(&table.narrow(0, 0, 1)?)?,
            };
        }
        match &self.positions {
            Some((table, Counting::FromZero)) => x = x.broadcast_add(&table.narrow(0, 0, ids.dim(1)?)?)?,
            Some((table, Counting::AfterPadding { padding })) => {
                // Counted without the padding's id, wherever it stands.
                let there = ids.ne(*padding)?.to_dtype(CandleDType::F32)?;
                let counted = ((there.cumsum(1)? * &there)? + f64::from(*padding))?;
                x = (x + rows(table, &counted.to_dtype(CandleDType::U32)?)?)?;
            }
            Some((_, other)) => return Err(unknown(other)),
            None => {}
        }
        self.project(x)
    }

    /// The vectors of tokens as the layers take them.
    pub(super) fn project(&self, mut x: Tensor) -> Result<Tensor> {
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x)?;
        }
        match &self.projection {
            Some(projection) => projection.forward(&x),
            None => Ok(x),
        }
    }
}

/// Row `ids[i, j]` of a table, for all of them.
fn rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (batch, tokens) = ids.dims2()?;
    table.index_select(&ids.flatten_all()?, 0)?.reshape((batch, tokens, table.dim(1)?))
}

impl Layers for Built {
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (ids, mask) = (&inputs[0], &inputs[1]);
        let mut rest = inputs[2..].iter();
        let types = if self.takes_types { rest.next() } else { None };
        let pooling_mask = rest.next().unwrap_or(mask);

        let mut x = self.encode(&self.embed(ids, types)?, mask)?;
        if matches!(x.dtype(), CandleDType::F16 | CandleDType::BF16) {
            x = x.to_dtype(CandleDType::F32)?;
        }
        let tokens = self.gives_tokens.then(|| x.to_dtype(CandleDType::F32)).transpose()?;
        if let Some(pooling) = &self.pooling {
            x = pooling.forward(&x, ids, mask, pooling_mask)?;
        }
        for step in &self.steps {
            x = step.forward(&x)?;
        }
        Ok(std::iter::once(x.to_dtype(CandleDType::F32)?).chain(tokens).collect())
    }
}

impl BuiltStep {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear(linear) => linear.forward(x),
            Self::Activation(activation) => activate(*activation, x),
            Self::Norm(norm) => norm.forward(x),
            Self::UnitLength => {
                let last = candle_core::D::Minus1;
                let length = x.sqr()?.sum_keepdim(last)?.sqrt()?.maximum(1e-12)?;
                x.broadcast_div(&length)
            }
            Self::Truncate(size) => x.narrow(candle_core::D::Minus1, 0, *size)?.contiguous(),
        }
    }
}
