//! What the runtime's threads share.

use super::bell::Bells;
use super::flight::{Cut, Done, Expired, Flight, Gathered, Joined, Loaded};
use super::jobs::Jobs;
use super::stage::Stage;
use super::status::Status;
use crate::backend::BlockInfo;
use crate::clock::Clock;
use crate::device::{Device, Pass};
use crate::error::{BatchError, DeviceError, DeviceLoss, TaskError};
use crate::event::{BatchEvent, Observer, Unrun};
use crate::pool::{FailureRules, Look, Meter, Pool, PoolId, Shutdown};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, flume, guarded};
use std::cell::LazyCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Settings of a runtime, all checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Batches gathered ahead of the one that runs.
    pub(crate) prefetch: usize,
    /// Sender threads.
    pub(crate) senders: usize,
    /// Device time under which a batch is not worth the help of another thread.
    pub(crate) hand_over: Duration,
    /// How long a thread looks for what it waits for before it sleeps.
    pub(crate) spin: Duration,
    /// The longest that the device may work on one batch at a stretch.
    pub(crate) batch_limit: Option<Duration>,
}

/// The time of a choice, read from the clock only if the choice depends on it.
pub(crate) type Now<F> = LazyCell<Instant, F>;

/// A pool with the block that it feeds.
pub(crate) struct Station<D: Device> {
    pub(crate) pool: Arc<dyn Pool<D>>,
    pub(crate) block: usize,
    pub(crate) pass: Pass,
    pub(crate) rules: FailureRules,
}

pub(crate) struct Core<D: Device> {
    pub(crate) device: Arc<D>,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// The pools, at the index of their id.
    pub(crate) stations: Vec<Station<D>>,
    /// What the blocks are called, take and give, at the index that the stations name.
    pub(crate) infos: Vec<BlockInfo>,
    pub(crate) bells: Arc<Bells>,
    pub(crate) rings: flume::Receiver<PoolId>,
    pub(crate) stage: Mutex<Stage<D::Tensor>>,
    pub(crate) jobs: Jobs<D>,
    pub(crate) status: Arc<Status>,
    /// Tasks that a shutdown gave up, for its report.
    pub(crate) given_up: AtomicUsize,
    /// The timer looks again after a while at what the device works on.
    pub(crate) watching: AtomicBool,
}

impl<D: Device> Core<D> {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    fn look(&self, pool: PoolId, now: Instant) -> Look {
        let Some(station) = self.stations.get(pool.index()) else { return Look::Idle };
        guarded(|| station.pool.look(now)).unwrap_or_else(|message| {
            self.broke(pool, "look", &message);
            Look::Idle
        })
    }

    /// Files what pools have rung for, and whose time has come.
    pub(crate) fn refresh(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) {
        while stage.heard != self.bells.rung()
            && let Ok(pool) = self.rings.try_recv()
        {
            stage.heard = stage.heard.wrapping_add(1);
            stage.selector.note(pool, self.look(pool, **now));
        }
        while let Some((_, pool)) = stage.selector.next_look().filter(|(time, _)| *time <= **now) {
            match self.look(pool, **now) {
                // Looking again at the same time would not end.
                Look::At(time) if time <= **now => stage.selector.note(pool, Look::Idle),
                look => stage.selector.note(pool, look),
            }
        }
    }

    /// Cuts a batch of the most urgent pool, if any pool can run. What is left of a batch that failed comes
    /// with the urgency that it had then.
    pub(crate) fn cut(
        &self,
        stage: &mut Stage<D::Tensor>,
        now: &Now<impl FnOnce() -> Instant>,
    ) -> Option<Box<Cut<D::Tensor>>> {
        self.refresh(stage, now);
        loop {
            let most_urgent = stage.selector.most_urgent();
            if let Some(mut part) = stage.take_part(most_urgent.map(|(urgency, _)| urgency)) {
                part.chosen = **now;
                return Some(part);
            }
            let (urgency, pool) = most_urgent?;
            let now = **now;
            let most_rows = stage.most_rows(pool);
            let cut = guarded(|| self.stations[pool.index()].pool.cut_if(urgency, now, most_rows));
            let (batch, look) = cut.unwrap_or_else(|message| {
                self.broke(pool, "cut", &message);
                (None, Look::Idle)
            });
            stage.selector.note(pool, look);
            if let Some(batch) = batch.filter(|batch| !batch.tasks.is_empty()) {
                let cut = Cut::new(pool, urgency, batch, now);
                stage.flights.push(Arc::clone(&cut.flight));
                return Some(cut);
            }
        }
    }

