//! The device thread: takes the next batch, runs it, passes its outputs on.
//!
//! It chooses and gathers by itself while nothing has been gathered ahead, so a lone task on an idle
//! runtime crosses two threads in all. Other threads join in when that pays: the loader while a batch runs
//! that takes longer than waking a thread does, the senders when outputs must be copied back or another
//! batch is there to run.

use super::core::{Core, Now};
use super::flight::{Cut, Done, Gathered, Loaded};
use super::jobs::Blocks;
use super::sender::{answer, hand_off};
use crate::backend::Backend;
use crate::device::{Device, Pass};
use crate::error::{BatchError, BoxError};
use crate::pool::{PoolId, Shutdown};
use crate::sync::spin::Spin;
use crate::sync::{flume, guarded, thread};
use std::time::{Duration, Instant};

/// What the device thread does next.
enum Next<T> {
    /// Run a batch that was gathered ahead.
    Run(Loaded<T>),
    /// Gather a batch, then run it.
    Gather(Box<Cut<T>>),
    /// There is nothing to do until a pool rings that has not been heard yet. So many have.
    Idle(usize),
    /// Sleep until woken, or until a pool wants to be looked at.
    Sleep(Option<Instant>),
    /// Everything is done.
    Stop,
}

/// How long each pool's batches take on the device, lately.
struct Estimates(Vec<Option<Duration>>);

impl Estimates {
    fn note(&mut self, pool: PoolId, device: Duration) {
        if let Some(estimate) = self.0.get_mut(pool.index()) {
            *estimate = Some(estimate.map_or(device, |before| (before * 3 + device) / 4));
        }
    }

    fn get(&self, pool: PoolId) -> Option<Duration> {
        self.0.get(pool.index()).copied().flatten()
    }
}

/// Whether other threads can save more than it costs to wake them: overlap hides at most the time that the
/// batch is on the device. A pool that has not run yet gets the benefit of the doubt.
fn overlap_pays(estimate: Option<Duration>, hand_over: Duration) -> bool {
    estimate.is_none_or(|estimate| estimate >= hand_over)
}

/// Whether the device thread itself answers a batch: outputs are readable as they are, and there is nothing
/// that would be worth a hand-over. Failures are logged, so they always go to a sender.
fn answer_here(readable: bool, better_to_do: impl FnOnce() -> bool) -> bool {
    readable && !better_to_do()
}

/// Runs until the runtime is stopped.
pub(crate) fn device_loop<D: Device>(
    core: &Core<D>,
    blocks: &mut Blocks<D>,
    outputs: &flume::Sender<Done<D::Tensor>>,
) {
    let mut estimates = Estimates(vec![None; core.stations.len()]);
    let mut spin = Spin::new();
    // What had been heard when there was nothing to do the last time.
    let mut idle = None;
    loop {
        while let Some(job) = core.jobs.pop() {
            job(blocks);
        }
        let (next, more) = next(core);
        let (loaded, now) = match next {
            Next::Run(loaded) => (loaded, core.now()),
            Next::Gather(cut) => match core.gather(cut) {
                Gathered::Loaded(loaded) => {
                    let now = loaded.batch.chosen + loaded.batch.gather;
                    (loaded, now)
                }
                Gathered::Failed(failed) => {
                    hand_off(core, outputs, failed);
                    continue;
                }
                Gathered::TakenApart => continue,
            },
            Next::Idle(heard) => {
                let news = || core.bells.rung() != heard || core.jobs.are_waiting();
                // A ring that is counted and not sent yet looks like news, again and again.
                if idle.replace(heard) == Some(heard) || !spin.until(core.settings.spin, news) {
                    sleep(core, None);
                }
                continue;
            }
            Next::Sleep(until) => {
                sleep(core, until);
                continue;
            }
            Next::Stop => return,
        };

        let pool = loaded.batch.flight.pool;
        let overlap = overlap_pays(estimates.get(pool), core.settings.hand_over);
        let prefetch = overlap && core.settings.prefetch > 0;
        if prefetch {
            core.bells.let_loader_choose(true);
            if more {
                core.bells.wake_loader();
            }
        }
        let done = run(core, blocks, loaded, now, &mut estimates);
        if prefetch {
            core.bells.let_loader_choose(false);
        }

        let Some((done, ended)) = done else { continue };
        let readable = done.outputs.is_ok() && core.device.is_host();
        if answer_here(readable, || overlap && (more || has_more(core))) {
            answer(core, done, ended);
        } else {
            hand_off(core, outputs, done);
        }
    }
}

/// Decides what to do next, and says whether there would be something to do after that.
fn next<D: Device>(core: &Core<D>) -> (Next<D::Tensor>, bool) {
    let now = Now::new(|| core.now());
    // Declared before the lock, so freed after it.
    let mut useless = Vec::new();
    let mut stage = core.stage.lock();
    if stage.stop == Some(Shutdown::Abort) {
        let aborted = stage.take_unstarted();
        let ended = stage.closed && stage.loading == 0;
        drop(stage);
        for loaded in aborted {
            core.give_up(&loaded.batch.flight);
        }
        return (if ended { Next::Stop } else { Next::Sleep(None) }, false);
    }
    if let Some(loaded) = stage.take_loaded(&mut useless) {
        // Something may have become ready while nobody was asked to choose.
        core.refresh(&mut stage, &now);
        return (Next::Run(loaded), stage.has_work());
    }
    if stage.loading > 0 {
        // The loader has the more urgent batch in hand and wakes this thread with it. Cutting another one
        // meanwhile would let it overtake.
        return (Next::Sleep(None), false);
    }
    if let Some(cut) = core.cut(&mut stage, &now) {
        return (Next::Gather(cut), stage.has_work());
    }
    // A batch that is with the senders may fail there, and come back in parts.
    if stage.closed && stage.flights.is_empty() {
        return (Next::Stop, false);
    }
    match stage.selector.next_look() {
        Some((time, _)) => (Next::Sleep(Some(time)), false),
        None => (Next::Idle(stage.heard), false),
    }
}

