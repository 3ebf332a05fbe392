//! The fate of a batch that failed.

use super::batch::{CutBatch, DoneBatch, Joined};
use super::shared::Shared;
use crate::contract::backend::Pass;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::event::BatchEvent;
use crate::contract::pool::Shutdown;
use std::sync::Arc;

impl<D: Device> Shared<D> {
    /// Decides on a batch that failed. If that may show which of its tasks is the cause, or if
    /// fewer rows may have room, it is filed to run again in halves, or given up if an abort leaves no time
    /// for that; else it comes back to be answered. A fatal error is the loss of the device.
    pub(crate) fn failed(
        &self,
        mut batch: Box<CutBatch<D::Tensor>>,
        error: BatchError,
    ) -> Option<DoneBatch<D::Tensor>> {
        if error.is_fatal() {
            let error = Arc::new(error);
            self.lose(&DeviceLoss::Fatal(Arc::clone(&error)));
            return Some(DoneBatch { batch, inputs: Joined::new(), outputs: Err(error) });
        }
        let station = Arc::clone(&batch.station);
        let (pool, rows, tasks) = (station.id, batch.rows(), batch.headers.len());
        // A backward pass that was called may have changed the block.
        let harmless = batch.device.is_none() || (station.pass == Pass::Forward && station.rules.rerun);
        let event = BatchEvent {
            rows,
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            failed: true,
            taken_apart: true,
            ..BatchEvent::new(pool, station.pass, &[], batch.left_queue)
        };
        let trial = batch.trial.get_or_insert_default();
        if tasks == 1 {
            trial.failed_alone();
        }
        let hopeless = trial.is_hopeless();
        let mut stage = self.stage.lock();
        if tasks > 1 && error.is_out_of_memory() {
            stage.too_large(pool, rows);
        }
        if tasks == 1 || hopeless || !harmless {
            return Some(DoneBatch { batch, inputs: Joined::new(), outputs: Err(Arc::new(error)) });
        }
        if stage.stop == Some(Shutdown::Abort) {
            drop(stage);
            // Whose fault it was nobody finds out any more, so it is nobody's.
            self.give_up(&batch.flight);
        } else {
            stage.halve(batch);
            drop(stage);
            self.bells.wake_chooser();
        }
        self.outside.observe(|observer| observer.batch(&BatchEvent { done: self.now(), ..event }));
        None
    }
}
