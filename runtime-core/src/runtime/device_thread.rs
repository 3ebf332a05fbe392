//! The device thread: takes the next batch, runs it, passes its outputs on.
//!
//! It chooses and gathers by itself while nothing has been gathered ahead, so a lone task on an idle
//! runtime crosses two threads in all. Other threads join in when that pays: the loader while a batch runs
//! that takes longer than waking a thread does, the senders when outputs must be copied back or another
//! batch is there to run.

use super::batch::{CutBatch, DoneBatch, GatheredBatch};
use super::blocks::Blocks;
use super::choose::Cut;
use super::directory::Station;
use super::gather::Outcome;
use super::park::Nap;
use super::sender::{answer, hand_off};
use super::shared::{Now, Shared};
use super::work::Job;
use crate::contract::backend::{Backend, Pass};
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::BoxError;
use crate::contract::pool::Shutdown;
use crate::policy::cost::Costs;
use crate::policy::overlap::{answer_here, overlap_pays};
use crate::sync::spin::Spin;
use crate::sync::{discard, discard_all, flume, guarded, thread};
use std::time::Instant;

/// The device thread's next step.
enum Next<T> {
    /// Run a batch that was gathered ahead.
    Run(GatheredBatch<T>),
    /// Gather a batch, then run it.
    Gather(Box<CutBatch<T>>),
    /// There is nothing to do until a pool rings that has not been heard yet. So many have.
    Idle(usize),
    /// Sleep until woken.
    Sleep,
    /// Sleep until woken, or until a pool wants to be looked at. So many rings have been heard.
    SleepUntil(Instant, usize),
    /// Decide again: code of others has run since, and may have eaten a wake-up.
    Again,
    /// Everything is done.
    Stop,
}

/// Runs until the runtime is stopped.
pub(crate) fn device_loop<D: Device>(
    shared: &Shared<D>,
    blocks: &mut Blocks<D>,
    outputs: &flume::Sender<DoneBatch<D::Tensor>>,
) {
    let mut costs = Costs::default();
    let mut spin = Spin::new();
    // The rings that had been heard when there was nothing to do the last time.
    let mut idle = None;
    let mut nap = Nap::default();
    loop {
        // One at most between two batches, so that work with blocks holds up none of them for long.
        if let Some(job) = shared.work.pop() {
            shared.at_work_with_blocks(|| match job {
                Job::With(work) => drop(guarded(|| work(blocks))),
                Job::On(block, work) => shared.work_on(blocks, block, work),
                Job::WarmUp { block, rows, first, reply } => {
                    reply.send(shared.warm_up(blocks, block, rows, first)).ok();
                }
                Job::TakeOut(block) => shared.take_out(blocks, block),
                Job::PutOut(block) => shared.put_out(blocks, block),
                Job::Swap { block, body, goods, bytes, reply } => {
                    let swapped = shared.swap(blocks, block, body, (goods, bytes));
                    if let Err(flume::SendError(swapped)) = reply.send(swapped) {
                        discard(swapped.left);
                    }
                }
                Job::PutIn { block, body, version, reply } => {
                    let refused = shared.take_in(blocks, block, body, version);
                    if let Err(flume::SendError(refused)) = reply.send(refused) {
                        discard(refused);
                    }
                }
            });
        }
        let (next, more) = next(shared);
        let (mut gathered, now) = match next {
            Next::Run(gathered) => (gathered, shared.now()),
            Next::Gather(cut) => match shared.gather(cut) {
                Outcome::Gathered(gathered) => {
                    let now = gathered.batch.chosen + gathered.batch.gather;
                    (gathered, now)
                }
                Outcome::Failed(failed) => {
                    hand_off(shared, outputs, failed);
                    continue;
                }
                Outcome::TakenApart => continue,
            },
            Next::Idle(heard) => {
                let news = || shared.bells.rung() != heard || shared.work.are_waiting();
                // A ring that is counted and not sent yet looks like news, again and again.
                if idle.replace(heard) == Some(heard) || !spin.until(shared.settings.spin, news) {
                    thread::park();
                }
                continue;
            }
            Next::Sleep => {
                thread::park();
                continue;
            }
            Next::SleepUntil(until, heard) => {
                // A pool or a clock may have eaten the wake-up of a ring that has come since; one that is counted and
                // not sent yet brings its own.
                if shared.bells.rung() == heard || idle.replace(heard) == Some(heard) {
                    nap.sleep(&*shared.outside.clock, until);
                }
                continue;
            }
            Next::Again => continue,
            Next::Stop => return,
        };

        shared.begin(&mut gathered.batch, now);
        let overlap = overlap_pays(costs.of(gathered.batch.station.id), shared.settings.hand_over);
        let prefetch = overlap && shared.settings.prefetch > 0;
        if prefetch {
            shared.bells.let_loader_choose(true);
            if more {
                shared.bells.wake_loader();
            }
        }
        let done = run(shared, blocks, gathered, now, &mut costs);
        if prefetch {
            shared.bells.let_loader_choose(false);
        }

        let Some((done, ended)) = done else { continue };
        let readable = done.outputs.is_ok() && shared.outside.device.is_host();
        if answer_here(readable, || overlap && (more || has_more(shared))) {
            answer(shared, done, ended);
        } else {
            hand_off(shared, outputs, done);
        }
    }
}

