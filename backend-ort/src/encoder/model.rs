//! A model's graph from its ids to its outputs.

use super::attention::Shared;
use super::parts::{Builder, unknown};
use super::pooling;
use crate::graph::number;
use crate::onnx::write::{Attribute, GraphDim, Name};
use skep_models::description::{self as described, Counting, Encoder, Step, Wide};
use skep_models::{Kind, Model};
use skep_runtime_core::{BoxError, DType};

impl Builder<'_> {
    /// The bytes of the model's graph.
    pub(super) fn model(mut self, model: &Model) -> Result<Vec<u8>, BoxError> {
        let description = model.description();
        let tokens = [GraphDim::Free("batch"), GraphDim::Free("tokens")];
        let inputs: Vec<Name> =
            model.inputs().iter().map(|spec| self.graph.input(spec.name(), spec.dtype(), &tokens)).collect();
        let ids = self.graph.cast(&inputs[0], DType::I64);
        let mask = &inputs[1];
        let mut rest = inputs[2..].iter();
        let types = if description.token_types { rest.next() } else { None };
        let pooling_mask = rest.next().unwrap_or(mask);

        let encoder = &description.encoder;
        let mut x = self.embed(encoder, &ids, types)?;
        let shared = Shared::new(&mut self, encoder, mask)?;
        for layer in &encoder.layers {
            x = self.layer(layer, &x, &shared)?;
        }
        x = self.optional_norm(encoder.last_norm.as_ref(), &x)?;
        let vectors = x.clone();
        if description.kind != Kind::Token {
            let pooled = if description.pooling_mask { pooling_mask } else { mask };
            x = pooling::pool(&mut self.graph, &description.pooling, &x, &ids, mask, pooled)?;
        }
        for step in &description.steps {
            x = self.step(step, &x)?;
        }
        let size = GraphDim::Fixed(description.output);
        let dims = match description.kind {
            Kind::Token => vec![tokens[0], tokens[1], size],
            _ => vec![tokens[0], size],
        };
        self.graph.output(description.output_name(), DType::F32, &dims, &x);
        if let Some(name) = description.token_output_name() {
            let dims = [tokens[0], tokens[1], GraphDim::Fixed(encoder.hidden)];
            self.graph.output(name, DType::F32, &dims, &vectors);
        }
        Ok(self.graph.into_bytes())
    }

    /// Row `ids[i, j]` of a table, for all of them.
    fn rows(&mut self, table: &described::Table, ids: &str) -> Result<Name, BoxError> {
        let table = self.store(&table.name)?;
        Ok(self.graph.node("Gather", &[&table, ids], &[Attribute::Number("axis", 0)]))
    }

    /// The vectors of tokens, before the layers.
    fn embed(&mut self, encoder: &Encoder, ids: &str, types: Option<&Name>) -> Result<Name, BoxError> {
        let mut x = self.rows(&encoder.words, ids)?;
        if let Some(table) = &encoder.types {
            let of_type = if let Some(types) = types {
                let types = self.graph.cast(types, DType::I64);
                self.rows(table, &types)?
            } else {
                // All tokens are of the first type.
                let first = self.numbers(&table.name)?[..table.size].to_vec();
                self.graph.floats(&[table.size], &first)
            };
            x = self.graph.node("Add", &[&x, &of_type], &[]);
        }
        if let Some(positions) = &encoder.positions {
            let places = match positions.counting {
                Counting::FromZero => self.places(ids),
                Counting::AfterPadding { padding } => {
                    // Counted without the padding's id, wherever it stands.
                    let padding = self.graph.integers(&[], &[i64::from(padding)]);
                    let is_padding = self.graph.node("Equal", &[ids, &padding], &[]);
                    let there = self.graph.node("Not", &[&is_padding], &[]);
                    let there = self.graph.cast(&there, DType::I64);
                    let axis = self.graph.integers(&[], &[1]);
                    let counted = self.graph.node("CumSum", &[&there, &axis], &[]);
                    let counted = self.graph.node("Mul", &[&counted, &there], &[]);
                    self.graph.node("Add", &[&counted, &padding], &[])
                }
                other => return Err(unknown(&other)),
            };
            let vectors = self.rows(&positions.table, &places)?;
            x = self.graph.node("Add", &[&x, &vectors], &[]);
        }
        x = self.optional_norm(encoder.embedding_norm.as_ref(), &x)?;
        match &encoder.projection {
            Some(projection) => self.linear(projection, &x),
            None => Ok(x),
        }
    }

    fn layer(&mut self, layer: &described::Layer, x: &str, shared: &Shared) -> Result<Name, BoxError> {
        let before = self.optional_norm(layer.attention_before.as_ref(), x)?;
        let attended = self.attention(&layer.attention, &before, shared)?;
        let h = self.graph.node("Add", &[&attended, x], &[]);
        let h = self.optional_norm(layer.attention_after.as_ref(), &h)?;
        let before = self.optional_norm(layer.feed_before.as_ref(), &h)?;
        let feed = &layer.feed_forward;
        let wide = match &feed.wide {
            Wide::Plain(linear) => {
                let wide = self.linear(linear, &before)?;
                self.activate(feed.activation, &wide)?
            }
            Wide::Gated { gate, up } => {
                let (gate, up) = (self.linear(gate, &before)?, self.linear(up, &before)?);
                let gate = self.activate(feed.activation, &gate)?;
                self.graph.node("Mul", &[&gate, &up], &[])
            }
            Wide::Joined(linear) => {
                let both = self.linear(linear, &before)?;
                let half = i64::try_from(linear.output / 2)?;
                let (gate, up) = (self.part(&both, 0, half), self.part(&both, half, 2 * half));
                let gate = self.activate(feed.activation, &gate)?;
                self.graph.node("Mul", &[&gate, &up], &[])
            }
        };
        let narrow = self.linear(&feed.narrow, &wide)?;
        let y = self.graph.node("Add", &[&narrow, &h], &[]);
        self.optional_norm(layer.feed_after.as_ref(), &y)
    }

    fn step(&mut self, step: &Step, x: &str) -> Result<Name, BoxError> {
        match step {
            Step::Linear(linear) => self.linear(linear, x),
            Step::Activation(activation) => self.activate(*activation, x),
            Step::Norm(norm) => self.norm(norm, x),
            Step::UnitLength => {
                let over = [Attribute::Numbers("axes", &[-1])];
                let length = self.graph.node("ReduceL2", &[x], &over);
                let least = number(&mut self.graph, 1e-12);
                let length = self.graph.node("Max", &[&length, &least], &[]);
                Ok(self.graph.node("Div", &[x, &length], &[]))
            }
            Step::Truncate(size) => {
                let size = i64::try_from(*size)?;
                Ok(self.part(x, 0, size))
            }
            other => Err(unknown(other)),
        }
    }
}
