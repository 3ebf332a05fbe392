//! Gathering: a batch's columns, joined and placed on the device.

use super::batch::{CutBatch, DoneBatch, GatheredBatch, Joined, Padded};
use super::shared::Shared;
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
            Ok((inputs, sizes)) => {
                batch.padded(sizes);
                Outcome::Gathered(GatheredBatch { batch, inputs })
            }
            Err(error) => self.failed(batch, error).map_or(Outcome::TakenApart, Outcome::Failed),
        }
    }

    /// Gathers each column of a batch. Returns what they were padded to beside them, if they were.
    pub(crate) fn gather_inputs(&self, batch: &CutBatch<D::Tensor>) -> Result<Padded<D::Tensor>, BatchError> {
        if let Some(plan) = &batch.station.plan {
            let (inputs, sizes) = self.gather_padded(batch, plan, 0..batch.headers.len(), true)?;
            return Ok((inputs, Some(Box::new(sizes))));
        }
        let mut inputs = Joined::with_capacity(batch.columns.len());
        for column in &batch.columns {
            inputs.push(self.outside.on_device("gather", |device| device.gather(column))?);
        }
        Ok((inputs, None))
    }
}
