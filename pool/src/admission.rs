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

/// Checks tensors against the schema and `most_rows`, down to their elements where the schema asks for that.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call copies the task, which costs more than the rest: measured")]
pub(crate) fn check<O: TensorOps>(
    ops: &O,
    schema: &Schema,
    inputs: &[O::Tensor],
    most_rows: usize,
) -> Result<Shape, SubmitError> {
    let unreadable = |error| SubmitError::Unreadable(Arc::new(error));
    let shape = schema.check_each(inputs, |input| ops.describe(input).map_err(unreadable))?;
    // Before anything is done row by row.
    if shape.rows > most_rows {
        return Err(SubmitError::TooManyRows { rows: shape.rows, max: most_rows });
    }
    for (spec, input) in schema.tensors().iter().zip(inputs) {
        if spec.is_finite() && !ops.all_finite(input).map_err(unreadable)? {
            return Err(SubmitError::NotFinite { input: spec.name().to_owned() });
        }
        let Some(below) = spec.index_below() else { continue };
        if let Some(got) = ops.index_outside(input, below).map_err(unreadable)? {
            return Err(SubmitError::IndexOutOfRange { input: spec.name().to_owned(), got, below });
        }
    }
    Ok(shape)
}

/// Joins the outputs of a large task's parts, in the order of the parts.
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
