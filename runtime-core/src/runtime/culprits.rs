//! The fate of a batch whose block says which rows are the cause, and that it is as it was before.

use super::batch::{CutBatch, DoneBatch, Joined};
use super::shared::Shared;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::of_rows::OfRows;
use crate::contract::event::BatchEvent;
use crate::contract::pool::Shutdown;
use crate::contract::task::TaskHeader;
use crate::sync::guarded;
use std::sync::Arc;

/// What comes of looking for culprits.
pub(crate) enum Parted<T> {
    /// Those are to be answered with their error; the others, if there are any, are filed to run again.
    Culprits(DoneBatch<T>),
    /// Nobody knows them.
    Unknown(Box<CutBatch<T>>, BatchError),
}

impl<D: Device> Shared<D> {
    /// Parts the tasks at fault from the others, if the block has told them.
    pub(crate) fn part_culprits(
        &self,
        batch: Box<CutBatch<D::Tensor>>,
        error: BatchError,
    ) -> Parted<D::Tensor> {
        let rerun = batch.station.rules.rerun;
        let (block, source) = match error {
            BatchError::Block { block, source } if rerun => (block, source),
            other => return Parted::Unknown(batch, other),
        };
        let rows = guarded(|| OfRows::find(&*source).map(|error| error.rows().to_vec())).ok().flatten();
        let at_fault = rows.map(|rows| tasks_of(&batch.headers, &rows)).filter(|tasks| tasks.contains(&true));
        let Some(at_fault) = at_fault else {
            return Parted::Unknown(batch, BatchError::Block { block, source });
        };
        let error = Arc::new(BatchError::Culprit { block, source });
        if batch.device.is_some() && batch.forecast.price.is_some() {
            self.stage.lock().selector.unanswered(batch.station.id, batch.rows());
        }
        if !at_fault.contains(&false) {
            return Parted::Culprits(DoneBatch { batch, inputs: Joined::new(), outputs: Err(error) });
        }
        let event = BatchEvent {
            rows: batch.rows(),
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            forecast: batch.forecast,
            failed: true,
            taken_apart: true,
            training: batch.training,
            done: self.now(),
            ..BatchEvent::new(batch.station.id, batch.station.pass, &[], batch.left_queue)
        };
        // Who has the answer of a part finds this batch counted.
        self.outside.observe(|observer| observer.batch(&event));
        let mut stage = self.stage.lock();
        stage.forget(&batch.flight);
        let [culprits, others] = batch.part(&at_fault);
        stage.flights.push(Arc::clone(&culprits.flight));
        if others.headers.is_empty() {
            drop(stage);
            others.free();
        } else if stage.stop == Some(Shutdown::Abort) {
            drop(stage);
            self.give_up(&others.flight);
            others.free();
        } else {
            stage.file(others);
            drop(stage);
            self.bells.wake_chooser();
        }
        Parted::Culprits(DoneBatch { batch: culprits, inputs: Joined::new(), outputs: Err(error) })
    }
}

/// For each task, whether one of these rows is its own.
fn tasks_of(headers: &[TaskHeader], rows: &[usize]) -> Vec<bool> {
    let mut first = 0;
    let is_at_fault = |header: &TaskHeader| {
        let own = first..first + header.rows;
        first = own.end;
        rows.iter().any(|row| own.contains(row))
    };
    headers.iter().map(is_at_fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn rows_are_those_of_the_tasks_they_lie_in() {
        let headers = [2, 1, 3].map(|rows| TaskHeader::new(rows, Instant::now()));
        assert_eq!(tasks_of(&headers, &[0]), [true, false, false]);
        assert_eq!(tasks_of(&headers, &[1, 3]), [true, false, true]);
        assert_eq!(tasks_of(&headers, &[2, 5]), [false, true, true]);
        assert_eq!(tasks_of(&headers, &[6]), [false; 3], "rows that there are not");
    }
}
