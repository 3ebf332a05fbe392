//! The senders: bring outputs back, cut them by the tasks' rows, and complete the tickets.

use super::batch::{CutBatch, DoneBatch};
use super::directory::Gives;
use super::shared::Shared;
use super::spares::free;
use super::verify::log_verified;
use crate::contract::answer::cell::TaskResult;
use crate::contract::answer::reply::Settled;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::Chain;
use crate::contract::error::task::TaskError;
use crate::contract::event::BatchEvent;
use crate::contract::verify::Verified;
use crate::sync::atomic::Ordering;
use crate::sync::{discard, discard_all, flume, guarded, log};
use smallvec::SmallVec;
use std::sync::Arc;
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

/// Answers every task of a batch that is over. What is code of others comes after the answers: the log, and the `Drop`
/// of tensors and errors.
pub(crate) fn answer<D: Device>(shared: &Shared<D>, done: DoneBatch<D::Tensor>, begun: Instant) {
    let DoneBatch { mut batch, inputs, outputs } = done;
    let (batch, error) = match outputs {
        Err(error) => (batch, Some(error)),
        Ok(outputs) => {
            let (vectors, alone) = (std::mem::take(&mut batch.vectors), batch.alone.take());
            let scattered = shared.at_work(&batch.flight, || {
                guarded(|| scatter(shared, &batch, outputs, vectors)).unwrap_or_else(|message| {
                    Err(BatchError::Panic { during: "scatter".to_owned(), message })
                })
            });
            match scattered {
                Ok(tasks) => {
                    if let Some(trial) = &batch.trial {
                        trial.succeeded();
                    }
                    let verified = alone.map(|alone| shared.compare(&batch, alone, &tasks));
                    let found = verified.as_ref().map(|(verified, _)| *verified);
                    settle(shared, &batch, begun, found, true, tasks.into_iter().map(Ok));
                    explain(&batch);
                    if let Some((verified, error)) = verified {
                        log_verified(&batch, verified, error);
                    }
                    (batch, None)
                }
                Err(error) => {
                    discard(alone);
                    match shared.failed(batch, error) {
                        Some(DoneBatch { batch, outputs: Err(error), .. }) => (batch, Some(error)),
                        _ => return discard_all(inputs),
                    }
                }
            }
        }
    };
    if let Some(error) = error {
        fail(shared, &batch, begun, error);
    }
    if batch.flight.is_shared() {
        free(batch.flight.take_spares());
    }
    discard_all(inputs);
    batch.free();
}

/// Answers every task of a batch with its error.
fn fail<D: Device>(shared: &Shared<D>, batch: &CutBatch<D::Tensor>, begun: Instant, error: Arc<BatchError>) {
    let tasks = batch.headers.len();
    // If that was the loss of the device, none of its tasks is here any more.
    let answer = TaskError::Failed(Arc::clone(&error));
    settle(shared, batch, begun, None, false, std::iter::repeat_n(answer, tasks).map(Err));
    log(|| {
        let (pool, rows) = (batch.station.pool.name(), batch.rows());
        tracing::warn!(pool, rows, tasks, error = %Chain(&*error), "batch failed, going on with the next");
    });
    discard(error);
}

/// Tells who listens why a batch was cut as it was, and how well it was foreseen.
fn explain<T>(batch: &CutBatch<T>) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        log(|| {
            let (forecast, pool, rows) = (&batch.forecast, batch.station.pool.name(), batch.rows());
            let (reason, put_off, elements, padding) =
                (forecast.reason.name(), forecast.put_off, forecast.elements, forecast.padding);
            let predicted = forecast.price.map(|price| price.of(rows));
            let (tasks, device) = (batch.headers.len(), batch.device.unwrap_or_default());
            let mut flows: SmallVec<[u32; 8]> = batch.headers.iter().map(|header| header.flow.0).collect();
            flows.sort_unstable();
            flows.dedup();
            tracing::debug!(
                pool,
                rows,
                tasks,
                reason,
                ?put_off,
                elements,
                padding,
                ?flows,
                ?predicted,
                ?device,
                "batch ran"
            );
        });
    }
}

/// Gives each task of a batch its result.
fn settle<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    begun: Instant,
    verified: Option<Verified>,
    succeeded: bool,
    results: impl Iterator<Item = TaskResult<D::Tensor>>,
) {
    let (mut settled, [tasks_succeeded, tasks_failed]) = if batch.has_parts() {
        let counted = settle_parts(shared, batch, results);
        (batch.flight.take_held_back(), counted)
    } else {
        settle_whole(batch, results)
    };
    if shared.outside.observer.is_some() {
        // Who has an answer finds it counted; but an observer may hang.
        batch.flight.hold_back(settled);
        let done = shared.now();
        // Tasks that have gone on with another device are over there.
        let went_on = tasks_succeeded + tasks_failed == 0 && shared.status.loss().is_some();
        let tasks = if went_on { &[] } else { &batch.headers[..] };
        shared.outside.observe(|observer| {
            observer.batch(&BatchEvent {
                rows: batch.rows(),
                gather: batch.gather,
                device: batch.device.unwrap_or_default(),
                forecast: batch.forecast,
                scatter: done.saturating_duration_since(begun),
                done,
                failed: !succeeded,
                tasks_succeeded,
                tasks_failed,
                training: batch.training,
                verified,
                ..BatchEvent::new(batch.station.id, batch.station.pass, tasks, batch.left_queue)
            });
        });
        settled = batch.flight.take_held_back();
    }
    let in_question = shared.in_question.load(Ordering::SeqCst);
    if succeeded && (in_question || batch.forecast.price.is_some()) {
        let answered = batch.forecast.price.map(|_| shared.now());
        // The next batch is judged by it: who has an answer may hand in the next task.
        let (mut stage, rows) = (shared.stage.lock(), batch.rows());
        if in_question {
            let in_question = stage.fitted(batch.station.id, rows);
            shared.in_question.store(in_question, Ordering::SeqCst);
        }
        if let Some(at) = answered {
            stage.selector.answered(batch.station.id, rows, at);
        }
    }
    Settled::deliver_all(&mut settled);
    shared.land(&batch.flight);
}

