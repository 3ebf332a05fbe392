//! Parts of tasks that are too large for one batch: their tensors are cut when it is their turn, outside of all locks.

use super::batch::CutBatch;
use super::shared::Shared;
use crate::contract::answer::reply::Settled;
use crate::contract::batch::Piece;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::Chain;
use crate::contract::error::device::DeviceError;
use crate::contract::error::task::TaskError;
use crate::contract::event::Unrun;
use crate::sync::{discard_all, guarded, log};
use std::sync::Arc;

impl<D: Device> Shared<D> {
    /// Puts the tensors of the batch's pieces into its columns. A task whose piece cannot be cut fails, and leaves the
    /// batch, which may be empty then.
    pub(crate) fn cut_pieces(&self, batch: &mut CutBatch<D::Tensor>) {
        if !batch.pieces.is_empty() {
            self.leave_out_void(batch);
        }
        batch.free_spent();
        if batch.is_cut {
            return;
        }
        batch.is_cut = true;
        let flight = Arc::clone(&batch.flight);
        let failed = self.at_work(&flight, || cut(batch));
        if failed.is_empty() {
            return;
        }
        let mut keep = vec![true; batch.headers.len()];
        for (place, _) in &failed {
            keep[*place] = false;
        }
        self.leave_out(batch, &keep);
        batch.keep_headers(&keep);
        batch.free_spent();
        let mut settled = Vec::new();
        let (left_out, useless) = flight.leave_out(&keep);
        for (task, (_, error)) in left_out.into_iter().zip(&failed) {
            let error = TaskError::Failed(Arc::clone(error));
            settled.extend(task.and_then(|task| task.reply.settle(Err(error))));
        }
        let (station, tasks) = (&batch.station, settled.len());
        station.unrun.count(Unrun::Failed, tasks);
        Settled::deliver_all(&mut settled);
        discard_all(useless);
        if tasks > 0 {
            self.outside.observe(|observer| observer.unrun(station.id, Unrun::Failed, tasks));
        }
        for (_, error) in failed {
            log(|| tracing::warn!(pool = station.pool.name(), error = %Chain(&*error), "task cannot be cut"));
        }
    }

    /// Forgets parts of tasks that have been answered, because another part failed: running them would help nobody.
    fn leave_out_void(&self, batch: &mut CutBatch<D::Tensor>) {
        let Some(keep) = batch.flight.worth_running() else { return };
        self.leave_out(batch, &keep);
        let (left_out, useless) = batch.flight.leave_out(&keep);
        drop(left_out);
        batch.spent.tensors.extend(useless);
        if batch.is_cut { batch.keep(&keep) } else { batch.keep_headers(&keep) }
    }
}

/// Cuts the pieces of a batch, and returns the places and errors of those that cannot be.
fn cut<T>(batch: &mut CutBatch<T>) -> Vec<(usize, Arc<BatchError>)> {
    let operation = "slice";
    let (columns, tasks) = (&mut batch.columns, batch.headers.len());
    let mut failed = Vec::new();
    for Piece { place, rows, slice } in &batch.pieces {
        let place = *place;
        let cut = guarded(|| slice(rows.clone()))
            .map_err(|message| BatchError::Panic { during: operation.to_owned(), message })
            .and_then(|cut| cut.map_err(|source| BatchError::Device { operation, source }));
        let tensors = match cut {
            Ok(tensors) => tensors,
            Err(error) => {
                failed.push((place, Arc::new(error)));
                continue;
            }
        };
        if columns.is_empty() {
            columns.resize_with(tensors.len(), || Vec::with_capacity(tasks));
        }
        if tensors.len() != columns.len() {
            let wrong = format!("task was cut into {} tensors, expected {}", tensors.len(), columns.len());
            discard_all(tensors);
            let source = DeviceError::operation(wrong);
            failed.push((place, Arc::new(BatchError::Device { operation, source })));
            continue;
        }
        for (column, tensor) in columns.iter_mut().zip(tensors) {
            column.insert((place - failed.len()).min(column.len()), tensor);
        }
    }
    failed
}