/// Decides on the next step, and returns true beside it if there would be something to do after that.
fn next<D: Device>(shared: &Shared<D>) -> (Next<D::Tensor>, bool) {
    let (mut useless, mut aborted) = (Vec::new(), Vec::new());
    let (next, more) = decide(shared, &mut useless, &mut aborted);
    if matches!(next, Next::Idle(_) | Next::SleepUntil(..)) {
        // A task that was cancelled may have been the last of a drain.
        shared.stir();
    }
    if useless.is_empty() && aborted.is_empty() {
        return (next, more);
    }
    discard_all(useless);
    for gathered in aborted {
        shared.give_up(&gathered.batch.flight);
        discard_all(gathered.inputs);
        gathered.batch.free();
    }
    match next {
        Next::Idle(_) | Next::Sleep | Next::SleepUntil(..) => (Next::Again, false),
        next => (next, more),
    }
}

/// Decides under the stage's lock. What is to be given up and freed once it is released goes to `aborted` and `useless`.
fn decide<D: Device>(
    shared: &Shared<D>,
    useless: &mut Vec<D::Tensor>,
    aborted: &mut Vec<GatheredBatch<D::Tensor>>,
) -> (Next<D::Tensor>, bool) {
    let now = Now::new(|| shared.now());
    let mut stage = shared.stage.lock();
    if stage.stop == Some(Shutdown::Abort) {
        aborted.extend(stage.take_unstarted());
        let ended = stage.closed && stage.gathering == 0;
        return (if ended { Next::Stop } else { Next::Sleep }, false);
    }
    if let Some(gathered) = stage.take_gathered(useless) {
        // Something may have become ready while nobody was asked to choose.
        shared.refresh(&mut stage, &now);
        return (Next::Run(gathered), stage.has_work());
    }
    if stage.gathering > 0 {
        // The loader has the more urgent batch in hand and wakes this thread with it. Cutting another one
        // meanwhile would let it overtake.
        return (Next::Sleep, false);
    }
    let later = match shared.cut(&mut stage, &now) {
        Cut::Batch(cut) => return (Next::Gather(cut), stage.has_work()),
        Cut::Later(time) => Some(time),
        Cut::UntilFree | Cut::Nothing => None,
    };
    // A batch that is with the senders may fail there, and come back in halves.
    if stage.closed && stage.flights.is_empty() && !shared.owes(&mut stage, &now) {
        return (Next::Stop, false);
    }
    if shared.work.are_waiting() {
        return (Next::Again, false);
    }
    let look = stage.selector.next_look().map(|(time, _)| time);
    match later.into_iter().chain(look).min() {
        Some(time) => (Next::SleepUntil(time, stage.heard), false),
        None => (Next::Idle(stage.heard), false),
    }
}

