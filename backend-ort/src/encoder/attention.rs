//! Attention, and what of it is the same in all layers: which tokens are seen, and how positions turn vectors.

use super::parts::{Builder, unknown};
use crate::graph::{number, transposed};
use crate::onnx::write::{Attribute, Name};
use skep_models::description::{Attention, Encoder, Linear, Projections, Reach};
use skep_models::positions;
use skep_runtime_core::{BoxError, DType};

/// What all layers share.
pub(super) struct Shared {
    /// 1 for each token that is there, i32 `[batch, tokens]`.
    mask: Name,
    /// Added to the scores, by reach.
    masks: Vec<(Reach, Name)>,
    /// Cosines and sines, `[tokens, head_size]`, both halves alike, by base.
    turns: Vec<(f64, Name, Name)>,
    /// Whether a number is added to the scores by distance.
    biased: bool,
}

impl Shared {
    pub(super) fn new(builder: &mut Builder<'_>, encoder: &Encoder, mask: &str) -> Result<Self, BoxError> {
        let places = builder.places(mask);
        let mut shared = Self {
            mask: builder.graph.cast(mask, DType::I32),
            masks: Vec::new(),
            turns: Vec::new(),
            biased: encoder.relative_bias.is_some(),
        };
        for layer in &encoder.layers {
            let attention = &layer.attention;
            if !shared.masks.iter().any(|(reach, _)| *reach == attention.reach) {
                let added = added(builder, encoder, attention, mask, &places)?;
                shared.masks.push((attention.reach, added));
            }
            if let Some(rope) = attention.rope
                && !shared.turns.iter().any(|turn| turn.0.to_bits() == rope.theta.to_bits())
            {
                let (cos, sin) = turns(builder, rope.theta, attention.head_size, encoder.max_tokens, &places);
                shared.turns.push((rope.theta, cos, sin));
            }
        }
        Ok(shared)
    }
}

/// What is added to scores, `[batch, 1 or heads, 1 or tokens, tokens]`: 0, or so little that nothing is left.
fn added(
    builder: &mut Builder<'_>,
    encoder: &Encoder,
    attention: &Attention,
    mask: &str,
    places: &str,
) -> Result<Name, BoxError> {
    let graph = &mut builder.graph;
    let (one, far) = (number(graph, 1.0), number(graph, 1e30));
    let open = graph.cast(mask, DType::F32);
    let middle = graph.integers(&[2], &[1, 2]);
    let mut open = graph.node("Unsqueeze", &[&open, &middle], &[]);
    let (rows, columns) = (graph.integers(&[1], &[1]), graph.integers(&[1], &[0]));
    let (from, to) =
        (graph.node("Unsqueeze", &[places, &rows], &[]), graph.node("Unsqueeze", &[places, &columns], &[]));
    let distance = graph.node("Sub", &[&to, &from], &[]);
    let seen = match attention.reach {
        Reach::All => None,
        Reach::Within(reach) => {
            let reach = graph.integers(&[], &[i64::try_from(reach)?]);
            let distance = graph.node("Abs", &[&distance], &[]);
            Some(graph.node("LessOrEqual", &[&distance, &reach], &[]))
        }
        Reach::Before => {
            let none = graph.integers(&[], &[0]);
            Some(graph.node("LessOrEqual", &[&distance, &none], &[]))
        }
        other => return Err(unknown(&other)),
    };
    if let Some(seen) = seen {
        let seen = graph.cast(&seen, DType::F32);
        open = graph.node("Mul", &[&open, &seen], &[]);
    }
    let closed = graph.node("Sub", &[&open, &one], &[]);
    let added = graph.node("Mul", &[&closed, &far], &[]);
    let Some(bias) = &encoder.relative_bias else { return Ok(added) };

    // By distance, so that a table for each pair is not needed: the bucket of `to - from`, shifted to begin at 0.
    let most = encoder.max_tokens;
    let pairs = positions::buckets_by_distance(most, bias.table.rows, bias.max_distance);
    let table = builder.numbers(&bias.table.name)?;
    let heads = bias.table.size;
    let by_distance: Vec<f32> =
        pairs.iter().flat_map(|&bucket| table[bucket as usize * heads..][..heads].to_vec()).collect();
    let graph = &mut builder.graph;
    let by_distance = graph.floats(&[pairs.len(), heads], &by_distance);
    let shift = graph.integers(&[], &[i64::try_from(most)? - 1]);
    let shifted = graph.node("Add", &[&distance, &shift], &[]);
    let bias = graph.node("Gather", &[&by_distance, &shifted], &[Attribute::Number("axis", 0)]);
    let bias = graph.node("Transpose", &[&bias], &[Attribute::Numbers("perm", &[2, 0, 1])]);
    Ok(graph.node("Add", &[&added, &bias], &[]))
}

