//! Ragged batches: tasks whose free dims differ, laid end to end in one batch.

use crate::contract::dims::Dim;
use crate::contract::error::submit::SchemaError;
use crate::contract::schema::{Schema, TensorSpec};

impl Schema {
    /// Has tasks whose free dims differ share batches without padding: for the inputs of a block that takes them *ragged*,
    /// laid end to end. Callers see nothing of it.
    ///
    /// The schema has one free dim, which stands right behind the rows wherever it stands: `tokens`, say, in `ids`
    /// `[batch, tokens]`. The *elements* of a batch are the sizes of that dim in all of its rows together. The block is called with
    ///
    /// - each input that has the free dim as `[elements, …]`: all elements of the first row, then those of the second one,
    /// - each other input as `[rows, …]`, as ever,
    /// - and behind all inputs the `offsets`, i64 `[rows + 1]`: the element with which each row begins, 0 first, and last the
    ///   number of all elements.
    ///
    /// It gives outputs that have the free dim in their spec as `[elements, …]`, and others as `[rows, …]`; each task gets its
    /// own as `[rows, size, …]` and `[rows, …]`. In a [backward pass](crate::Backend::backward) the gradients of outputs come, and
    /// those of inputs go, laid in the same way; there is none of the offsets, and a step
    /// that cannot be taken fails for all tasks of its batch. The block's outputs have to be
    /// [declared](crate::BlockInfo::outputs), and its pools take no [`Padding`](crate::Padding).
    ///
    /// ```
    /// use skep_runtime_core::{DType, Dim, Schema, TensorSpec};
    ///
    /// let ids = TensorSpec::new("ids", DType::U32, [Dim::Batch, Dim::free("tokens", 512)]);
    /// let weights = TensorSpec::rows("weights", DType::F32, &[8]);
    /// let schema = Schema::new(vec![ids, weights])?.ragged("offsets")?;
    /// // Of two texts, of three tokens and of two, the block gets `ids` [5], `weights` [2, 8] and `offsets` 0, 3, 5.
    /// assert_eq!(schema.offsets(), Some("offsets"));
    /// # Ok::<(), skep_runtime_core::SchemaError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`SchemaError::Ragged`] if the schema has no free dim, several, or one that stands elsewhere or twice in a
    /// tensor, and [`SchemaError::NameTwice`] if a tensor has the name of the offsets.
    pub fn ragged(mut self, offsets: impl Into<String>) -> Result<Self, SchemaError> {
        let offsets = offsets.into();
        if self.position(&offsets).is_some() {
            return Err(SchemaError::NameTwice { name: offsets });
        }
        let [free] = self.free() else {
            let names: Vec<_> = self.free().iter().map(|free| format!("`{}`", free.name)).collect();
            let got = if names.is_empty() { "no free dim".to_owned() } else { names.join(", ") };
            return Err(SchemaError::Ragged { got, expected: "one free dim" });
        };
        let name = free.name.to_string();
        if let Some(spec) = self.tensors.iter().find(|spec| !can_be_laid(spec, &name)) {
            let (got, expected) = (format!("`{}` {spec}", spec.name()), BEHIND);
            return Err(SchemaError::Ragged { got, expected });
        }
        self.offsets = Some(offsets);
        Ok(self)
    }

    /// Returns the name of the offsets that the block gets behind its inputs, if it takes [ragged](Self::ragged) batches.
    pub fn offsets(&self) -> Option<&str> {
        self.offsets.as_deref()
    }

    /// What is wrong with these outputs of a block that takes ragged batches of this: the value and what was expected.
    pub(crate) fn ragged_fault(&self, outputs: Option<&Self>) -> Option<(String, &'static str)> {
        let ([free], true) = (self.free(), self.offsets.is_some()) else { return None };
        let Some(outputs) = outputs else {
            return Some(("a block without outputs".to_owned(), "outputs that are declared"));
        };
        if outputs.offsets.is_some() {
            return Some((
                "outputs that are ragged".to_owned(),
                "inputs that are, and outputs that follow them",
            ));
        }
        let strange = outputs.tensors().iter().find(|spec| !can_be_laid(spec, &free.name));
        strange.map(|spec| (format!("an output `{}` {spec}", spec.name()), BEHIND))
    }
}

const BEHIND: &str = "no other free dim than that of the inputs, once, right behind the rows";

/// Returns true if a tensor has no free dim, or the one of this name right behind the rows, and no other.
fn can_be_laid(spec: &TensorSpec, free: &str) -> bool {
    let is_free = |dim: &Dim| matches!(dim, Dim::Free { .. });
    match spec.dims() {
        [_, Dim::Free { name, .. }, rest @ ..] => &**name == free && !rest.iter().any(is_free),
        dims => !dims.iter().any(is_free),
    }
}

impl TensorSpec {
    /// Returns true if a tensor of a ragged schema is laid end to end.
    pub(crate) fn is_laid(&self) -> bool {
        matches!(self.dims().get(1), Some(Dim::Free { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tensor::DType;

    fn schema(of: &[(&str, &[Dim])]) -> Schema {
        let spec = |(name, dims): &(&str, &[Dim])| {
            TensorSpec::new(*name, DType::F32, [&[Dim::Batch], *dims].concat())
        };
        Schema::new(of.iter().map(spec).collect()).unwrap()
    }

    #[test]
    fn what_cannot_be_laid_end_to_end_is_refused() {
        let n = || Dim::free("n", 8);
        let refused = |of: &[(&str, &[Dim])]| schema(of).ragged("offsets").unwrap_err().to_string();
        assert!(schema(&[("x", &[n(), Dim::Fixed(2)]), ("y", &[]), ("z", &[n()])]).ragged("offsets").is_ok());
        let expected = "ragged schema has no free dim, expected one free dim";
        assert_eq!(refused(&[("x", &[Dim::Fixed(2)])]), expected);
        let expected = "ragged schema has `n`, `m`, expected one free dim";
        assert_eq!(refused(&[("x", &[n()]), ("y", &[Dim::free("m", 8)])]), expected);
        let expected = "ragged schema has `y` f32 [batch, 2, n 1..=8], expected no other free dim than that of the inputs, once, right behind the rows";
        assert_eq!(refused(&[("x", &[n()]), ("y", &[Dim::Fixed(2), n()])]), expected);
        assert!(refused(&[("x", &[n(), n()])]).contains("`x`"));
        assert_eq!(refused(&[("offsets", &[n()])]), "tensor name `offsets` is given twice");
    }

    #[test]
    fn outputs_follow_the_inputs() {
        let n = || Dim::free("n", 8);
        let inputs = schema(&[("x", &[n()])]).ragged("offsets").unwrap();
        let fault = |outputs: Option<Schema>| inputs.ragged_fault(outputs.as_ref()).map(|(got, _)| got);
        assert_eq!(fault(Some(schema(&[("y", &[n(), Dim::Fixed(3)]), ("z", &[Dim::Fixed(2)])]))), None);
        assert_eq!(fault(None).unwrap(), "a block without outputs");
        assert_eq!(
            fault(Some(schema(&[("y", &[Dim::free("m", 8)])]))).unwrap(),
            "an output `y` f32 [batch, m 1..=8]"
        );
        assert!(fault(Some(schema(&[("y", &[Dim::Fixed(2), n()])]))).is_some());
        assert!(fault(Some(inputs.clone())).is_some(), "they do not follow themselves");
        assert_eq!(schema(&[("x", &[n()])]).ragged_fault(None), None, "nothing is ragged");
    }
}
