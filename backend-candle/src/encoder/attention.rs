//! Attention, and what of it is the same in all layers: which tokens are seen, and how positions turn vectors.

use super::parts::{Norm, Parts, unknown};
use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Linear, Module};
use skep_models::description::{self as described, Encoder, Projections, Reach};
use skep_models::positions;

/// What all layers share, for any batch.
pub(super) struct Positions {
    /// `[buckets, heads]`, and from which distance all are in the last bucket.
    bias: Option<(Tensor, usize)>,
    /// Different bases of rotary embeddings, and the size of a head.
    thetas: Vec<f64>,
    head_size: usize,
    /// Whether some layer sees a window of this reach, and whether some sees what comes before only.
    reaches: Vec<Reach>,
}

/// What all layers share, for one batch.
pub(super) struct Seen {
    /// Added to the scores, by reach: 0, or so little that nothing is left.
    masks: Vec<(Reach, Tensor)>,
    /// Cosines and sines, `[tokens, head_size / 2]`, by base.
    turns: Vec<(f64, Tensor, Tensor)>,
}

impl Positions {
    pub(super) fn new(encoder: &Encoder, parts: &Parts<'_>) -> Result<Self> {
        let bias = match &encoder.relative_bias {
            Some(bias) => Some((parts.table(&bias.table)?, bias.max_distance)),
            None => None,
        };
        let (mut thetas, mut reaches) = (Vec::new(), Vec::new());
        for layer in &encoder.layers {
            if let Some(rope) = layer.attention.rope
                && !thetas.contains(&rope.theta)
            {
                thetas.push(rope.theta);
            }
            if !reaches.contains(&layer.attention.reach) {
                reaches.push(layer.attention.reach);
            }
        }
        let head_size = encoder.layers.first().map_or(0, |layer| layer.attention.head_size);
        Ok(Self { bias, thetas, head_size, reaches })
    }

    /// For a batch with this mask, `[batch, tokens]`.
    pub(super) fn seen(&self, mask: &Tensor, dtype: DType) -> Result<Seen> {
        let (tokens, place) = (mask.dim(1)?, mask.device());
        // Scores are added up and turned into shares in f32.
        let sums = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let mask = mask.to_dtype(sums)?.unsqueeze(1)?.unsqueeze(1)?;
        let bias = match &self.bias {
            Some((table, max_distance)) => {
                let (buckets, heads) = table.dims2()?;
                let places = positions::buckets(tokens, buckets, *max_distance);
                let places = Tensor::from_vec(places, tokens * tokens, place)?;
                let bias = table.to_dtype(sums)?.index_select(&places, 0)?;
                Some(bias.reshape((1, tokens, tokens, heads))?.permute((0, 3, 1, 2))?)
            }
            None => None,
        };
        let mut masks = Vec::with_capacity(self.reaches.len());
        for &reach in &self.reaches {
            let open = match positions::reach(reach, tokens) {
                None => mask.clone(),
                Some(open) => {
                    let open = Tensor::from_vec(open, (1, 1, tokens, tokens), place)?;
                    mask.broadcast_mul(&open.to_dtype(sums)?)?
                }
            };
            // Far below any score, and far from what has no number.
            let mut added = ((open - 1.0)? * 1e30)?;
            if let Some(bias) = &bias {
                added = added.broadcast_add(bias)?;
            }
            masks.push((reach, added));
        }
        let mut turns = Vec::with_capacity(self.thetas.len());
        for &theta in &self.thetas {
            let [cos, sin] = positions::turns(theta, self.head_size, tokens);
            let table = |numbers: Vec<f32>| {
                Tensor::from_vec(numbers, (tokens, self.head_size / 2), place)?.to_dtype(dtype)
            };
            turns.push((theta, table(cos)?, table(sin)?));
        }
        Ok(Seen { masks, turns })
    }
}

/// Scaled dot-product attention of several heads.
pub(super) struct Attention {
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    projections: Built,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    theta: Option<f64>,
    reach: Reach,
    output: Linear,
}

