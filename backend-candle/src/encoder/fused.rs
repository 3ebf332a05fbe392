//! The encoder in f32 on the processor, for inference: the layers of a [`description`](skep_models::description) over
//! plain numbers, with the backend's own arithmetic.
//!
//! The texts of a batch are shared among the threads once, not at every operation; with fewer texts than threads, the
//! threads left over share each product of one.

use super::groups::divided;
use super::parts::unknown;
use crate::kernels::attention::{AttentionScratch, Heads, attend};
use crate::kernels::linear::{Linear, Parts};
use crate::kernels::pointwise::{Function, Norm, Normalise, add, apply, multiply, turn};
use crate::kernels::processor::Processor;
use candle_core::Result;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use skep_models::description::{self as described, Activation, Encoder, NormKind, Projections, Reach, Wide};
use skep_models::positions;
use std::collections::BTreeSet;

/// Far below any score, and far from what has no number.
const FAR: f32 = -1e30;

/// Gives the parameter of a name and dims.
pub(super) type Get<'a> = dyn Fn(&str, &[usize]) -> Result<Vec<f32>> + 'a;

/// The layers with their weights laid out.
pub(super) struct Fused {
    processor: Processor,
    layers: Vec<Layer>,
    last_norm: Option<Norm>,
    /// `[buckets, heads]`, the number of buckets, and from which distance all are in the last.
    bias: Option<(Vec<f32>, usize, usize)>,
    hidden: usize,
}

struct Layer {
    attention_before: Option<Norm>,
    heads: Heads,
    projection: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    theta: Option<f64>,
    reach: Reach,
    output: Linear,
    attention_after: Option<Norm>,
    feed_before: Option<Norm>,
    /// To the numbers that the function is applied to.
    gate: Linear,
    /// To those that they are multiplied with.
    up: Option<Linear>,
    function: Function,
    narrow: Linear,
    feed_after: Option<Norm>,
}

/// Memory of one thread, kept from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    normed: Vec<f32>,
    projected: Vec<f32>,
    mixed: Vec<f32>,
    back: Vec<f32>,
    wide: Vec<f32>,
    up: Vec<f32>,
    attention: AttentionScratch,
    parts: Parts,
}

/// What all texts of a batch share.
struct Shared {
    /// Added to the scores of a pair, by reach and the tokens of a text: for all heads, or for each.
    added: Vec<(Reach, usize, Option<Vec<f32>>)>,
    /// Cosines and sines, `[tokens, head_size / 2]` of the longest text, by base.
    turns: Vec<(f64, [Vec<f32>; 2])>,
}

/// Some texts, one after the other.
struct Texts<'a> {
    /// 0 for each token that is there, far below for each that is not.
    mask: &'a [f32],
    /// The tokens of each text.
    lengths: &'a [usize],
}

impl Fused {
    /// Lays out the encoder's parameters, of which `get` gives those of a name and dims.
    pub(super) fn new(encoder: &Encoder, processor: Processor, get: &Get<'_>) -> Result<Self> {
        let parts = Reader { processor, get };
        let bias = match &encoder.relative_bias {
            Some(bias) => {
                let table = &bias.table;
                Some((get(&table.name, &[table.rows, table.size])?, table.rows, bias.max_distance))
            }
            None => None,
        };
        Ok(Self {
            processor,
            layers: encoder.layers.iter().map(|layer| parts.layer(layer)).collect::<Result<_>>()?,
            last_norm: parts.norm(encoder.last_norm.as_ref())?,
            bias,
            hidden: encoder.hidden,
        })
    }

    /// The vectors of the tokens of texts, of so many each, after all layers, in place. `mask` is 1 for each token that is
    /// there.
    pub(super) fn forward(
        &self,
        x: &mut [f32],
        mask: &[u32],
        lengths: &[usize],
        kept: &mut Vec<Scratch>,
    ) -> Result<()> {
        let texts = lengths.len();
        if texts == 0 {
            return Ok(());
        }
        let shared = self.shared(lengths);
        let mask: Vec<f32> = mask.iter().map(|&seen| if seen == 0 { FAR } else { 0.0 }).collect();
        let threads = rayon::current_num_threads();
        let groups = texts.min(threads);
        kept.resize_with(groups.max(kept.len()), Scratch::default);
        let mut jobs = Vec::with_capacity(groups);
        let (mut rest, mut masks) = (x, &*mask);
        for (lengths, scratch) in divided(lengths, groups).into_iter().zip(kept) {
            let tokens = lengths.iter().sum::<usize>();
            let (of_group, others) = rest.split_at_mut(tokens * self.hidden);
            let (mask, other_masks) = masks.split_at(tokens);
            (rest, masks) = (others, other_masks);
            scratch.parts.resize_with(threads / groups, Vec::new);
            jobs.push((of_group, Texts { mask, lengths }, scratch));
        }
        if groups == 1 {
            return jobs
                .into_iter()
                .try_for_each(|(x, texts, scratch)| self.texts(x, &texts, &shared, scratch));
        }
        jobs.into_par_iter()
            .with_max_len(1)
            .try_for_each(|(x, texts, scratch)| self.texts(x, &texts, &shared, scratch))
    }

