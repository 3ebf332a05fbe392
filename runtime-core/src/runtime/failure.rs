//! The fate of a batch that failed.

use super::batch::{CutBatch, DoneBatch, Joined};
use super::culprits::Parted;
use super::outside::Verdict;
use super::shared::Shared;
use super::trial::Trial;
use crate::contract::backend::Pass;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::event::BatchEvent;
use crate::contract::pool::Shutdown;
use crate::sync::atomic::Ordering;
use crate::sync::discard;
use std::sync::Arc;

impl<D: Device> Shared<D> {
    /// Decides on a batch that failed. If that may show which of its tasks is the cause, or if
    /// fewer rows may have room, it is filed to run again in halves, or given up if an abort leaves no time
    /// for that; if the block tells whose fault it was, the others run again; else it comes back to be answered. A fatal
    /// error is the loss of the device.
    pub(crate) fn failed(
        &self,
        batch: Box<CutBatch<D::Tensor>>,
        error: BatchError,
    ) -> Option<DoneBatch<D::Tensor>> {
        let verdict = self.outside.verdict(&error);
        if verdict == Verdict::DeviceLost {
            let error = Arc::new(error);
            let loss = DeviceLoss::Fatal(Arc::clone(&error));
            self.lose(&loss);
            // Who has noted the loss before may not have come to this batch yet.
            self.lose_batch(&batch.flight, self.status.loss().unwrap_or(&loss));
            return Some(DoneBatch { batch, inputs: Joined::new(), outputs: Err(error) });
        }
        let (mut batch, error) = match self.part_culprits(batch, error) {
            Parted::Culprits(culprits) => return Some(culprits),
            Parted::Unknown(batch, error) => (batch, error),
        };
        let station = Arc::clone(&batch.station);
        let (pool, rows, tasks) = (station.id, batch.rows(), batch.headers.len());
        // A part of a task can be cut in smaller ones; that helps where there is no room, and shows no culprit.
        let is_divisible = tasks > 1 || (verdict == Verdict::OutOfMemory && batch.is_divisible_part());
        // A backward pass that was called may have changed the block.
        let harmless = batch.device.is_none() || (station.pass == Pass::Forward && station.rules.rerun);
        let event = BatchEvent {
            rows,
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            forecast: batch.forecast,
            failed: true,
            taken_apart: true,
            ..BatchEvent::new(pool, station.pass, &[], batch.left_queue)
        };
        if batch.device.is_none() {
            self.leave_out_all(&mut batch);
        }
        let mut stage = self.stage.lock();
        if batch.device.is_some() && batch.forecast.price.is_some() {
            stage.selector.unanswered(pool, rows);
        }
        if is_divisible && verdict == Verdict::OutOfMemory {
            stage.too_large(pool, rows);
            self.in_question.store(true, Ordering::SeqCst);
            // It may wait for more rows than there is room for.
            self.bells.leave_ring(pool);
        }
        let is_first = batch.trial.is_none();
        let in_doubt = stage.is_in_doubt(pool);
        let trial = batch.trial.get_or_insert_with(|| Arc::new(Trial::new(tasks, in_doubt)));
        if !is_divisible && trial.failed_alone() {
            stage.doubt(pool);
            self.in_question.store(true, Ordering::SeqCst);
        }
        if !is_divisible || !harmless || trial.is_hopeless() {
            return Some(DoneBatch { batch, inputs: Joined::new(), outputs: Err(Arc::new(error)) });
        }
        drop(stage);
        // Who has the answer of a half finds this batch counted.
        self.outside.observe(|observer| observer.batch(&BatchEvent { done: self.now(), ..event }));
        let mut stage = self.stage.lock();
        if stage.stop == Some(Shutdown::Abort) {
            drop(stage);
            // Whose fault it was nobody finds out any more, so it is nobody's.
            self.give_up(&batch.flight);
            batch.free();
        } else {
            if in_doubt && is_first && verdict == Verdict::Failed && tasks > Trial::PROBES {
                stage.probe(batch);
            } else {
                stage.halve(batch);
            }
            drop(stage);
            self.bells.wake_chooser();
        }
        discard(error);
        None
    }
}
