//! Parts that graphs are made of.

use crate::onnx::write::{Attribute, Graph, Name};
use skep_runtime_core::{BoxError, HostTensor};

/// `x · weightᵀ + bias`, of a weight `[output, input]` in f32.
pub(crate) fn linear(
    graph: &mut Graph,
    x: &str,
    weight: &HostTensor,
    bias: Option<&HostTensor>,
) -> Result<Name, BoxError> {
    let &[output, input] = weight.dims() else {
        return Err(format!("weight has dims {:?}, expected two", weight.dims()).into());
    };
    let transposed = transposed(&floats(weight)?, [output, input]);
    let weight = graph.floats(&[input, output], &transposed);
    let product = graph.node("MatMul", &[x, &weight], &[]);
    Ok(match bias {
        Some(bias) => {
            let bias = graph.store(bias);
            graph.node("Add", &[&product, &bias], &[])
        }
        None => product,
    })
}

/// `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transposed(numbers: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(numbers.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| numbers[row * columns + column]));
    }
    out
}

/// The numbers of a tensor in f32.
pub(crate) fn floats(tensor: &HostTensor) -> Result<Vec<f32>, BoxError> {
    tensor.to_f32().ok_or_else(|| format!("a parameter is {}, expected f32", tensor.dtype()).into())
}

/// One number.
pub(crate) fn number(graph: &mut Graph, number: f32) -> Name {
    graph.floats(&[], &[number])
}

/// `x · Φ(x)`, exact: Hendrycks and Gimpel, 2016.
pub(crate) fn gelu(graph: &mut Graph, x: &str) -> Name {
    graph.contributed("Gelu", &[x], &[])
}

/// Layer norm over the last dim: Ba, Kiros and Hinton, "Layer normalization", 2016.
pub(crate) fn layer_norm(graph: &mut Graph, x: &str, weight: &str, bias: &str, eps: f32) -> Name {
    let attributes = [Attribute::Number("axis", -1), Attribute::Float("epsilon", eps)];
    graph.node("LayerNormalization", &[x, weight, bias], &attributes)
}