    fn shared(&self, lengths: &[usize]) -> Shared {
        let (mut added, mut turns): (Vec<(Reach, usize, _)>, _) = (Vec::new(), Vec::new());
        let sizes: BTreeSet<usize> = lengths.iter().copied().collect();
        let tokens = sizes.last().copied().unwrap_or(0);
        for layer in &self.layers {
            if !added.iter().any(|(reach, ..)| *reach == layer.reach) {
                added.extend(sizes.iter().map(|&tokens| (layer.reach, tokens, self.added(layer, tokens))));
            }
            if let Some(theta) = layer.theta
                && !turns.iter().any(|(known, _): &(f64, _)| known.to_bits() == theta.to_bits())
            {
                turns.push((theta, positions::turns(theta, layer.heads.size, tokens)));
            }
        }
        Shared { added, turns }
    }

    /// What is added to the scores of each pair of tokens.
    fn added(&self, layer: &Layer, tokens: usize) -> Option<Vec<f32>> {
        let open = positions::reach(layer.reach, tokens);
        let far = open.map(|open| open.into_iter().map(|open| (1.0 - open) * FAR).collect::<Vec<f32>>());
        let Some((table, buckets, max_distance)) = &self.bias else { return far };
        let places = positions::buckets(tokens, *buckets, *max_distance);
        let heads = layer.heads.queries;
        let mut added = Vec::with_capacity(heads * places.len());
        for head in 0..heads {
            added.extend(places.iter().enumerate().map(|(pair, &bucket)| {
                let far = far.as_ref().map_or(0.0, |far| far[pair]);
                table[bucket as usize * heads + head] + far
            }));
        }
        Some(added)
    }

    /// The layers for the texts of one thread.
    fn texts(&self, x: &mut [f32], texts: &Texts<'_>, shared: &Shared, scratch: &mut Scratch) -> Result<()> {
        for layer in &self.layers {
            layer.forward(self.processor, x, texts, shared, scratch)?;
        }
        if let Some(norm) = &self.last_norm {
            norm.apply(self.processor, x);
        }
        Ok(())
    }
}

impl Layer {
    fn forward(
        &self,
        processor: Processor,
        x: &mut [f32],
        texts: &Texts<'_>,
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { normed, projected, mixed, back, wide, up, attention, parts } = scratch;
        let count = texts.mask.len();
        let input = begin(processor, self.attention_before.as_ref(), x, normed);
        self.projection.apply(processor, input, count, projected, parts);
        self.place(processor, projected, texts, shared)?;

        mixed.resize(count * self.heads.mixed(), 0.0);
        let (mut from, mut to, mut masks) = (&**projected, &mut **mixed, texts.mask);
        for &tokens in texts.lengths {
            let known =
                shared.added.iter().find(|(reach, length, _)| (*reach, *length) == (self.reach, tokens));
            let (.., added) = known.ok_or_else(|| unknown(&self.reach))?;
            let (projected, others) = from.split_at(tokens * self.heads.projected());
            let (mixed, other_mixed) = to.split_at_mut(tokens * self.heads.mixed());
            let (mask, other_masks) = masks.split_at(tokens);
            (from, to, masks) = (others, other_mixed, other_masks);
            attend(processor, self.heads, projected, mask, added.as_deref(), mixed, attention);
        }
        self.output.apply(processor, mixed, count, back, parts);
        added_and_normed(processor, x, back, self.attention_after.as_ref());

        let input = begin(processor, self.feed_before.as_ref(), x, normed);
        self.gate.apply(processor, input, count, wide, parts);
        apply(processor, self.function, wide);
        if let Some(linear) = &self.up {
            linear.apply(processor, input, count, up, parts);
            multiply(processor, wide, up);
        }
        self.narrow.apply(processor, wide, count, back, parts);
        added_and_normed(processor, x, back, self.feed_after.as_ref());
        Ok(())
    }

    /// Norms queries and keys, and turns them by their positions.
    fn place(
        &self,
        processor: Processor,
        projected: &mut [f32],
        texts: &Texts<'_>,
        shared: &Shared,
    ) -> Result<()> {
        if self.query_norm.is_none() && self.key_norm.is_none() && self.theta.is_none() {
            return Ok(());
        }
        let turns = match self.theta {
            Some(theta) => {
                let known = shared.turns.iter().find(|(known, _)| known.to_bits() == theta.to_bits());
                Some(&known.ok_or_else(|| unknown(&theta))?.1)
            }
            None => None,
        };
        let Heads { queries, keys, size } = self.heads;
        let half = size / 2;
        let places = texts.lengths.iter().flat_map(|&tokens| 0..tokens);
        for (place, projected) in places.zip(projected.chunks_exact_mut(self.heads.projected())) {
            let at = place * half;
            for (head, vector) in projected.chunks_exact_mut(size).take(queries + keys).enumerate() {
                let norm = if head < queries { &self.query_norm } else { &self.key_norm };
                if let Some(norm) = norm {
                    norm.apply(processor, vector);
                }
                if let Some([cos, sin]) = turns {
                    turn(processor, vector, &cos[at..at + half], &sin[at..at + half]);
                }
            }
        }
        Ok(())
    }
}

