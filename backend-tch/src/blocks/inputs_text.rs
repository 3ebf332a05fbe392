//! Inputs as text: `ids:i64[tokens..128] weights:f32[3x4] label:u8[]`.

use skep_runtime_core::{Dim, Schema, TensorSpec};
use skep_toolkit::blocks::schema;
use skep_toolkit::{ConfigError, dtype_named};

/// Reads inputs, with spaces between them.
pub(super) fn inputs_of(text: &str) -> Result<Schema, ConfigError> {
    let invalid = |got: &str| {
        ConfigError::invalid("inputs", got, "tensors like `x:f32[3x4]`, with spaces between them")
    };
    let specs = text.split_whitespace().map(|part| spec(part).ok_or_else(|| invalid(part)));
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    if specs.is_empty() {
        return Err(invalid(text));
    }
    schema(specs)
}

/// `name:dtype[dims]`.
fn spec(text: &str) -> Option<TensorSpec> {
    let (name, rest) = text.split_once(':')?;
    let (dtype, dims) = rest.strip_suffix(']')?.split_once('[')?;
    let dtype = dtype_named(dtype)?;
    let dim = |(place, text): (usize, &str)| {
        Some(match text.split_once("..") {
            // Without a name it has one that no other has.
            Some(("", max)) => Dim::free(format!("{name}.{place}"), max.parse().ok()?),
            Some((free, max)) => Dim::free(free, max.parse().ok()?),
            None => Dim::Fixed(text.parse().ok()?),
        })
    };
    let row = (1..).zip(dims.split('x')).filter(|_| !dims.is_empty());
    let row = row.map(dim).collect::<Option<Vec<_>>>()?;
    let named = !name.is_empty();
    named.then(|| TensorSpec::new(name, dtype, [vec![Dim::Batch], row].concat()))
}
