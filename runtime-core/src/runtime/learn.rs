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
    pub(crate) fn begin(&self, batch: &CutBatch<D::Tensor>, now: Instant) {
        if let Some(price) = batch.forecast.price {
            let (pool, rows) = (batch.station.id, batch.rows());
            let mut stage = self.stage.lock();
            stage.selector.gathered(pool, rows, batch.gather);
            stage.selector.began(pool, rows, price, now);
        }
    }

    /// Notes that a batch is over on the device.
    #[inline]
    pub(crate) fn end(&self, batch: &CutBatch<D::Tensor>, device: Duration, ended: Instant, succeeded: bool) {
        if self.listens || batch.forecast.price.is_some() || device >= self.settings.hand_over {
            let ran = Ran::new(batch.station.id, &batch.headers, batch.forecast.per_row, device, ended);
            self.stage.lock().selector.ended(&ran, &batch.forecast, succeeded);
        }
    }

    /// Notes that a batch that was to begin does not run after all.
    pub(crate) fn stop(&self, batch: &CutBatch<D::Tensor>) {
        if batch.forecast.price.is_some() {
            self.stage.lock().selector.stopped();
        }
    }

    /// Notes that tasks of a batch that was cut do not run in it.
    pub(crate) fn leave_out(&self, batch: &CutBatch<D::Tensor>, tasks: impl Iterator<Item = TaskHeader>) {
        if self.listens || batch.forecast.price.is_some() {
            let tasks: Vec<_> = tasks.collect();
            self.stage.lock().selector.left_out(batch.station.id, &tasks, &batch.forecast);
        }
    }
}
