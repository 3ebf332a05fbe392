//! The senders: bring outputs back, cut them by the tasks' rows, and complete the tickets.

use super::core::Core;
use super::flight::{Done, Loaded};
use crate::device::{Device, Pass};
use crate::error::{BatchError, DeviceError, TaskError};
use crate::event::BatchEvent;
use crate::sync::flume;
use crate::ticket::TaskResult;
use std::sync::Arc;

/// Runs until every other holder of the channel's sending end is gone and the channel is empty.
pub(crate) fn sender_loop<D: Device>(core: &Core<D>, outputs: &flume::Receiver<Done<D::Tensor>>) {
    while let Ok(done) = outputs.recv() {
        answer(core, done);
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
        answer(core, done);
    }
}

/// Answers every task of a batch that is over.
pub(crate) fn answer<D: Device>(core: &Core<D>, done: Done<D::Tensor>) {
    let begun = core.now();
    let Done { mut batch, device, outputs } = done;
    batch.inputs.clear();
    let pool = batch.flight.pool;
    let pass = core.stations.get(pool.index()).map_or(Pass::Forward, |station| station.pass);
    let parts = outputs.and_then(|outputs| scatter(core, &batch, pass, outputs));
    let failed = parts.is_err();
    if let Err(error) = &parts {
        let pool = core.stations.get(pool.index()).map_or("", |station| station.pool.name());
        let (rows, tasks) = (batch.total_rows(), batch.rows.len());
        tracing::warn!(pool, rows, tasks, %error, "batch failed, going on with the next");
    }
    let mut results = results(parts, batch.rows.len());

    let replies = batch.flight.take();
    let mut settled = Vec::with_capacity(replies.len());
    settled.extend(replies.into_iter().filter_map(|reply| reply.settle(results.next()?)));
    core.land(&batch.flight);

    let done = core.now();
    core.observe(|observer| {
        let succeeded = settled.iter().filter(|settled| settled.is_ok()).count();
        observer.batch(&BatchEvent {
            pool,
            pass,
            rows: batch.total_rows(),
            submitted: &batch.submitted,
            cut: batch.cut,
            gather: batch.gather,
            device,
            scatter: done.saturating_duration_since(begun),
            done,
            failed,
            tasks_succeeded: succeeded,
            tasks_failed: settled.len() - succeeded,
        });
    });
    for task in settled {
        task.deliver();
    }
}

/// One result per task: its outputs, or the error that they all share.
fn results<T>(parts: Result<Vec<Vec<T>>, BatchError>, tasks: usize) -> impl Iterator<Item = TaskResult<T>> {
    let (parts, error) = match parts {
        Ok(parts) => (parts, None),
        Err(error) => (Vec::new(), Some(Arc::new(error))),
    };
    let errors = error.map(|error| std::iter::repeat_n(TaskError::Failed(error), tasks).map(Err));
    parts.into_iter().map(Ok).chain(errors.into_iter().flatten())
}

/// Cuts the outputs of a batch into the outputs of its tasks.
fn scatter<D: Device>(
    core: &Core<D>,
    batch: &Loaded<D::Tensor>,
    pass: Pass,
    outputs: Vec<D::Tensor>,
) -> Result<Vec<Vec<D::Tensor>>, BatchError> {
    let station = &core.stations[batch.flight.pool.index()];
    let info = core.infos.get(station.block);
    let expected = info.and_then(|info| match pass {
        Pass::Forward => info.outputs.as_ref().map(|outputs| outputs.tensors().len()),
        Pass::Backward => Some(info.inputs.tensors().len()),
    });
    if let Some(expected) = expected.filter(|&expected| expected != outputs.len()) {
        return Err(BatchError::WrongOutputs { expected, got: outputs.len() });
    }
    let expected = batch.total_rows();
    for (output, tensor) in outputs.iter().enumerate() {
        let got = core.on_device("describe", |device| device.describe(tensor))?.rows().unwrap_or(0);
        if got != expected {
            return Err(BatchError::WrongRows { output, expected, got });
        }
    }
    let arity = outputs.len();
    let mut tasks: Vec<Vec<D::Tensor>> = batch.rows.iter().map(|_| Vec::with_capacity(arity)).collect();
    for output in outputs {
        let parts = core.on_device("scatter", |device| device.scatter(output, &batch.rows))?;
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
        for (task, part) in tasks.iter_mut().zip(parts) {
            task.push(part);
        }
    }
    Ok(tasks)
}