fn has_more<D: Device>(shared: &Shared<D>) -> bool {
    let stage = shared.stage.lock();
    stage.heard != shared.bells.rung()
        || !stage.gathered.is_empty()
        || stage.gathering > 0
        || stage.has_work()
}

/// Runs a batch, and returns it with the time at which it was over. `None` if there is nothing to answer yet: all of
/// its tasks had expired, or it failed and runs again in halves.
fn run<D: Device>(
    shared: &Shared<D>,
    blocks: &mut Blocks<D>,
    gathered: GatheredBatch<D::Tensor>,
    mut started: Instant,
    costs: &mut Costs,
) -> Option<(DoneBatch<D::Tensor>, Instant)> {
    let GatheredBatch { mut batch, mut inputs } = gathered;
    if shared.status.loss().is_some() && !batch.flight.is_open() {
        // The gather took too long, or another thread has met the loss: its tasks are others' now, or answered.
        shared.stop(&batch);
        shared.land(&batch.flight);
        discard_all(inputs);
        batch.free();
        return None;
    }
    let (expired, keep) = batch.flight.start(batch.headers.len(), started);
    if let Some(keep) = keep {
        shared.leave_out(&batch, &keep);
        shared.answer_expired(&batch.station, expired, started);
        batch.keep(&keep);
        batch.free_spent();
        if batch.headers.is_empty() {
            shared.stop(&batch);
            shared.land(&batch.flight);
            discard_all(inputs);
            batch.free();
            return None;
        }
        match shared.at_work(&batch.flight, || shared.gather_inputs(&batch)) {
            Ok((rest, laid)) => {
                batch.laid(laid);
                discard_all(std::mem::replace(&mut inputs, rest));
            }
            Err(error) => {
                shared.stop(&batch);
                return shared.failed(batch, error).map(|done| (done, shared.now()));
            }
        }
        started = shared.now();
    }
    let station = &*batch.station;
    let run = || {
        let outputs = match blocks.get_mut(station.block.slot) {
            Some(block) => call(station, block.as_mut(), &inputs),
            None => Err(block_error(station, "block is missing".into())),
        }?;
        match shared.outside.on_device("synchronize", Device::synchronize) {
            Ok(()) => Ok(outputs),
            Err(error) => {
                discard_all(outputs);
                Err(error)
            }
        }
    };
    let outputs = shared.at_work(&batch.flight, run);
    let mut ended = shared.now();
    let training = match station.pass {
        Pass::Forward => None,
        Pass::Backward => {
            blocks.get_mut(station.block.slot).and_then(|block| guarded(|| block.training()).ok()?)
        }
    };
    let device = ended.saturating_duration_since(started);
    costs.note(station.id, device);
    batch.device = Some(device);
    batch.training = training;
    shared.end(&mut batch, device, ended, outputs.is_ok());
    let done = match outputs {
        Ok(outputs) => {
            batch.alone = shared.run_alone(blocks, &batch);
            if batch.alone.is_some() {
                ended = shared.now();
            }
            Some(DoneBatch { batch, inputs, outputs: Ok(outputs) })
        }
        Err(error) => {
            discard_all(inputs);
            shared.failed(batch, error)
        }
    };
    done.map(|done| (done, ended))
}

fn call<D: Device>(
    station: &Station<D::Tensor>,
    block: &mut dyn Backend<D>,
    inputs: &[D::Tensor],
) -> Result<Vec<D::Tensor>, BatchError> {
    let result = guarded(|| match station.pass {
        Pass::Forward => block.forward(inputs),
        Pass::Backward => {
            let offsets = usize::from(station.info.inputs.offsets().is_some());
            let arity = (station.info.inputs.tensors().len() + offsets).min(inputs.len());
            let (inputs, gradients) = inputs.split_at(arity);
            block.backward(inputs, gradients)
        }
    });
    match result {
        Ok(outputs) => outputs.map_err(|source| block_error(station, source)),
        Err(message) => Err(BatchError::Panic { during: format!("block `{}`", station.info.name), message }),
    }
}

fn block_error<T>(station: &Station<T>, source: BoxError) -> BatchError {
    BatchError::Block { block: station.info.name.clone(), source }
}
