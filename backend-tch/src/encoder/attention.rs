//! Attention, and what of it is the same in all layers: which tokens are seen, and how positions turn vectors.

use super::parts::{BuiltLinear, Norm, Parts, unknown};
use crate::device::torch_dims;
use crate::layers::number;
use crate::shim;
use skep_models::description::{self as described, Encoder, Projections, Reach};
use skep_models::positions;
use skep_runtime_core::BoxError;
use std::cell::RefCell;
use tch::{Kind, TchError, Tensor};

/// What all layers share, for any batch.
pub(super) struct Positions {
    /// `[buckets, heads]`, and from which distance all are in the last bucket.
    bias: Option<(Tensor, usize)>,
    /// Different bases of rotary embeddings, and the size of a head.
    thetas: Vec<f64>,
    head_size: usize,
    /// Every reach that a layer has.
    reaches: Vec<Reach>,
}

/// What all layers share, for one batch.
pub(super) struct Seen {
    /// Added to the scores, by reach: 0, or so little that nothing is left.
    masks: Vec<(Reach, Tensor)>,
    /// Cosines and sines, `[tokens, head_size]`, both halves alike, by base.
    turns: Vec<(f64, Tensor, Tensor)>,
}

impl Positions {
    pub(super) fn new(encoder: &Encoder, parts: &Parts<'_>) -> Result<Self, BoxError> {
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
    pub(super) fn seen(&self, mask: &Tensor, kind: Kind) -> Result<Seen, TchError> {
        let (_, long) = mask.size2()?;
        let tokens = usize::try_from(long).unwrap_or_default();
        let place = mask.device();
        // Far below any score, and a number in each kind.
        let far = if kind == Kind::Half { 3e4 } else { 1e30 };
        let mask = mask.f_to_kind(kind)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
        let bias = match &self.bias {
            Some((table, max_distance)) => {
                let (buckets, heads) = table.size2()?;
                let buckets = usize::try_from(buckets).unwrap_or_default();
                let places = positions::buckets(tokens, buckets, *max_distance);
                let places: Vec<i64> = places.into_iter().map(i64::from).collect();
                let places = Tensor::f_from_slice(&places)?.f_to(place)?;
                let bias = table.f_index_select(0, &places)?.f_reshape([1, long, long, heads])?;
                Some(bias.f_permute([0, 3, 1, 2])?)
            }
            None => None,
        };
        let mut masks = Vec::with_capacity(self.reaches.len());
        for &reach in &self.reaches {
            let open = match positions::reach(reach, tokens) {
                None => mask.shallow_clone(),
                Some(open) => {
                    let open = Tensor::f_from_slice(&open)?.f_reshape([1, 1, long, long])?;
                    mask.f_mul(&open.f_to(place)?.f_to_kind(kind)?)?
                }
            };
            let mut added = open.f_sub(&number(1.0)?)?.f_mul(&number(far)?)?;
            if let Some(bias) = &bias {
                added = added.f_add(bias)?;
            }
            masks.push((reach, added));
        }
        let size = torch_dims(&[self.head_size])?[0];
        let mut turns = Vec::with_capacity(self.thetas.len());
        for &theta in &self.thetas {
            let [cos, sin] = positions::turns(theta, self.head_size, tokens);
            let table = |numbers: Vec<f32>| {
                let half = Tensor::f_from_slice(&numbers)?.f_reshape([long, size / 2])?;
                Tensor::f_cat(&[&half, &half], 1)?.f_to(place)?.f_to_kind(kind)
            };
            turns.push((theta, table(cos)?, table(sin)?));
        }
        Ok(Seen { masks, turns })
    }
}

/// Scaled dot-product attention of several heads.
pub(super) struct Attention {
    heads: i64,
    kv_heads: i64,
    head_size: i64,
    projections: Built,
    /// Query, key and value as one layer, for inference, while the weights stay as they are.
    joined: RefCell<Option<BuiltLinear>>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    theta: Option<f64>,
    reach: Reach,
    output: BuiltLinear,
}

enum Built {
    Separate([BuiltLinear; 3]),
    Joined(BuiltLinear),
}

impl Attention {
    pub(super) fn new(attention: &described::Attention, parts: &Parts<'_>) -> Result<Self, BoxError> {
        let projections = match &attention.projections {
            Projections::Separate { query, key, value } => {
                Built::Separate([parts.linear(query)?, parts.linear(key)?, parts.linear(value)?])
            }
            Projections::Joined(linear) => Built::Joined(parts.linear(linear)?),
        };
        let sizes = torch_dims(&[attention.heads, attention.kv_heads, attention.head_size])?;
        Ok(Self {
            heads: sizes[0],
            kv_heads: sizes[1],
            head_size: sizes[2],
            projections,
            joined: RefCell::default(),
            query_norm: parts.optional_norm(attention.query_norm.as_ref())?,
            key_norm: parts.optional_norm(attention.key_norm.as_ref())?,
            theta: attention.rope.map(|rope| rope.theta),
            reach: attention.reach,
            output: parts.linear(&attention.output)?,
        })
    }

