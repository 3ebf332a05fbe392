//! Whether a sentence's vector is the same whatever batch it was in.

use crate::common::{DemoBlock, DemoDevice, Result, skep};
use crate::embedder::{Embedded, vector};
use crate::tokens::{Tokens, inputs};
use skep::blocks::Bert;
use skep::runtime::{Backend, Device};
use std::path::Path;

/// How much two elements may differ.
pub(crate) const TOLERANCE: f32 = 1e-5;

/// Embeds the sentences one by one with the model alone, without a runtime and without padding, and returns
/// the largest difference of any two elements. Not a number where there is one among the elements.
pub(crate) fn largest_difference(
    device: &DemoDevice,
    directory: &Path,
    tokens: &Tokens,
    sentences: &[String],
    embedded: &[Embedded],
) -> Result<f32> {
    let mut model = DemoBlock::of("alone", Bert::open(directory)?)?;
    model.load(device)?;
    let mut largest = 0.0_f32;
    for (sentence, embedded) in sentences.iter().zip(embedded) {
        let ids = tokens.ids(sentence)?;
        let placed = inputs(device, &ids, ids.len())?.into_iter().map(|input| device.gather(&[input]));
        let outputs = model.forward(&placed.collect::<std::result::Result<Vec<_>, _>>()?)?;
        let alone = vector(device, &outputs)?;
        if alone.len() != embedded.vector.len() {
            return Ok(f32::NAN);
        }
        let differences = alone.iter().zip(&embedded.vector).map(|(a, b)| (a - b).abs());
        // Unlike `max`, this keeps what is not a number.
        largest = differences.fold(largest, |a, b| if b <= a { a } else { b });
    }
    Ok(largest)
}