/// Cosines and sines for the places of a text.
fn turns(builder: &mut Builder<'_>, theta: f64, size: usize, most: usize, places: &str) -> (Name, Name) {
    let graph = &mut builder.graph;
    let half = size / 2;
    let mut table = |numbers: Vec<f32>| {
        let both: Vec<f32> = numbers.chunks_exact(half).flat_map(|row| [row, row].concat()).collect();
        let table = graph.floats(&[most, size], &both);
        graph.node("Gather", &[&table, places], &[Attribute::Number("axis", 0)])
    };
    let [cos, sin] = positions::turns(theta, size, most);
    (table(cos), table(sin))
}

impl Builder<'_> {
    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn attention(
        &mut self,
        attention: &Attention,
        x: &str,
        shared: &Shared,
    ) -> Result<Name, BoxError> {
        let plain = attention.query_norm.is_none()
            && attention.key_norm.is_none()
            && attention.rope.is_none()
            && attention.heads == attention.kv_heads
            && attention.reach == Reach::All
            && !shared.biased;
        let mixed =
            if plain { self.fused(attention, x, shared)? } else { self.composed(attention, x, shared)? };
        self.linear(&attention.output, &mixed)
    }

    /// By ONNX Runtime's own operator, projections included.
    fn fused(&mut self, attention: &Attention, x: &str, shared: &Shared) -> Result<Name, BoxError> {
        let mut rows = Vec::new();
        let mut biases = Vec::new();
        let linears: Vec<&Linear> = match &attention.projections {
            Projections::Separate { query, key, value } => vec![query, key, value],
            Projections::Joined(linear) => vec![linear],
        };
        for linear in &linears {
            rows.extend(self.numbers(&linear.weight)?);
            match &linear.bias {
                Some(bias) => biases.extend(self.numbers(bias)?),
                None => biases.extend(vec![0.0; linear.output]),
            }
        }
        let (input, output) = (linears[0].input, biases.len());
        let weight = self.graph.floats(&[input, output], &transposed(&rows, [output, input]));
        let bias = self.graph.floats(&[output], &biases);
        let own = i64::try_from(attention.heads * attention.head_size)?;
        let attributes = [
            Attribute::Number("num_heads", i64::try_from(attention.heads)?),
            Attribute::Numbers("qkv_hidden_sizes", &[own, own, own]),
        ];
        Ok(self.graph.contributed("Attention", &[x, &weight, &bias, &shared.mask], &attributes))
    }

    /// By ONNX's operators.
    fn composed(&mut self, attention: &Attention, x: &str, shared: &Shared) -> Result<Name, BoxError> {
        let (heads, kv_heads, size) = (attention.heads, attention.kv_heads, attention.head_size);
        let [query, key, value] = match &attention.projections {
            Projections::Separate { query, key, value } => {
                [self.linear(query, x)?, self.linear(key, x)?, self.linear(value, x)?]
            }
            Projections::Joined(linear) => {
                let all = self.linear(linear, x)?;
                let (own, of_keys) = (i64::try_from(heads * size)?, i64::try_from(kv_heads * size)?);
                [(0, own), (own, own + of_keys), (own + of_keys, own + 2 * of_keys)]
                    .map(|(start, end)| self.part(&all, start, end))
            }
        };
        let mut query = self.split(&query, heads, size, attention.query_norm.as_ref())?;
        let mut key = self.split(&key, kv_heads, size, attention.key_norm.as_ref())?;
        let value = self.split(&value, kv_heads, size, None)?;
        if let Some(rope) = attention.rope {
            let known = shared.turns.iter().find(|turn| turn.0.to_bits() == rope.theta.to_bits());
            let (_, cos, sin) = known.ok_or_else(|| unknown(&rope))?;
            query = self.turn(&query, cos, sin, size)?;
            key = self.turn(&key, cos, sin, size)?;
        }
        let (key, value) = (self.repeat(key, attention)?, self.repeat(value, attention)?);
        let known = shared.masks.iter().find(|(reach, _)| *reach == attention.reach);
        let (_, mask) = known.ok_or_else(|| unknown(&attention.reach))?;
        let graph = &mut self.graph;
        let scale = number(graph, 1.0 / (size as f32).sqrt());
        let query = graph.node("Mul", &[&query, &scale], &[]);
        let key = graph.node("Transpose", &[&key], &[Attribute::Numbers("perm", &[0, 1, 3, 2])]);
        let scores = graph.node("MatMul", &[&query, &key], &[]);
        let scores = graph.node("Add", &[&scores, mask], &[]);
        let parts = graph.node("Softmax", &[&scores], &[Attribute::Number("axis", -1)]);
        let mixed = graph.node("MatMul", &[&parts, &value], &[]);
        let mixed = graph.node("Transpose", &[&mixed], &[Attribute::Numbers("perm", &[0, 2, 1, 3])]);
        let dims = graph.integers(&[3], &[0, 0, i64::try_from(heads * size)?]);
        Ok(graph.node("Reshape", &[&mixed, &dims], &[]))
    }

    /// `[batch, tokens, heads · size]` to `[batch, heads, tokens, size]`.
    fn split(
        &mut self,
        x: &str,
        heads: usize,
        size: usize,
        norm: Option<&skep_models::description::Norm>,
    ) -> Result<Name, BoxError> {
        let dims = self.graph.integers(&[4], &[0, 0, i64::try_from(heads)?, i64::try_from(size)?]);
        let mut x = self.graph.node("Reshape", &[x, &dims], &[]);
        if let Some(norm) = norm {
            x = self.norm(norm, &x)?;
        }
        Ok(self.graph.node("Transpose", &[&x], &[Attribute::Numbers("perm", &[0, 2, 1, 3])]))
    }

    /// Turns the halves of each vector against each other by its position.
    fn turn(&mut self, x: &str, cos: &str, sin: &str, size: usize) -> Result<Name, BoxError> {
        let half = i64::try_from(size / 2)?;
        let (first, second) = (self.part(x, 0, half), self.part(x, half, 2 * half));
        let graph = &mut self.graph;
        let second = graph.node("Neg", &[&second], &[]);
        let turned = graph.node("Concat", &[&second, &first], &[Attribute::Number("axis", -1)]);
        let (along, across) = (graph.node("Mul", &[x, cos], &[]), graph.node("Mul", &[&turned, sin], &[]));
        Ok(graph.node("Add", &[&along, &across], &[]))
    }

    /// Each head of keys or values for the heads of queries that share it.
    fn repeat(&mut self, x: Name, attention: &Attention) -> Result<Name, BoxError> {
        let times = attention.heads / attention.kv_heads;
        if times == 1 {
            return Ok(x);
        }
        let heads: Vec<i64> =
            (0..attention.heads).map(|head| i64::try_from(head / times)).collect::<Result<_, _>>()?;
        let heads = self.graph.integers(&[heads.len()], &heads);
        Ok(self.graph.node("Gather", &[&x, &heads], &[Attribute::Number("axis", 1)]))
    }
}
