//! The senders: bring outputs back, cut them by the tasks' rows, and complete the tickets.

use super::core::{Core, Station};
use super::flight::{Cut, Done};
use crate::device::{Device, Pass};
use crate::error::{BatchError, DeviceError, TaskError};
use crate::event::BatchEvent;
use crate::sync::flume;
use crate::ticket::{Settled, TaskResult};
use smallvec::SmallVec;
use std::time::Instant;

/// Runs until every other holder of the channel's sending end is gone and the channel is empty.
pub(crate) fn sender_loop<D: Device>(core: &Core<D>, outputs: &flume::Receiver<Done<D::Tensor>>) {
    while let Ok(done) = outputs.recv() {
        answer(core, done, core.now());
    }
}

/// Gives a batch to a sender. When all are busy and as much is queued as may be, the calling thread helps:
/// it would only wait otherwise.
pub(crate) fn hand_off<D: Device>(
    core: &Core<D>,
    outputs: &flume::Sender<Done<D::Tensor>>,
    done: Done<D::Tensor>,
) {
    if let Err(flume::TrySendError::Full(done) | flume::TrySendError::Disconnected(done)) =
        outputs.try_send(done)
    {
        answer(core, done, core.now());
    }
}

/// Answers every task of a batch that is over.
pub(crate) fn answer<D: Device>(core: &Core<D>, done: Done<D::Tensor>, begun: Instant) {
    let Done { mut batch, inputs, outputs } = done;
    drop(inputs);
    let Some(station) = core.stations.get(batch.flight.pool.index()) else { return };
    let (batch, error) = match outputs {
        Err(error) => (batch, error),
        Ok(outputs) => {
            let vectors = std::mem::take(&mut batch.vectors);
            match core.at_work(&batch.flight, || scatter(core, station, &batch.rows, outputs, vectors)) {
                Ok(tasks) => {
                    if let Some(trial) = &batch.trial {
                        trial.succeeded();
                    }
                    return settle(core, station, &batch, begun, tasks.into_iter().map(Ok));
                }
                Err(error) => match core.failed(batch, error) {
                    Some(Done { batch, outputs: Err(error), .. }) => (batch, error),
                    _ => return,
                },
            }
        }
    };
    let (pool, tasks, rows) = (station.pool.name(), batch.rows.len(), batch.total_rows());
    tracing::warn!(pool, rows, tasks, %error, "batch failed, going on with the next");
    // A second batch may have met the loss before it has been told to all.
    let error = match core.status.loss() {
        Some(loss) if error.is_fatal() => TaskError::DeviceLost(loss.clone()),
        _ => TaskError::Failed(error),
    };
    settle(core, station, &batch, begun, std::iter::repeat_n(error, tasks).map(Err));
}

/// Gives each task of a batch its result.
fn settle<D: Device>(
    core: &Core<D>,
    station: &Station<D>,
    batch: &Cut<D::Tensor>,
    begun: Instant,
    results: impl Iterator<Item = TaskResult<D::Tensor>>,
) {
    let mut failed = false;
    let mut settled: SmallVec<[_; 1]> = SmallVec::with_capacity(batch.rows.len());
    for (reply, result) in batch.flight.take().zip(results) {
        failed |= result.is_err();
        settled.extend(reply.settle(result));
    }
    core.land(&batch.flight, (!failed).then(|| batch.total_rows()));

    let done = core.now();
    core.observe(|observer| {
        let succeeded = settled.iter().filter(|settled| settled.is_ok()).count();
        observer.batch(&BatchEvent {
            rows: batch.total_rows(),
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            scatter: done.saturating_duration_since(begun),
            done,
            failed,
            tasks_succeeded: succeeded,
            tasks_failed: settled.len() - succeeded,
            ..BatchEvent::new(batch.flight.pool, station.pass, &batch.submitted, batch.left_queue)
        });
    });
    Settled::deliver_all(&mut settled);
}

/// Cuts the outputs of a batch into the outputs of its tasks, which have this many rows, and puts them into the tasks'
/// vectors.
fn scatter<D: Device>(
    core: &Core<D>,
    station: &Station<D>,
    rows: &[usize],
    outputs: Vec<D::Tensor>,
    vectors: Vec<Vec<D::Tensor>>,
) -> Result<SmallVec<[Vec<D::Tensor>; 1]>, BatchError> {
    let info = core.infos.get(station.block);
    let expected = info.and_then(|info| match station.pass {
        Pass::Forward => info.outputs.as_ref().map(|outputs| outputs.tensors().len()),
        Pass::Backward => Some(info.inputs.tensors().len()),
    });
    if let Some(expected) = expected.filter(|&expected| expected != outputs.len()) {
        return Err(BatchError::WrongOutputs { expected, got: outputs.len() });
    }
    let expected = rows.iter().sum();
    for (output, tensor) in outputs.iter().enumerate() {
        let got = core.on_device("describe", |device| device.describe(tensor))?.rows().unwrap_or(0);
        if got != expected {
            return Err(BatchError::WrongRows { output, expected, got });
        }
    }
    let arity = outputs.len();
    let mut tasks: SmallVec<[Vec<D::Tensor>; 1]> = SmallVec::from_vec(vectors);
    tasks.iter_mut().for_each(Vec::clear);
    tasks.resize_with(rows.len(), || Vec::with_capacity(arity));
    for (at, output) in outputs.into_iter().enumerate() {
        let parts = core.on_device("scatter", |device| device.scatter(output, rows))?;
        if parts.len() != tasks.len() {
            return Err(BatchError::Device {
                operation: "scatter",
                source: DeviceError::operation(format!(
                    "device gave {} parts, expected {}",
                    parts.len(),
                    tasks.len()
                )),
            });
        }
        if station.rules.check_finite {
            for part in &parts {
                if !core.on_device("check", |device| device.all_finite(part))? {
                    return Err(BatchError::NotFinite { output: at });
                }
            }
        }
        for (task, part) in tasks.iter_mut().zip(parts) {
            task.push(part);
        }
    }
    Ok(tasks)
}
