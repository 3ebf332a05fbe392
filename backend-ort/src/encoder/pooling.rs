//! The vectors of a text's tokens as one.

use super::parts::unknown;
use crate::graph::number;
use crate::onnx::write::{Attribute, Graph, Name};
use skep_models::description::Pool;
use skep_runtime_core::{BoxError, DType};

/// `[batch, tokens, hidden]` to `[batch, pools · hidden]`, of the tokens whose mask is 1.
pub(super) fn pool(
    graph: &mut Graph,
    pools: &[Pool],
    x: &str,
    ids: &str,
    mask: &str,
    pooled: &str,
) -> Result<Name, BoxError> {
    let (kept, all) = (graph.cast(pooled, DType::F32), graph.cast(mask, DType::F32));
    let mut parts = Vec::with_capacity(pools.len());
    for pool in pools {
        parts.push(one(graph, *pool, x, ids, &kept, &all)?);
    }
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    Ok(match &*parts {
        [part] => (*part).to_owned(),
        parts => graph.node("Concat", parts, &[Attribute::Number("axis", -1)]),
    })
}

fn one(graph: &mut Graph, pool: Pool, x: &str, ids: &str, kept: &str, all: &str) -> Result<Name, BoxError> {
    let weights = match pool {
        Pool::Max => {
            let (one, far) = (number(graph, 1.0), number(graph, 1e30));
            let hidden = graph.node("Sub", &[kept, &one], &[]);
            let hidden = graph.node("Mul", &[&hidden, &far], &[]);
            let last = graph.integers(&[1], &[2]);
            let hidden = graph.node("Unsqueeze", &[&hidden, &last], &[]);
            let open = graph.node("Add", &[x, &hidden], &[]);
            let over = [Attribute::Numbers("axes", &[1]), Attribute::Number("keepdims", 0)];
            return Ok(graph.node("ReduceMax", &[&open], &over));
        }
        Pool::Mean => {
            let count = sum(graph, kept);
            graph.node("Div", &[kept, &count], &[])
        }
        Pool::MeanSqrt => {
            let count = sum(graph, kept);
            let count = graph.node("Sqrt", &[&count], &[]);
            graph.node("Div", &[kept, &count], &[])
        }
        Pool::WeightedMean => {
            // Counted from the text's first token, whether it is pooled or not.
            let counted = count(graph, all);
            let weights = graph.node("Mul", &[kept, &counted], &[]);
            let all = sum(graph, &weights);
            graph.node("Div", &[&weights, &all], &[])
        }
        Pool::First => {
            let place = largest(graph, kept);
            one_hot(graph, kept, &place)
        }
        Pool::Last => {
            let place = last_place(graph, kept);
            let weights = one_hot(graph, kept, &place);
            graph.node("Mul", &[&weights, kept], &[])
        }
        Pool::LastBut(id) => {
            let id = graph.integers(&[], &[i64::from(id)]);
            let same = graph.node("Equal", &[ids, &id], &[]);
            let other = graph.node("Not", &[&same], &[]);
            let other = graph.cast(&other, DType::F32);
            let others = graph.node("Mul", &[&other, kept], &[]);
            let place = last_place(graph, &others);
            one_hot(graph, kept, &place)
        }
        other => return Err(unknown(&other)),
    };
    let middle = graph.integers(&[1], &[1]);
    let weights = graph.node("Unsqueeze", &[&weights, &middle], &[]);
    let mixed = graph.node("MatMul", &[&weights, x], &[]);
    Ok(graph.node("Squeeze", &[&mixed, &middle], &[]))
}

/// The sum of each row, and never 0.
fn sum(graph: &mut Graph, numbers: &str) -> Name {
    let axis = graph.integers(&[1], &[1]);
    let sum = graph.node("ReduceSum", &[numbers, &axis], &[]);
    let least = number(graph, 1e-9);
    graph.node("Max", &[&sum, &least], &[])
}

/// Running sums of each row.
fn count(graph: &mut Graph, numbers: &str) -> Name {
    let axis = graph.integers(&[], &[1]);
    graph.node("CumSum", &[numbers, &axis], &[])
}

/// The place of the first of the largest numbers of each row, `[batch, 1]`.
fn largest(graph: &mut Graph, numbers: &str) -> Name {
    graph.node("ArgMax", &[numbers], &[Attribute::Number("axis", 1)])
}

/// 1, 2, 3 … for each place of a row, in each row.
fn places(graph: &mut Graph, like: &str) -> Name {
    let (zero, one) = (number(graph, 0.0), number(graph, 1.0));
    let none = graph.node("Mul", &[like, &zero], &[]);
    let ones = graph.node("Add", &[&none, &one], &[]);
    count(graph, &ones)
}

/// The last place of each row that is kept; the first if none is.
fn last_place(graph: &mut Graph, kept: &str) -> Name {
    let places = places(graph, kept);
    let kept = graph.node("Mul", &[kept, &places], &[]);
    largest(graph, &kept)
}

/// 1 at the place of each row, 0 elsewhere.
fn one_hot(graph: &mut Graph, kept: &str, place: &str) -> Name {
    let places = places(graph, kept);
    let places = graph.cast(&places, DType::I64);
    let one = graph.integers(&[], &[1]);
    let place = graph.node("Add", &[place, &one], &[]);
    let same = graph.node("Equal", &[&places, &place], &[]);
    graph.cast(&same, DType::F32)
}
