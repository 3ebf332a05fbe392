//! The device thread: takes the next batch, runs it, passes its outputs on.
//!
//! It chooses and gathers by itself while nothing has been gathered ahead, so a lone task on an idle
//! runtime crosses two threads in all. Other threads join in when that pays: the loader while a batch runs
//! that takes longer than waking a thread does, the senders when outputs must be copied back or another
//! batch is there to run.

use super::batch::{CutBatch, DoneBatch, GatheredBatch};
use super::choose::Now;
use super::directory::{Blocks, Station};
use super::gather::Outcome;
use super::park::sleep;
use super::sender::{answer, hand_off};
use super::shared::Shared;
use crate::contract::backend::{Backend, Pass};
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::BoxError;
use crate::contract::pool::Shutdown;
use crate::policy::cost::Costs;
use crate::policy::overlap::{answer_here, overlap_pays};
use crate::sync::spin::Spin;
use crate::sync::{flume, guarded};
use std::time::Instant;

/// The device thread's next step.
enum Next<T> {
    /// Run a batch that was gathered ahead.
    Run(GatheredBatch<T>),
    /// Gather a batch, then run it.
    Gather(Box<CutBatch<T>>),
    /// There is nothing to do until a pool rings that has not been heard yet. So many have.
    Idle(usize),
    /// Sleep until woken, or until a pool wants to be looked at.
    Sleep(Option<Instant>),
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
    loop {
        while let Some(job) = shared.work.pop() {
            job(blocks);
        }
        let (next, more) = next(shared);
        let (gathered, now) = match next {
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
                    sleep(&*shared.outside.clock, None);
                }
                continue;
            }
            Next::Sleep(until) => {
                sleep(&*shared.outside.clock, until);
                continue;
            }
            Next::Stop => return,
        };

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
    let now = Now::new(|| shared.now());
    // Declared before the lock, so freed after it.
    let mut useless = Vec::new();
    let mut stage = shared.stage.lock();
    if stage.stop == Some(Shutdown::Abort) {
        let aborted = stage.take_unstarted();
        let ended = stage.closed && stage.gathering == 0;
        drop(stage);
        for gathered in aborted {
            shared.give_up(&gathered.batch.flight);
        }
        return (if ended { Next::Stop } else { Next::Sleep(None) }, false);
    }
    if let Some(gathered) = stage.take_gathered(&mut useless) {
        // Something may have become ready while nobody was asked to choose.
        shared.refresh(&mut stage, &now);
        return (Next::Run(gathered), stage.has_work());
    }
    if stage.gathering > 0 {
        // The loader has the more urgent batch in hand and wakes this thread with it. Cutting another one
        // meanwhile would let it overtake.
        return (Next::Sleep(None), false);
    }
    if let Some(cut) = shared.cut(&mut stage, &now) {
        return (Next::Gather(cut), stage.has_work());
    }
    // A batch that is with the senders may fail there, and come back in halves.
    if stage.closed && stage.flights.is_empty() {
        return (Next::Stop, false);
    }
    match stage.index.next_look() {
        Some((time, _)) => (Next::Sleep(Some(time)), false),
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
    let (expired, keep) = batch.flight.start(batch.headers.len(), started);
    if let Some(keep) = keep {
        shared.answer_expired(batch.station.id, expired, started);
        batch.keep(&keep);
        if batch.headers.is_empty() {
            shared.land(&batch.flight, None);
            return None;
        }
        match shared.at_work(&batch.flight, || shared.gather_inputs(&batch)) {
            Ok(rest) => inputs = rest,
            Err(error) => return shared.failed(batch, error).map(|done| (done, shared.now())),
        }
        started = shared.now();
    }
    let station = &*batch.station;
    let outputs = shared.at_work(&batch.flight, || {
        let outputs = match blocks.get_mut(station.block.0) {
            Some(block) => call(station, block.as_mut(), &inputs),
            None => Err(block_error(station, "block is missing".into())),
        }?;
        shared.outside.on_device("synchronize", Device::synchronize)?;
        Ok(outputs)
    });
    let ended = shared.now();
    let device = ended.saturating_duration_since(started);
    costs.note(station.id, device);
    batch.device = Some(device);
    let done = match outputs {
        Ok(outputs) => Some(DoneBatch { batch, inputs, outputs: Ok(outputs) }),
        Err(error) => shared.failed(batch, error),
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
            let arity = station.info.inputs.tensors().len().min(inputs.len());
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
