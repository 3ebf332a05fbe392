//! Checking a task before it may wait: everything that can be wrong with it is told to its own caller.

use skep_runtime_core::{Device, DeviceError, Schema, Shape, SubmitError};
use std::sync::Arc;

/// Brings the tensors into the schema's order.
pub(crate) fn in_order<T>(schema: &Schema, named: Vec<(String, T)>) -> Result<Vec<T>, (SubmitError, Vec<T>)> {
    if let Some(error) = naming_error(schema, &named) {
        return Err((error, named.into_iter().map(|(_, tensor)| tensor).collect()));
    }
    let mut tensors: Vec<_> =
        named.into_iter().map(|(name, tensor)| (schema.position(&name), tensor)).collect();
    tensors.sort_by_key(|(position, _)| *position);
    Ok(tensors.into_iter().map(|(_, tensor)| tensor).collect())
}

fn naming_error<T>(schema: &Schema, named: &[(String, T)]) -> Option<SubmitError> {
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
pub(crate) fn check<D: Device>(
    device: &D,
    schema: &Schema,
    inputs: &[D::Tensor],
) -> Result<Shape, SubmitError> {
    let unreadable = |error| SubmitError::Unreadable(Arc::new(error));
    let shape = schema.check_each(inputs, |input| device.describe(input).map_err(unreadable))?;
    for (spec, input) in schema.tensors().iter().zip(inputs) {
        let Some(below) = spec.index_below() else { continue };
        if let Some(got) = device.index_outside(input, below).map_err(unreadable)? {
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
pub(crate) fn split<D: Device>(
    device: &D,
    inputs: &[D::Tensor],
    rows: usize,
    max_rows: usize,
) -> Result<Vec<Part<D::Tensor>>, SubmitError> {
    let sizes: Vec<usize> = (0..rows).step_by(max_rows).map(|start| max_rows.min(rows - start)).collect();
    let mut parts: Vec<Part<D::Tensor>> =
        sizes.iter().map(|&rows| Part { inputs: Vec::with_capacity(inputs.len()), rows }).collect();
    for input in inputs {
        let pieces = device.split(input, &sizes).map_err(|error| SubmitError::Unreadable(Arc::new(error)))?;
        for (part, piece) in parts.iter_mut().zip(pieces) {
            part.inputs.push(piece);
        }
    }
    Ok(parts)
}

/// Joins the outputs of a large task's parts: the reverse of [`split`].
pub(crate) fn join_parts<D: Device>(
    device: &D,
    parts: Vec<Vec<D::Tensor>>,
) -> Result<Vec<D::Tensor>, DeviceError> {
    let arity = parts.first().map_or(0, Vec::len);
    let mut columns: Vec<Vec<D::Tensor>> = (0..arity).map(|_| Vec::with_capacity(parts.len())).collect();
    for part in parts {
        for (column, tensor) in columns.iter_mut().zip(part) {
            column.push(tensor);
        }
    }
    columns.into_iter().map(|column| device.join(column)).collect()
}