/// What a layer's half begins with: `x`, or its norm.
fn begin<'a>(processor: Processor, norm: Option<&Norm>, x: &'a [f32], normed: &'a mut Vec<f32>) -> &'a [f32] {
    match norm {
        Some(norm) => {
            normed.clear();
            normed.extend_from_slice(x);
            norm.apply(processor, normed);
            normed
        }
        None => x,
    }
}

fn added_and_normed(processor: Processor, x: &mut [f32], other: &[f32], norm: Option<&Norm>) {
    add(processor, x, other);
    if let Some(norm) = norm {
        norm.apply(processor, x);
    }
}

/// Lays parameters out.
struct Reader<'a> {
    processor: Processor,
    get: &'a Get<'a>,
}

impl Reader<'_> {
    fn layer(&self, layer: &described::Layer) -> Result<Layer> {
        let attention = &layer.attention;
        let projection = match &attention.projections {
            Projections::Separate { query, key, value } => self.joined(&[query, key, value])?,
            Projections::Joined(linear) => self.linear(linear)?,
        };
        let feed = &layer.feed_forward;
        let (gate, up) = match &feed.wide {
            Wide::Plain(linear) => (self.linear(linear)?, None),
            Wide::Gated { gate, up } => (self.linear(gate)?, Some(self.linear(up)?)),
            Wide::Joined(linear) => {
                let (weight, bias) = self.numbers(linear)?;
                let half = linear.output / 2;
                let (gate, up) = weight.split_at(half * linear.input);
                let part = |range: std::ops::Range<usize>| bias.as_ref().map(|bias| bias[range].to_vec());
                let gate = Linear::new(self.processor, gate, linear.input, part(0..half));
                (gate, Some(Linear::new(self.processor, up, linear.input, part(half..2 * half))))
            }
        };
        Ok(Layer {
            attention_before: self.norm(layer.attention_before.as_ref())?,
            heads: Heads { queries: attention.heads, keys: attention.kv_heads, size: attention.head_size },
            projection,
            query_norm: self.norm(attention.query_norm.as_ref())?,
            key_norm: self.norm(attention.key_norm.as_ref())?,
            theta: attention.rope.map(|rope| rope.theta),
            reach: attention.reach,
            output: self.linear(&attention.output)?,
            attention_after: self.norm(layer.attention_after.as_ref())?,
            feed_before: self.norm(layer.feed_before.as_ref())?,
            gate,
            up,
            function: function(feed.activation)?,
            narrow: self.linear(&feed.narrow)?,
            feed_after: self.norm(layer.feed_after.as_ref())?,
        })
    }

    fn numbers(&self, linear: &described::Linear) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
        let weight = (self.get)(&linear.weight, &[linear.output, linear.input])?;
        let bias = linear.bias.as_ref().map(|bias| (self.get)(bias, &[linear.output])).transpose()?;
        Ok((weight, bias))
    }

    fn linear(&self, linear: &described::Linear) -> Result<Linear> {
        self.joined(&[linear])
    }

    /// Several layers of the same input as one.
    fn joined(&self, linears: &[&described::Linear]) -> Result<Linear> {
        let (mut weight, mut bias, mut biased) = (Vec::new(), Vec::new(), false);
        for linear in linears {
            let (numbers, of_layer) = self.numbers(linear)?;
            weight.extend(numbers);
            biased |= of_layer.is_some();
            bias.extend(of_layer.unwrap_or_else(|| vec![0.0; linear.output]));
        }
        Ok(Linear::new(self.processor, &weight, linears[0].input, biased.then_some(bias)))
    }

    #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
    fn norm(&self, norm: Option<&described::Norm>) -> Result<Option<Norm>> {
        let Some(norm) = norm else { return Ok(None) };
        let kind = match norm.kind {
            NormKind::Layer => Normalise::Layer,
            NormKind::RootMeanSquare => Normalise::RootMeanSquare,
            other => return Err(unknown(&other)),
        };
        let weight = (self.get)(&norm.weight, &[norm.size])?;
        let bias = match &norm.bias {
            Some(bias) => (self.get)(bias, &[norm.size])?,
            None => vec![0.0; norm.size],
        };
        Ok(Some(Norm { kind, weight, bias, eps: norm.eps as f32 }))
    }
}

fn function(activation: Activation) -> Result<Function> {
    Ok(match activation {
        Activation::Identity => Function::Identity,
        Activation::Gelu => Function::Gelu,
        Activation::GeluTanh => Function::GeluTanh,
        Activation::QuickGelu => Function::QuickGelu,
        Activation::Relu => Function::Relu,
        Activation::Silu => Function::Silu,
        Activation::Tanh => Function::Tanh,
        Activation::Sigmoid => Function::Sigmoid,
        other => return Err(unknown(&other)),
    })
}
