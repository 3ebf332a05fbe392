//! What the selector learns of batches, as they come and go. Batches that are too short to gain by it are left out: for
//! them, the lock would cost more.

use super::batch::CutBatch;
use super::shared::Shared;
use crate::contract::device::Device;
use crate::contract::policy::Ran;
use crate::contract::task::TaskHeader;
use std::time::{Duration, Instant};

impl<D: Device> Shared<D> {
    /// Notes that a batch, which is on the device, begins to run.
    #[inline]
    pub(crate) fn begin(&self, batch: &mut CutBatch<D::Tensor>, now: Instant) {
        if let Some(price) = batch.forecast.price {
            let (pool, rows) = (batch.station.id, batch.rows());
            let mut stage = self.stage.lock();
            stage.selector.is_due(std::mem::take(&mut batch.ahead), price);
            stage.selector.gathered(pool, rows, batch.gather);
            stage.selector.began(pool, rows, price, now);
        }
    }

    /// Notes that a batch is over on the device.
    #[inline]
    pub(crate) fn end(
        &self,
        batch: &mut CutBatch<D::Tensor>,
        device: Duration,
        ended: Instant,
        succeeded: bool,
    ) {
        if self.listens || batch.forecast.price.is_some() || device >= self.settings.hand_over {
            let ran = Ran::new(batch.station.id, &batch.headers, batch.forecast.per_row, device, ended)
                .elements(batch.forecast.elements)
                .again(batch.is_again);
            self.stage.lock().selector.ended(&ran, &batch.forecast, succeeded);
            batch.is_told();
        }
    }

    /// Notes that a batch that was to begin does not run after all.
    pub(crate) fn stop(&self, batch: &CutBatch<D::Tensor>) {
        if batch.forecast.price.is_some() {
            self.stage.lock().selector.stopped();
        }
    }

    /// Notes that tasks of a batch that was cut do not run in it: those that are not kept.
    pub(crate) fn leave_out(&self, batch: &CutBatch<D::Tensor>, keep: &[bool]) {
        let left_out = batch.headers.iter().zip(keep).filter(|(_, keep)| !**keep);
        self.do_not_run(batch, left_out.map(|(header, _)| *header));
    }

    /// Notes that a batch that was cut does not run as it is.
    pub(crate) fn leave_out_all(&self, batch: &mut CutBatch<D::Tensor>) {
        self.do_not_run(batch, batch.headers.iter().copied());
        if let Some(price) = batch.forecast.price {
            self.stage.lock().selector.is_due(std::mem::take(&mut batch.ahead), price);
        }
        batch.is_told();
    }

    fn do_not_run(&self, batch: &CutBatch<D::Tensor>, tasks: impl Iterator<Item = TaskHeader>) {
        if self.listens || batch.forecast.price.is_some() {
            let tasks: Vec<_> = tasks.collect();
            let mut stage = self.stage.lock();
            stage.selector.left_out(batch.station.id, &tasks, &batch.forecast, batch.is_again);
        }
    }
}