enum Built {
    Separate([Linear; 3]),
    Joined(Linear),
}

impl Attention {
    pub(super) fn new(attention: &described::Attention, parts: &Parts<'_>) -> Result<Self> {
        let projections = match &attention.projections {
            Projections::Separate { query, key, value } => {
                Built::Separate([parts.linear(query)?, parts.linear(key)?, parts.linear(value)?])
            }
            Projections::Joined(linear) => Built::Joined(parts.linear(linear)?),
        };
        Ok(Self {
            heads: attention.heads,
            kv_heads: attention.kv_heads,
            head_size: attention.head_size,
            projections,
            query_norm: parts.optional_norm(attention.query_norm.as_ref())?,
            key_norm: parts.optional_norm(attention.key_norm.as_ref())?,
            theta: attention.rope.map(|rope| rope.theta),
            reach: attention.reach,
            output: parts.linear(&attention.output)?,
        })
    }

    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let [query, key, value] = self.project(x)?;
        let query = self.split(&query, self.heads, self.query_norm.as_ref())?;
        let key = self.split(&key, self.kv_heads, self.key_norm.as_ref())?;
        let value = self.split(&value, self.kv_heads, None)?;
        let (query, key) = match self.theta {
            Some(theta) => {
                let known = seen.turns.iter().find(|turn| turn.0.to_bits() == theta.to_bits());
                let (_, cos, sin) = known.ok_or_else(|| unknown(&theta))?;
                (turn(&query, cos, sin)?, turn(&key, cos, sin)?)
            }
            None => (query, key),
        };
        let (key, value) = (self.repeat(key)?, self.repeat(value)?);

        let scale = 1.0 / (self.head_size as f64).sqrt();
        let scores = (query * scale)?.matmul(&key.transpose(2, 3)?)?;
        let known = seen.masks.iter().find(|(reach, _)| *reach == self.reach);
        let (_, mask) = known.ok_or_else(|| unknown(&self.reach))?;
        let scores = scores.to_dtype(mask.dtype())?.broadcast_add(mask)?;
        // The fused one has no backward pass.
        let shares = if scores.track_op() || scores.dtype() != DType::F32 {
            candle_nn::ops::softmax(&scores, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&scores)?
        };
        let mixed = shares.to_dtype(value.dtype())?.matmul(&value)?.transpose(1, 2)?;
        self.output.forward(&mixed.reshape((batch, tokens, self.heads * self.head_size))?)
    }

    fn project(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        match &self.projections {
            Built::Separate([query, key, value]) => {
                Ok([query.forward(x)?, key.forward(x)?, value.forward(x)?])
            }
            Built::Joined(linear) => {
                let all = linear.forward(x)?;
                let (own, shared) = (self.heads * self.head_size, self.kv_heads * self.head_size);
                let part = |start, size| all.narrow(D::Minus1, start, size);
                Ok([part(0, own)?, part(own, shared)?, part(own + shared, shared)?])
            }
        }
    }

    /// `[batch, tokens, heads · head_size]` to `[batch, heads, tokens, head_size]`.
    fn split(&self, x: &Tensor, heads: usize, norm: Option<&Norm>) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let mut x = x.reshape((batch, tokens, heads, self.head_size))?;
        if let Some(norm) = norm {
            x = norm.forward(&x)?;
        }
        x.transpose(1, 2)?.contiguous()
    }

    /// Each head of keys or values for the heads of queries that share it.
    fn repeat(&self, x: Tensor) -> Result<Tensor> {
        let times = self.heads / self.kv_heads;
        if times == 1 {
            return Ok(x);
        }
        let (batch, heads, tokens, size) = x.dims4()?;
        let wide = x.unsqueeze(2)?.expand((batch, heads, times, tokens, size))?;
        wide.reshape((batch, heads * times, tokens, size))
    }
}

/// Turns the halves of each vector against each other by its position.
fn turn(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if x.track_op() {
        candle_nn::rotary_emb::rope_slow(x, cos, sin)
    } else {
        candle_nn::rotary_emb::rope(x, cos, sin)
    }
}