    /// Joins the inputs of a batch and places them on the device.
    pub(crate) fn gather(&self, mut batch: Box<Cut<D::Tensor>>) -> Gathered<D::Tensor> {
        if let Some(station) = self.stations.get(batch.flight.pool.index())
            && let Err(message) = guarded(|| station.pool.after_cut())
        {
            self.broke(batch.flight.pool, "after_cut", &message);
        }
        let inputs = self.at_work(&batch.flight, || self.place(&batch));
        batch.gather = self.now().saturating_duration_since(batch.chosen);
        match inputs {
            Ok(inputs) => Gathered::Loaded(Loaded { batch, inputs }),
            Err(error) => self.failed(batch, error).map_or(Gathered::TakenApart, Gathered::Failed),
        }
    }

    /// The inputs of a batch, joined and on the device.
    pub(crate) fn place(&self, batch: &Cut<D::Tensor>) -> Result<Joined<D::Tensor>, BatchError> {
        let mut inputs = Joined::with_capacity(batch.parts.len());
        for parts in &batch.parts {
            inputs.push(self.on_device("gather", |device| device.gather(parts))?);
        }
        Ok(inputs)
    }

    /// Calls the device, and makes a batch's error of its error or panic.
    pub(crate) fn on_device<R>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&D) -> Result<R, DeviceError>,
    ) -> Result<R, BatchError> {
        match guarded(|| call(&self.device)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(BatchError::Device { operation, source }),
            Err(message) => Err(BatchError::Panic { place: operation.to_owned(), message }),
        }
    }

    /// What becomes of a batch that failed. Where that may show which of its tasks is the cause, or where
    /// fewer rows may have room, it is filed to run again in halves, or given up where an abort leaves no time
    /// for that; else it comes back to be answered. A fatal error is the loss of the device.
    pub(crate) fn failed(
        &self,
        mut batch: Box<Cut<D::Tensor>>,
        error: BatchError,
    ) -> Option<Done<D::Tensor>> {
        if error.is_fatal() {
            let error = Arc::new(error);
            self.lose(&DeviceLoss::Fatal(Arc::clone(&error)));
            return Some(Done { batch, inputs: Joined::new(), outputs: Err(error) });
        }
        let station = self.stations.get(batch.flight.pool.index())?;
        let (pool, rows, tasks) = (batch.flight.pool, batch.total_rows(), batch.rows.len());
        // A backward pass that was called may have changed the block.
        let harmless = batch.device.is_none() || (station.pass == Pass::Forward && station.rules.rerun);
        let event = BatchEvent {
            rows,
            gather: batch.gather,
            device: batch.device.unwrap_or_default(),
            failed: true,
            taken_apart: true,
            ..BatchEvent::new(pool, station.pass, &[], batch.left_queue)
        };
        let trial = batch.trial.get_or_insert_default();
        if tasks == 1 {
            trial.failed_alone();
        }
        let hopeless = trial.is_hopeless();
        let mut stage = self.stage.lock();
        if tasks > 1 && error.is_out_of_memory() {
            stage.too_large(pool, rows);
        }
        if tasks == 1 || hopeless || !harmless {
            return Some(Done { batch, inputs: Joined::new(), outputs: Err(Arc::new(error)) });
        }
        if stage.stop == Some(Shutdown::Abort) {
            drop(stage);
            // Whose fault it was nobody finds out any more, so it is nobody's.
            self.give_up(&batch.flight);
        } else {
            stage.halve(batch);
            drop(stage);
            self.bells.wake_chooser();
        }
        self.observe(|observer| observer.batch(&BatchEvent { done: self.now(), ..event }));
        None
    }

    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        if let Err(message) = guarded(|| tell(&**observer)) {
            tracing::error!(message, "observer panicked");
        }
    }

    /// Forgets a flight whose replies have been taken. `fitted` are its rows, where it succeeded.
    pub(crate) fn land(&self, flight: &Arc<Flight<D::Tensor>>, fitted: Option<usize>) {
        let mut stage = self.stage.lock();
        stage.forget(flight);
        if let Some(rows) = fitted {
            stage.fitted(flight.pool, rows);
        }
        let last = stage.closed && stage.flights.is_empty();
        drop(stage);
        if last {
            // The device thread waits for batches that may come back to it in parts.
            self.bells.wake_device();
        }
    }

    /// Tells tasks that their deadline passed before their batch started.
    pub(crate) fn answer_expired(&self, pool: PoolId, expired: Vec<Expired<D::Tensor>>) {
        let settled: Vec<_> = expired
            .into_iter()
            .filter_map(|task| task.reply.settle(Err(TaskError::Expired { waited: task.waited })))
            .collect();
        if !settled.is_empty() {
            self.observe(|observer| observer.unrun(pool, Unrun::Expired, settled.len()));
        }
    }

    /// Gives up a batch that has been cut: whoever still waits for it is told of the shutdown, or of the loss.
    pub(crate) fn give_up(&self, flight: &Arc<Flight<D::Tensor>>) {
        let lost = self.status.loss().map(|loss| TaskError::DeviceLost(loss.clone()));
        let settled = self.settle_unrun(flight, &lost.unwrap_or(TaskError::ShutDown));
        self.given_up.fetch_add(settled.len(), Ordering::Relaxed);
        self.land(flight, None);
    }

    /// Answers waiting tasks of a pool whose time is up, in its queue and in batches that have not started,
    /// and says when the next one's time is up.
    ///
    /// The queue goes first: a batch is cut and filed under the stage's lock, so a task that is no longer
    /// in the queue is found among the flights.
    pub(crate) fn expire(&self, pool: PoolId, now: Instant) -> Option<Instant> {
        let station = self.stations.get(pool.index())?;
        let mut next = guarded(|| station.pool.expire(now)).unwrap_or_else(|message| {
            self.broke(pool, "expire", &message);
            None
        });
        let flights: Vec<_> = {
            let stage = self.stage.lock();
            stage.flights.iter().filter(|flight| flight.pool == pool).cloned().collect()
        };
        for flight in flights {
            let (expired, later) = flight.expire(now);
            self.answer_expired(pool, expired);
            next = next.into_iter().chain(later).min();
        }
        next
    }

    /// Closes every pool, then wakes the threads to see it.
    pub(crate) fn close(&self, how: Shutdown) {
        if self.status.loss().is_some() {
            // They are closed, and may be another runtime's by now.
            return self.bells.wake_all();
        }
        {
            let mut stage = self.stage.lock();
            if stage.stop != Some(Shutdown::Abort) {
                stage.stop = Some(how);
            }
        }
        for pool in (0..).map(PoolId).take(self.stations.len()) {
            self.close_pool(pool, how);
            // What was waiting for company need not wait any more.
            self.bells.leave_ring(pool);
        }
        let mut stage = self.stage.lock();
        stage.closed = true;
        // What was gathered ahead need not wait for the block that is running.
        let aborted = if stage.stop == Some(Shutdown::Abort) { stage.take_unstarted() } else { Vec::new() };
        drop(stage);
        for loaded in aborted {
            self.give_up(&loaded.batch.flight);
        }
        self.bells.wake_all();
    }

    /// Closes every pool at once, and gives up every batch that has been cut and all work with blocks.
    pub(crate) fn abandon(&self) {
        self.status.abandon();
        // The device thread may never come back to them.
        self.jobs.close();
        let shut_down =
            |core: &Self| -> u64 { core.stations.iter().map(|s| s.pool.counts().shut_down).sum() };
        let before = shut_down(self);
        self.close(Shutdown::Abort);
        let queued = shut_down(self).saturating_sub(before);
        self.given_up.fetch_add(usize::try_from(queued).unwrap_or(usize::MAX), Ordering::Relaxed);
        let flights = self.stage.lock().flights.clone();
        for flight in flights {
            self.give_up(&flight);
        }
        self.status.notify();
    }

    pub(crate) fn meters(&self) -> Vec<Arc<dyn Meter>> {
        self.stations.iter().map(|station| Arc::clone(&station.pool) as Arc<dyn Meter>).collect()
    }
}