fn has_more<D: Device>(core: &Core<D>) -> bool {
    let stage = core.stage.lock();
    stage.heard != core.bells.rung() || !stage.loaded.is_empty() || stage.loading > 0 || stage.has_work()
}

/// Parks the current thread until it is woken, or until `until` by the runtime's clock.
pub(crate) fn sleep<D: Device>(core: &Core<D>, until: Option<Instant>) {
    match until.and_then(|until| core.clock.sleep_until(until)) {
        Some(time) => thread::park_timeout(time),
        None => thread::park(),
    }
}

/// Runs a batch, and says when it was over. `None` when there is nothing to answer yet: all of its tasks had
/// expired, or it failed and runs again in parts.
fn run<D: Device>(
    core: &Core<D>,
    blocks: &mut Blocks<D>,
    loaded: Loaded<D::Tensor>,
    mut started: Instant,
    estimates: &mut Estimates,
) -> Option<(Done<D::Tensor>, Instant)> {
    let Loaded { mut batch, mut inputs } = loaded;
    let pool = batch.flight.pool;
    let (expired, keep) = batch.start(started);
    if let Some(keep) = keep {
        core.answer_expired(pool, expired);
        batch.keep(&keep);
        if batch.rows.is_empty() {
            core.land(&batch.flight, None);
            return None;
        }
        match core.at_work(&batch.flight, || core.place(&batch)) {
            Ok(rest) => inputs = rest,
            Err(error) => return core.failed(batch, error).map(|done| (done, core.now())),
        }
        started = core.now();
    }
    let station = &core.stations[pool.index()];
    let outputs = core.at_work(&batch.flight, || {
        let outputs = match blocks.get_mut(station.block) {
            Some(block) => call(core, block.as_mut(), station.block, station.pass, &inputs),
            None => Err(block_error(core, station.block, "block is missing".into())),
        }?;
        core.on_device("synchronize", Device::synchronize)?;
        Ok(outputs)
    });
    let ended = core.now();
    let device = ended.saturating_duration_since(started);
    estimates.note(pool, device);
    batch.device = Some(device);
    let done = match outputs {
        Ok(outputs) => Some(Done { batch, inputs, outputs: Ok(outputs) }),
        Err(error) => core.failed(batch, error),
    };
    done.map(|done| (done, ended))
}

fn call<D: Device>(
    core: &Core<D>,
    block: &mut dyn Backend<D>,
    index: usize,
    pass: Pass,
    inputs: &[D::Tensor],
) -> Result<Vec<D::Tensor>, BatchError> {
    let info = core.infos.get(index);
    let arity = info.map_or(inputs.len(), |info| info.inputs.tensors().len()).min(inputs.len());
    let result = guarded(|| match pass {
        Pass::Forward => block.forward(inputs),
        Pass::Backward => {
            let (inputs, gradients) = inputs.split_at(arity);
            block.backward(inputs, gradients)
        }
    });
    match result {
        Ok(outputs) => outputs.map_err(|source| block_error(core, index, source)),
        Err(message) => {
            Err(BatchError::Panic { place: format!("block `{}`", block_name(core, index)), message })
        }
    }
}

fn block_name<D: Device>(core: &Core<D>, index: usize) -> String {
    core.infos.get(index).map_or_else(String::new, |info| info.name.clone())
}

fn block_error<D: Device>(core: &Core<D>, index: usize, source: BoxError) -> BatchError {
    BatchError::Block { block: block_name(core, index), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_pays_from_the_cost_of_a_hand_over() {
        let cost = Duration::from_micros(50);
        assert!(overlap_pays(None, cost));
        assert!(overlap_pays(Some(cost), cost));
        assert!(!overlap_pays(Some(Duration::from_micros(49)), cost));
        assert!(overlap_pays(Some(Duration::ZERO), Duration::ZERO));
    }

    #[test]
    fn the_device_thread_answers_only_what_costs_it_nothing() {
        assert!(answer_here(true, || false), "nothing else to do, or quicker than handing over");
        assert!(!answer_here(true, || true), "another batch is waiting");
        assert!(!answer_here(false, || false), "a copy back, or a failure to log");
    }

    #[test]
    fn estimates_follow_the_last_few_batches() {
        let mut estimates = Estimates(vec![None; 1]);
        estimates.note(PoolId(0), Duration::from_micros(100));
        assert_eq!(estimates.get(PoolId(0)), Some(Duration::from_micros(100)));
        estimates.note(PoolId(0), Duration::from_micros(20));
        assert_eq!(estimates.get(PoolId(0)), Some(Duration::from_micros(80)));
        estimates.note(PoolId(9), Duration::ZERO);
        assert_eq!(estimates.get(PoolId(9)), None);
    }
}
