//! Whose fault it was that a step could not be taken.

use super::library::{Library, Tensor};
use crate::optim::stepper::{StepError, Stepper};
use skep_runtime_core::{BoxError, OfRows, TensorOps};
use std::ops::Range;

/// One batch of a training step.
pub(super) struct Batch<'a, L: Library> {
    pub(super) device: &'a L::Device,
    pub(super) inputs: &'a [Tensor<L>],
    pub(super) gradients: &'a [Tensor<L>],
}

impl<L: Library> Batch<'_, L> {
    /// Names the rows of which a step alone could not be taken either, if there are such and the error is of that kind:
    /// numbers that are none, or too large. Runs the layers on halves of the batch, and on halves of these: at most twice for
    /// each such row and level.
    pub(super) fn blame(&self, library: &mut L, stepper: &Stepper<Tensor<L>>, error: BoxError) -> BoxError {
        let is_of_numbers = matches!(
            error.downcast_ref(),
            Some(
                StepError::GradientNotFinite { .. }
                    | StepError::NormNotFinite { .. }
                    | StepError::WouldNotBeFinite { .. }
            )
        );
        let rows = match self.inputs.first().map(|input| self.device.describe(input)) {
            Some(Ok(info)) if is_of_numbers => info.rows().unwrap_or(0),
            _ => return error,
        };
        let mut culprits = Vec::new();
        // Who cannot be found out, because there is no room, say, is not blamed.
        match self.search(library, stepper, 0..rows, true, &mut culprits) {
            Ok(()) if !culprits.is_empty() => OfRows::new(culprits, error).into(),
            _ => error,
        }
    }

    /// Adds the culprits among these rows. `known`: it is known already that they make a step fail.
    fn search(
        &self,
        library: &mut L,
        stepper: &Stepper<Tensor<L>>,
        rows: Range<usize>,
        known: bool,
        culprits: &mut Vec<usize>,
    ) -> Result<(), BoxError> {
        if rows.is_empty() || !(known || self.fails(library, stepper, &rows)?) {
            return Ok(());
        }
        if rows.len() == 1 {
            culprits.push(rows.start);
            return Ok(());
        }
        let middle = rows.start + rows.len() / 2;
        self.search(library, stepper, rows.start..middle, false, culprits)?;
        self.search(library, stepper, middle..rows.end, false, culprits)
    }

    /// Whether a step of these rows alone could not be taken.
    fn fails(
        &self,
        library: &mut L,
        stepper: &Stepper<Tensor<L>>,
        rows: &Range<usize>,
    ) -> Result<bool, BoxError> {
        let cut = |tensors: &[Tensor<L>]| {
            tensors
                .iter()
                .map(|tensor| self.device.slice(tensor, rows.clone()))
                .collect::<Result<Vec<_>, _>>()
        };
        let (inputs, gradients) = (cut(self.inputs)?, cut(self.gradients)?);
        let back = library.backward(&inputs, &gradients, true)?;
        stepper.refuses(library, back.of_parameters)
    }
}
