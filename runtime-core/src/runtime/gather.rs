//! Gathering: a batch's columns, joined and placed on the device.

use super::batch::{CutBatch, DoneBatch, Gathered, GatheredBatch, Joined};
use super::shared::Shared;
use super::sharing::{Laid, Sharing};
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::sync::guarded;

/// The outcome of gathering a batch.
pub(crate) enum Outcome<T> {
    /// It can run.
    Gathered(GatheredBatch<T>),
    /// It failed for good.
    Failed(DoneBatch<T>),
    /// It failed and runs again in halves, or no task of it could be cut: there is nothing to run yet.
    TakenApart,
}

impl<D: Device> Shared<D> {
    /// Joins the inputs of a batch and places them on the device.
    pub(crate) fn gather(&self, mut batch: Box<CutBatch<D::Tensor>>) -> Outcome<D::Tensor> {
        if let Err(message) = guarded(|| batch.station.pool.after_cut()) {
            self.broke(&batch.station, "after_cut", message);
        }
        self.cut_pieces(&mut batch);
        if batch.headers.is_empty() {
            self.land(&batch.flight);
            batch.free();
            return Outcome::TakenApart;
        }
        if batch.flight.is_shared() && self.keep_spares(&batch) {
            self.land(&batch.flight);
            batch.free();
            return Outcome::TakenApart;
        }
        let inputs = self.at_work(&batch.flight, || self.gather_inputs(&batch));
        batch.gather = self.now().saturating_duration_since(batch.chosen);
        match inputs {
            Ok((inputs, laid)) => {
                batch.laid(laid);
                Outcome::Gathered(GatheredBatch { batch, inputs })
            }
            Err(error) => self.failed(batch, error).map_or(Outcome::TakenApart, Outcome::Failed),
        }
    }

    /// Gathers each column of a batch. Returns how beside them, if its tasks may differ in size.
    pub(crate) fn gather_inputs(
        &self,
        batch: &CutBatch<D::Tensor>,
    ) -> Result<Gathered<D::Tensor>, BatchError> {
        let all = 0..batch.headers.len();
        match batch.station.sharing.as_deref() {
            Some(Sharing::Padded(plan)) => {
                let (inputs, sizes) = self.gather_padded(batch, plan, all, true)?;
                return Ok((inputs, Some(Box::new(Laid::Padded(sizes)))));
            }
            Some(Sharing::Ragged(ragged)) => {
                let (inputs, lengths) = self.gather_ragged(batch, ragged, all)?;
                return Ok((inputs, Some(Box::new(Laid::Ragged(lengths)))));
            }
            None => {}
        }
        let mut inputs = Joined::with_capacity(batch.columns.len());
        for column in &batch.columns {
            inputs.push(self.outside.on_device("gather", |device| device.gather(column))?);
        }
        Ok((inputs, None))
    }
}
