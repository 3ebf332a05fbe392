//! Parts that a model's graph is made of: linear layers, norms and activations, from its parameters.

use crate::graph::{self, number};
use crate::onnx::write::{Attribute, Graph, Name};
use half::{bf16, f16};
use skep_models::description::{self as described, Activation, NormKind};
use skep_runtime_core::{BoxError, DType, HostTensor};

/// A part of a description that was added to it after this was written.
pub(super) fn unknown(part: &dyn std::fmt::Debug) -> BoxError {
    format!("{part:?} is not known to backend ort").into()
}

/// A tensor of fewer or more bits in f32.
#[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
pub(super) fn in_f32(tensor: &HostTensor) -> Result<HostTensor, BoxError> {
    let bytes = tensor.bytes();
    let numbers: Vec<f32> = match tensor.dtype() {
        DType::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        DType::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        DType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        other => return Err(format!("a parameter is {other}, expected a float").into()),
    };
    Ok(HostTensor::from_f32(tensor.dims(), &numbers)?)
}

/// Reads a parameter in f32.
pub(super) type Weights<'a> = dyn Fn(&str) -> Result<HostTensor, BoxError> + 'a;

/// A graph in the making, and where its parameters come from.
pub(super) struct Builder<'a> {
    pub(super) graph: Graph,
    weights: &'a Weights<'a>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(weights: &'a Weights<'a>) -> Self {
        Self { graph: Graph::default(), weights }
    }

    fn get(&self, name: &str) -> Result<HostTensor, BoxError> {
        (self.weights)(name)
    }

    /// The numbers of a parameter.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<f32>, BoxError> {
        graph::floats(&self.get(name)?)
    }

    pub(super) fn store(&mut self, name: &str) -> Result<Name, BoxError> {
        let tensor = self.get(name)?;
        Ok(self.graph.store(&tensor))
    }

    /// 0, 1, 2 … for each of the tokens of a text, `[tokens]`.
    pub(super) fn places(&mut self, ids: &str) -> Name {
        let shape = self.graph.node("Shape", &[ids], &[]);
        let second = self.graph.integers(&[], &[1]);
        let count = self.graph.node("Gather", &[&shape, &second], &[Attribute::Number("axis", 0)]);
        let (zero, one) = (self.graph.integers(&[], &[0]), self.graph.integers(&[], &[1]));
        self.graph.node("Range", &[&zero, &count, &one], &[])
    }

    /// Numbers `start..end` of the last dim.
    pub(super) fn part(&mut self, x: &str, start: i64, end: i64) -> Name {
        let [start, end, axis] = [start, end, -1].map(|number| self.graph.integers(&[1], &[number]));
        self.graph.node("Slice", &[x, &start, &end, &axis], &[])
    }

    pub(super) fn linear(&mut self, linear: &described::Linear, x: &str) -> Result<Name, BoxError> {
        let weight = self.get(&linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.get(bias)).transpose()?;
        graph::linear(&mut self.graph, x, &weight, bias.as_ref())
    }

    pub(super) fn optional_norm(
        &mut self,
        norm: Option<&described::Norm>,
        x: &str,
    ) -> Result<Name, BoxError> {
        match norm {
            Some(norm) => self.norm(norm, x),
            None => Ok(x.to_owned()),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
    pub(super) fn norm(&mut self, norm: &described::Norm, x: &str) -> Result<Name, BoxError> {
        let weight = self.store(&norm.weight)?;
        match norm.kind {
            NormKind::Layer => {
                let bias = match &norm.bias {
                    Some(bias) => self.store(bias)?,
                    None => self.graph.floats(&[norm.size], &vec![0.0; norm.size]),
                };
                Ok(graph::layer_norm(&mut self.graph, x, &weight, &bias, norm.eps as f32))
            }
            NormKind::RootMeanSquare => {
                let squares = self.graph.node("Mul", &[x, x], &[]);
                let mean = self.graph.node("ReduceMean", &[&squares], &[Attribute::Numbers("axes", &[-1])]);
                let eps = number(&mut self.graph, norm.eps as f32);
                let mean = self.graph.node("Add", &[&mean, &eps], &[]);
                let size = self.graph.node("Sqrt", &[&mean], &[]);
                let normed = self.graph.node("Div", &[x, &size], &[]);
                Ok(self.graph.node("Mul", &[&normed, &weight], &[]))
            }
            other => Err(unknown(&other)),
        }
    }

    pub(super) fn activate(&mut self, activation: Activation, x: &str) -> Result<Name, BoxError> {
        let graph = &mut self.graph;
        Ok(match activation {
            Activation::Identity => x.to_owned(),
            Activation::Gelu => graph::gelu(graph, x),
            Activation::GeluTanh => graph.contributed("FastGelu", &[x], &[]),
            Activation::QuickGelu => {
                graph.contributed("QuickGelu", &[x], &[Attribute::Float("alpha", 1.702)])
            }
            Activation::Relu => graph.node("Relu", &[x], &[]),
            Activation::Silu => {
                let sigmoid = graph.node("Sigmoid", &[x], &[]);
                graph.node("Mul", &[x, &sigmoid], &[])
            }
            Activation::Tanh => graph.node("Tanh", &[x], &[]),
            Activation::Sigmoid => graph.node("Sigmoid", &[x], &[]),
            other => return Err(unknown(&other)),
        })
    }
}
