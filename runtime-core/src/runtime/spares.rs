//! Spares: a second hold on the tensors of tasks that others can run if this device is lost.
//!
//! A thread that is stuck holds its batch for good, so what is to go on without it must lie where others reach it: with
//! the batch's [flight](super::flight). Only batches of pools that feed several devices have any.

use super::batch::CutBatch;
use super::flight::{Flight, Open, Taken};
use super::shared::Shared;
use crate::contract::answer::reply::{Reply, Settled};
use crate::contract::batch::{BatchTask, Returned};
use crate::contract::device::Device;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::error::task::TaskError;
use crate::contract::id::PoolId;
use crate::contract::task::TaskHeader;
use crate::contract::tensor_ops::TensorOps;
use crate::sync::{discard_all, guarded};

impl<D: Device> Shared<D> {
    /// Lays down spares for a batch before the device gets its tensors. Returns true if the device was lost meanwhile: then
    /// the batch was left to this thread, and its tasks go on or are answered.
    pub(crate) fn keep_spares(&self, batch: &CutBatch<D::Tensor>) -> bool {
        if !batch.flight.needs_spares() {
            return false;
        }
        let (is_lost, useless) = batch.flight.lay_down(self.spares(batch));
        free(useless);
        if is_lost && let Some(loss) = self.status.loss() {
            self.lose_batch(&batch.flight, loss);
        }
        is_lost
    }

    /// For each task of a batch its tensors once more; none of one that is not to go on, or of which they cannot be had.
    /// No work of the device's, and so not watched.
    fn spares(&self, batch: &CutBatch<D::Tensor>) -> Vec<Vec<D::Tensor>> {
        let slice = |tensor: &D::Tensor, rows| {
            self.outside.on_device("slice", |device| TensorOps::slice(device, tensor, 0..rows)).ok()
        };
        let task = |(at, header): (usize, &TaskHeader)| {
            if header.is_again {
                return Vec::new();
            }
            let tensors = batch.columns.iter().map(|column| slice(column.get(at)?, header.rows));
            tensors.collect::<Option<_>>().unwrap_or_default()
        };
        batch.headers.iter().enumerate().map(task).collect()
    }

    /// Sees to the tasks of a batch that has met the loss of the device, if nobody has.
    pub(crate) fn lose_batch(&self, flight: &Flight<D::Tensor>, loss: &DeviceLoss) {
        let (mut settled, useless) = self.pass_on(flight.pool, flight.take_open(), loss);
        settled.extend(flight.take_held_back());
        Settled::deliver_all(&mut settled);
        discard_all(useless);
    }

    /// Decides on tasks whose device is lost, which were taken out of their flight: they go back to their pool for others
    /// to run, each of them once, or are answered with the loss. Returns these answers, and tensors to be freed.
    pub(crate) fn pass_on(
        &self,
        pool: PoolId,
        taken: Taken<D::Tensor>,
        loss: &DeviceLoss,
    ) -> (Vec<Settled<D::Tensor>>, Vec<D::Tensor>) {
        let Taken { open, mut useless, started, .. } = taken;
        let (mut go_on, mut end): (_, Vec<Reply<_>>) = (Vec::new(), Vec::new());
        for (task, spare) in open {
            if spare.is_empty() || task.header.is_again {
                useless.extend(spare);
                end.push(task.reply);
            } else {
                go_on.push(returned((task, spare), started));
            }
        }
        let station = self.stage.lock().directory.station(pool).cloned();
        if !go_on.is_empty()
            && let Some(station) = station
        {
            // What a pool that panics has in hand answers by itself.
            for Returned { reply, inputs, .. } in
                guarded(|| station.pool.take_back(go_on)).unwrap_or_default()
            {
                useless.extend(inputs);
                end.push(reply);
            }
        }
        let error = TaskError::DeviceLost(loss.clone());
        (self.settle_replies(pool, end.into_iter(), &error), useless)
    }
}

/// A task as its pool gets it back. One that has begun to run does not expire any more.
fn returned<T>((task, inputs): Open<T>, started: bool) -> Returned<T> {
    let BatchTask { mut header, reply } = task;
    header.deadline = header.deadline.filter(|_| !started);
    Returned::new(header, reply, inputs)
}

/// Frees tensors, which is code of others.
pub(crate) fn free<T>(spares: Vec<Vec<T>>) {
    spares.into_iter().for_each(discard_all);
}
