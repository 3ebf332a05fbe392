//! Spares: a second hold on the tensors of tasks that others can run if this device is lost.
//!
//! A thread that is stuck holds its batch for good, so what is to go on without it must lie where others reach it. Kept
//! only for pools that feed several devices.

use super::batch::CutBatch;
use super::directory::Station;
use super::flight::Flight;
use super::shared::Shared;
use crate::contract::answer::reply::Settled;
use crate::contract::batch::Returned;
use crate::contract::device::Device;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::error::task::TaskError;
use crate::contract::task::TaskHeader;
use crate::contract::tensor_ops::TensorOps;
use crate::sync::{discard_all, guarded};

impl<D: Device> Shared<D> {
    /// Keeps the tensors of a batch's tasks at hand, if others can run them, before the device gets them.
    ///
    /// A batch whose thread has not come here yet is left to it by whoever gives the device up: that is noted before the
    /// batches are looked at, and this batch is marked before the loss is looked for, so one of them sees the other.
    pub(crate) fn keep_spares(&self, batch: &CutBatch<D::Tensor>) {
        let flight = &batch.flight;
        // A pool that this runtime has left because of its loss may be one device's alone by now.
        let shares = guarded(|| batch.station.pool.shares()).unwrap_or(false);
        if shares || self.status.loss().is_some() {
            let spares = self.at_work(flight, || self.spares(batch));
            free(flight.keep_spares(spares.unwrap_or_default()));
        }
        flight.pass();
        if let Some(loss) = self.status.loss() {
            Self::hand_over(flight, &batch.station);
            let mut settled = self.settle_unrun(flight, &TaskError::DeviceLost(loss.clone()));
            Settled::deliver_all(&mut settled);
        }
    }

    /// For each task of a batch its tensors once more; `None` if one of them cannot be had.
    fn spares(&self, batch: &CutBatch<D::Tensor>) -> Option<Vec<Vec<D::Tensor>>> {
        let slice = |tensor: &D::Tensor, rows| {
            self.outside.on_device("slice", |device| TensorOps::slice(device, tensor, 0..rows)).ok()
        };
        let task = |(at, header): (usize, &TaskHeader)| {
            batch.columns.iter().map(|column| slice(column.get(at)?, header.rows)).collect()
        };
        batch.headers.iter().enumerate().map(task).collect()
    }

    /// Gives the tasks of a batch to others who can run them.
    pub(crate) fn hand_over(flight: &Flight<D::Tensor>, station: &Station<D::Tensor>) {
        let tasks = flight.take_for_others();
        if tasks.is_empty() {
            return;
        }
        let firsts = |tasks: &[Returned<_>]| tasks.iter().filter(|task| task.header.is_first).count();
        let all = firsts(&tasks);
        // What a pool that panics has in hand answers by itself.
        let left = guarded(|| station.pool.take_back(tasks)).unwrap_or_default();
        station.unrun.went_on(all - firsts(&left));
        flight.give_back(left);
    }

    /// Returns true if a batch is in the hands of a thread that has not [kept its spares](Self::keep_spares) yet, and will
    /// come to it: it is not the one that is stuck.
    pub(crate) fn is_to_pass(
        flight: &Flight<D::Tensor>,
        station: &Station<D::Tensor>,
        loss: &DeviceLoss,
    ) -> bool {
        let may_be_stuck = || matches!(loss, DeviceLoss::Stuck { .. }) && flight.at_work().is_some();
        !flight.has_passed() && !may_be_stuck() && guarded(|| station.pool.shares()).unwrap_or(false)
    }
}

/// Frees tensors, which is code of others.
pub(crate) fn free<T>(spares: Vec<Vec<T>>) {
    spares.into_iter().for_each(discard_all);
}