    /// Lays weights out for inference, if they are `steady`.
    pub(super) fn prepare(&self, steady: bool) -> Result<(), TchError> {
        self.joined.replace(None);
        match &self.projections {
            Built::Separate(layers) if steady => {
                let weights = layers.each_ref().map(|layer| layer.weight.detach());
                let biases: Vec<_> =
                    layers.iter().filter_map(|layer| layer.bias.as_ref()).map(Tensor::detach).collect();
                // All of them have one in every model that is known.
                if biases.is_empty() || biases.len() == layers.len() {
                    let bias = if biases.is_empty() { None } else { Some(Tensor::f_cat(&biases, 0)?) };
                    let joined = BuiltLinear::new(Tensor::f_cat(&weights, 0)?, bias);
                    joined.prepare(true)?;
                    self.joined.replace(Some(joined));
                }
            }
            Built::Separate(_) => {}
            Built::Joined(layer) => layer.prepare(steady)?,
        }
        self.output.prepare(steady)
    }

    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor, TchError> {
        let (batch, tokens, _) = x.size3()?;
        let [query, key, value] = self.project(x)?;
        let mut query = self.split(&query, self.heads, self.query_norm.as_ref())?;
        let mut key = self.split(&key, self.kv_heads, self.key_norm.as_ref())?;
        let value = self.repeat(self.split(&value, self.kv_heads, None)?)?;
        if let Some(theta) = self.theta {
            let known = seen.turns.iter().find(|turn| turn.0.to_bits() == theta.to_bits());
            let (_, cos, sin) = known.ok_or_else(|| unknown(&theta))?;
            query = self.turn(&query, cos, sin)?;
            key = self.turn(&key, cos, sin)?;
        }
        let key = self.repeat(key)?;
        let known = seen.masks.iter().find(|(reach, _)| *reach == self.reach);
        let (_, mask) = known.ok_or_else(|| unknown(&self.reach))?;
        let attended = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &value,
            Some(mask),
            0.0,
            false,
            None,
            false,
        )?;
        let joined = attended.f_transpose(1, 2)?.f_reshape([batch, tokens, self.heads * self.head_size])?;
        self.output.forward(&joined)
    }

    fn project(&self, x: &Tensor) -> Result<[Tensor; 3], TchError> {
        let joined = self.joined.borrow();
        let all = match (&self.projections, joined.as_ref().filter(|_| !shim::records_graph())) {
            (Built::Joined(layer), _) | (_, Some(layer)) => layer.forward(x)?,
            (Built::Separate([query, key, value]), None) => {
                return Ok([query.forward(x)?, key.forward(x)?, value.forward(x)?]);
            }
        };
        let (own, shared) = (self.heads * self.head_size, self.kv_heads * self.head_size);
        let part = |start, size| all.f_narrow(-1, start, size);
        Ok([part(0, own)?, part(own, shared)?, part(own + shared, shared)?])
    }

    /// `[batch, tokens, heads · head_size]` to `[batch, heads, tokens, head_size]`.
    fn split(&self, x: &Tensor, heads: i64, norm: Option<&Norm>) -> Result<Tensor, TchError> {
        let (batch, tokens, _) = x.size3()?;
        let mut x = x.f_reshape([batch, tokens, heads, self.head_size])?;
        if let Some(norm) = norm {
            x = norm.forward(&x)?;
        }
        x.f_transpose(1, 2)
    }

    /// Each head of keys or values for the heads of queries that share it.
    fn repeat(&self, x: Tensor) -> Result<Tensor, TchError> {
        match self.heads / self.kv_heads {
            1 => Ok(x),
            times => x.f_repeat_interleave_self_int(times, 1, None),
        }
    }

    /// Turns the halves of each vector against each other by its position.
    fn turn(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, TchError> {
        let half = self.head_size / 2;
        let (first, second) = (x.f_narrow(-1, 0, half)?, x.f_narrow(-1, half, half)?);
        let turned = Tensor::f_cat(&[&second.f_neg()?, &first], -1)?;
        x.f_mul(cos)?.f_add(&turned.f_mul(sin)?)
    }
}
