//! Checks of a task before it may wait: everything that can be wrong with it is its own caller's to know.

use skep_runtime_core::{DeviceError, Inputs, Schema, Shape, SubmitError, TensorOps};
use std::sync::Arc;

/// Brings tensors, whose names have been checked, into the schema's order. Returns their names in the caller's order.
pub(crate) fn in_order<T>(schema: &Schema, named: Vec<(String, T)>) -> (Vec<T>, Vec<String>) {
    let (order, mut tensors): (Vec<_>, Vec<_>) =
        named.into_iter().map(|(name, tensor)| (name.clone(), (schema.position(&name), tensor))).unzip();
    tensors.sort_by_key(|(position, _)| *position);
    (tensors.into_iter().map(|(_, tensor)| tensor).collect(), order)
}

/// The reverse of [`in_order`].
pub(crate) fn restored<T>(schema: &Schema, order: Vec<String>, tensors: Vec<T>) -> Inputs<T> {
    if order.is_empty() {
        return Inputs::Positional(tensors);
    }
    let mut tensors: Vec<_> = tensors.into_iter().map(Some).collect();
    let named = order.into_iter().filter_map(|name| {
        let tensor = tensors.get_mut(schema.position(&name)?)?.take()?;
        Some((name, tensor))
    });
    Inputs::Named(named.collect())
}

/// The first thing that is wrong with the names of a task's tensors.
pub(crate) fn naming_error<T>(schema: &Schema, named: &[(String, T)]) -> Option<SubmitError> {
    let expected = || schema.tensors().iter().map(|spec| spec.name().to_owned()).collect();
    if let Some((name, _)) = named.iter().find(|(name, _)| schema.position(name).is_none()) {
        return Some(SubmitError::UnknownInput { name: name.clone(), expected: expected() });
    }
    let once = |name: &str| named.iter().filter(|(given, _)| given == name).count() == 1;
    let wrong = schema.tensors().iter().find(|spec| !once(spec.name()))?;
    Some(SubmitError::NotOnce { name: wrong.name().to_owned() })
}

/// Checks tensors against the schema, down to the range of indices.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call copies the task, which costs more than the rest: measured")]
pub(crate) fn check<O: TensorOps>(
    ops: &O,
    schema: &Schema,
    inputs: &[O::Tensor],
) -> Result<Shape, SubmitError> {
    let unreadable = |error| SubmitError::Unreadable(Arc::new(error));
    let shape = schema.check_each(inputs, |input| ops.describe(input).map_err(unreadable))?;
    for (spec, input) in schema.tensors().iter().zip(inputs) {
        let Some(below) = spec.index_below() else { continue };
        if let Some(got) = ops.index_outside(input, below).map_err(unreadable)? {
            return Err(SubmitError::IndexOutOfRange { input: spec.name().to_owned(), got, below });
        }
    }
    Ok(shape)
}

/// One part of a task: its tensors and its rows.
pub(crate) struct Part<T> {
    pub(crate) inputs: Vec<T>,
    pub(crate) rows: usize,
}

/// Cuts the tensors of a large task into parts that fit a batch each.
pub(crate) fn split<O: TensorOps>(
    ops: &O,
    inputs: &[O::Tensor],
    rows: usize,
    max_rows: usize,
) -> Result<Vec<Part<O::Tensor>>, SubmitError> {
    let sizes: Vec<usize> = (0..rows).step_by(max_rows).map(|start| max_rows.min(rows - start)).collect();
    let mut parts: Vec<Part<O::Tensor>> =
        sizes.iter().map(|&rows| Part { inputs: Vec::with_capacity(inputs.len()), rows }).collect();
    for input in inputs {
        let pieces = ops.split(input, &sizes).map_err(|error| SubmitError::Unreadable(Arc::new(error)))?;
        for (part, piece) in parts.iter_mut().zip(pieces) {
            part.inputs.push(piece);
        }
    }
    Ok(parts)
}

/// Joins the outputs of a large task's parts: the reverse of [`split`].
pub(crate) fn join_parts<O: TensorOps>(
    ops: &O,
    parts: Vec<Vec<O::Tensor>>,
) -> Result<Vec<O::Tensor>, DeviceError> {
    let arity = parts.first().map_or(0, Vec::len);
    let mut columns: Vec<Vec<O::Tensor>> = (0..arity).map(|_| Vec::with_capacity(parts.len())).collect();
    for part in parts {
        for (column, tensor) in columns.iter_mut().zip(part) {
            column.push(tensor);
        }
    }
    columns.into_iter().map(|column| ops.join(column)).collect()
}