/// Answers, and how many of them are outputs and errors.
type Answers<T> = (SmallVec<[Settled<T>; 1]>, [usize; 2]);

/// Settles the tasks of a batch.
fn settle_whole<T>(batch: &CutBatch<T>, results: impl Iterator<Item = TaskResult<T>>) -> Answers<T> {
    let mut settled: SmallVec<[_; 1]> = SmallVec::with_capacity(batch.headers.len());
    let mut succeeded = 0;
    for (reply, result) in batch.flight.take().zip(results) {
        // Pushed, because extending by an option costs more than all the rest: measured.
        if let Some(answer) = reply.settle(result) {
            succeeded += usize::from(answer.is_ok());
            settled.push(answer);
        }
    }
    let failed = settled.len() - succeeded;
    (settled, [succeeded, failed])
}

/// Settles the tasks of a batch of which some are parts of larger ones. Joining the outputs of those is code of others, so
/// each reply stays where a shutdown, or the loss of the device, can reach it until its answer is known.
fn settle_parts<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    results: impl Iterator<Item = TaskResult<D::Tensor>>,
) -> [usize; 2] {
    let flight = &batch.flight;
    let mut counted = [0; 2];
    let (parts, useless) = flight.parts();
    for ((at, part), result) in parts.into_iter().zip(results) {
        let result = match (part, result) {
            (Some(part), Ok(outputs)) => shared.at_work(flight, || part.put(outputs)),
            (_, result) => Some(result),
        };
        let is_error = result.as_ref().is_some_and(Result::is_err);
        if flight.settle_at(at, |reply| reply.settle_whole(result)) {
            counted[usize::from(is_error)] += 1;
        }
    }
    free(useless);
    counted
}

/// Cuts the outputs of a batch into the outputs of its tasks, and puts them into the tasks' vectors.
fn scatter<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    outputs: Vec<D::Tensor>,
    vectors: Vec<Vec<D::Tensor>>,
) -> Result<SmallVec<[Vec<D::Tensor>; 1]>, BatchError> {
    check(shared, batch, &outputs)?;
    let count = batch.headers.len();
    let mut tasks: SmallVec<[Vec<D::Tensor>; 1]> = SmallVec::from_vec(vectors);
    tasks.iter_mut().for_each(Vec::clear);
    let is_one = count == 1 && outputs.len() == 1;
    if tasks.len() != count && !is_one {
        tasks.resize_with(count, || Vec::with_capacity(outputs.len()));
    }
    for (at, output) in outputs.into_iter().enumerate() {
        let pieces = shared.scatter_to(batch, at, 0..count, output, &batch.spans(at, 0..count))?;
        let pieces = shared.cut_back(batch, at, pieces)?;
        if batch.station.rules.check_finite {
            for piece in &pieces {
                if !shared.outside.on_device("check", |device| device.all_finite(piece))? {
                    return Err(BatchError::NotFinite { output: name_of(batch.station.gives(), at) });
                }
            }
        }
        if is_one {
            // The piece of the only task is all of its outputs.
            return Ok(SmallVec::from_buf([pieces]));
        }
        for (task, piece) in tasks.iter_mut().zip(pieces) {
            task.push(piece);
        }
    }
    Ok(tasks)
}

/// Refuses outputs that are not what the block's schema says: their number, element types, fixed dims, and rows.
fn check<D: Device>(
    shared: &Shared<D>,
    batch: &CutBatch<D::Tensor>,
    outputs: &[D::Tensor],
) -> Result<(), BatchError> {
    let (promised, rows) = (batch.station.gives(), batch.rows());
    if let Some(expected) = promised.map(Gives::count).filter(|&n| n != outputs.len()) {
        return Err(BatchError::WrongOutputs { expected, got: outputs.len() });
    }
    for (at, tensor) in outputs.iter().enumerate() {
        let got = shared.outside.on_device("describe", |device| device.describe(tensor))?;
        let spec = promised.and_then(|promised| promised.get(at));
        if let Some(spec) = spec.filter(|_| batch.is_laid(at)) {
            let elements = batch.spans(at, 0..batch.headers.len()).iter().sum::<usize>();
            if got.rows() != Some(elements) || !spec.is_kept_end_to_end_by(&got) {
                let expected = format!("{elements} elements laid end to end, of {spec}");
                let (output, got) = (spec.name().to_owned(), got.to_string());
                return Err(BatchError::WrongOutput { output, expected, got });
            }
            continue;
        }
        if got.rows() != Some(rows) {
            let (output, got) = (name_of(promised, at), got.rows().unwrap_or(0));
            return Err(BatchError::WrongRows { output, expected: rows, got });
        }
        if let Some(spec) = spec.filter(|spec| !spec.is_kept_by(&got)) {
            let (output, expected, got) = (spec.name().to_owned(), spec.to_string(), got.to_string());
            return Err(BatchError::WrongOutput { output, expected, got });
        }
    }
    Ok(())
}

/// The name of an output, or its position if the block's outputs have no names.
fn name_of(promised: Option<Gives<'_>>, at: usize) -> String {
    let spec = promised.and_then(|promised| promised.get(at));
    spec.map_or_else(|| at.to_string(), |spec| spec.name().to_owned())
}
