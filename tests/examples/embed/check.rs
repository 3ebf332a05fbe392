//! Whether the vectors are those that others computed: a check against oneself agrees with whatever is wrong.

use crate::common::Result;
use crate::embedder::Embedded;
use std::path::Path;

/// How much two elements may differ from those of `PyTorch` in f64.
pub(crate) const TOLERANCE: f32 = 1e-5;

/// sentence-transformers' vectors of the sentences in the program, from all-MiniLM-L6-v2: f32, little endian, one after
/// the other. `tests/data/models/make.py` says how such numbers are made.
static MINILM: &[u8] = include_bytes!("../../data/models/minilm.f32");

/// Numbers of each vector.
const SIZE: usize = 384;

/// The largest difference of any two elements from those that others computed; not a number where there is one among
/// the elements.
///
/// # Errors
///
/// When nobody has: another model, or other sentences.
pub(crate) fn largest_difference(text: Option<&Path>, embedded: &[Embedded]) -> Result<f32> {
    if text.is_some() || embedded.len() * SIZE * 4 != MINILM.len() {
        return Err("--check is for the sentences in the program, whose vectors others have computed".into());
    }
    if embedded.iter().any(|it| it.vector.len() != SIZE) {
        return Err("--check is for all-MiniLM-L6-v2, whose vectors others have computed".into());
    }
    let expected = MINILM.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let got = embedded.iter().flat_map(|it| &it.vector);
    let differences = got.zip(expected).map(|(got, expected)| (got - expected).abs());
    // Unlike `max`, this keeps what is not a number.
    Ok(differences.fold(0.0, |a, b| if b <= a { a } else { b }))
}
