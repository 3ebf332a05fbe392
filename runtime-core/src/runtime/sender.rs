//! The senders: bring outputs back, cut them by the tasks' rows, and complete the tickets.

use super::batch::{CutBatch, DoneBatch};
use super::directory::Station;
use super::shared::Shared;
use crate::contract::answer::cell::TaskResult;
use crate::contract::answer::reply::Settled;
use crate::contract::backend::Pass;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::Chain;
use crate::contract::error::device::DeviceError;
use crate::contract::error::task::TaskError;
use crate::contract::event::BatchEvent;
use crate::sync::flume;
use smallvec::SmallVec;
use std::time::Instant;

/// Runs until every other holder of the channel's sending end is gone and the channel is empty.
pub(crate) fn sender_loop<D: Device>(shared: &Shared<D>, outputs: &flume::Receiver<DoneBatch<D::Tensor>>) {
    while let Ok(done) = outputs.recv() {
        answer(shared, done, shared.now());
    }
}

/// Gives a batch to a sender. When all are busy and as much is queued as may be, the calling thread helps:
/// it would only wait otherwise.
pub(crate) fn hand_off<D: Device>(
    shared: &Shared<D>,
    outputs: &flume::Sender<DoneBatch<D::Tensor>>,
    done: DoneBatch<D::Tensor>,
) {
    if let Err(flume::TrySendError::Full(done) | flume::TrySendError::Disconnected(done)) =
        outputs.try_send(done)
    {
        answer(shared, done, shared.now());
    }
}

/// Answers every task of a batch that is over.
pub(crate) fn answer<D: Device>(shared: &Shared<D>, done: DoneBatch<D::Tensor>, begun: Instant) {
    let DoneBatch { mut batch, inputs, outputs } = done;
    drop(inputs);
    let (batch, error) = match outputs {
        Err(error) => (batch, error),
        Ok(outputs) => {
            let vectors = std::mem::take(&mut batch.vectors);
            match shared.at_work(&batch.flight, || scatter(shared, &batch, outputs, vectors)) {
                Ok(tasks) => {
                    if let Some(trial) = &batch.trial {
                        trial.succeeded();
                    }
                    return settle(shared, &batch, begun, tasks.into_iter().map(Ok));
                }
                Err(error) => match shared.failed(batch, error) {
                    Some(DoneBatch { batch, outputs: Err(error), .. }) => (batch, error),
                    _ => return,
                },
            }
        }
    };
    let (pool, tasks, rows) = (batch.station.pool.name(), batch.headers.len(), batch.rows());
    tracing::warn!(pool, rows, tasks, error = %Chain(&*error), "batch failed, going on with the next");
    // A second batch may have met the loss before it has been told to all.
    let error = match shared.status.loss() {
        Some(loss) if error.is_fatal() => TaskError::DeviceLost(loss.clone()),
        _ => TaskError::Failed(error),
    };
    settle(shared, &batch, begun, std::iter::repeat_n(error, tasks).map(Err));
}

/// Gives each task of a batch its result.
fn settle<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    begun: Instant,
    results: impl Iterator<Item = TaskResult<D::Tensor>>,
) {
    let mut failed = false;
    let mut settled: SmallVec<[_; 1]> = SmallVec::with_capacity(batch.headers.len());
    for (reply, result) in batch.flight.take().zip(results) {
        failed |= result.is_err();
        settled.extend(reply.settle(result));
    }
    shared.land(&batch.flight, (!failed).then(|| batch.rows()));

    let done = shared.now();
    shared.outside.observe(|observer| {
        let succeeded = settled.iter().filter(|settled| settled.is_ok()).count();
        observer.batch(&BatchEvent {
            rows: batch.rows(),
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            scatter: done.saturating_duration_since(begun),
            done,
            failed,
            tasks_succeeded: succeeded,
            tasks_failed: settled.len() - succeeded,
            ..BatchEvent::new(batch.station.id, batch.station.pass, &batch.headers, batch.left_queue)
        });
    });
    Settled::deliver_all(&mut settled);
}

/// Cuts the outputs of a batch into the outputs of its tasks, and puts them into the tasks' vectors.
fn scatter<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    outputs: Vec<D::Tensor>,
    vectors: Vec<Vec<D::Tensor>>,
) -> Result<SmallVec<[Vec<D::Tensor>; 1]>, BatchError> {
    check(shared, &batch.station, batch.rows(), &outputs)?;
    let rows: SmallVec<[usize; 1]> = batch.headers.iter().map(|header| header.rows).collect();
    let mut tasks: SmallVec<[Vec<D::Tensor>; 1]> = SmallVec::from_vec(vectors);
    tasks.iter_mut().for_each(Vec::clear);
    tasks.resize_with(rows.len(), || Vec::with_capacity(outputs.len()));
    for (at, output) in outputs.into_iter().enumerate() {
        let pieces = shared.outside.on_device("scatter", |device| device.scatter(output, &rows))?;
        if pieces.len() != tasks.len() {
            let wrong = format!("device gave {} tensors, expected {}", pieces.len(), tasks.len());
            return Err(BatchError::Device { operation: "scatter", source: DeviceError::operation(wrong) });
        }
        if batch.station.rules.check_finite {
            for piece in &pieces {
                if !shared.outside.on_device("check", |device| device.all_finite(piece))? {
                    return Err(BatchError::NotFinite { output: at });
                }
            }
        }
        for (task, piece) in tasks.iter_mut().zip(pieces) {
            task.push(piece);
        }
    }
    Ok(tasks)
}

/// Refuses outputs of another number, or of other rows, than the batch's.
fn check<D: Device>(
    shared: &Shared<D>,
    station: &Station<D::Tensor>,
    rows: usize,
    outputs: &[D::Tensor],
) -> Result<(), BatchError> {
    let expected = match station.pass {
        Pass::Forward => station.info.outputs.as_ref().map(|outputs| outputs.tensors().len()),
        Pass::Backward => Some(station.info.inputs.tensors().len()),
    };
    if let Some(expected) = expected.filter(|&expected| expected != outputs.len()) {
        return Err(BatchError::WrongOutputs { expected, got: outputs.len() });
    }
    for (output, tensor) in outputs.iter().enumerate() {
        let got = shared.outside.on_device("describe", |device| device.describe(tensor))?.rows().unwrap_or(0);
        if got != rows {
            return Err(BatchError::WrongRows { output, expected: rows, got });
        }
    }
    Ok(())
}
