//! What the runtime's threads share.

use super::bell::Bells;
use super::flight::{Cut, Done, Expired, Flight, Loaded};
use super::jobs::Jobs;
use super::select::Selector;
use super::status::Status;
use crate::backend::BlockInfo;
use crate::clock::Clock;
use crate::device::{Device, Pass};
use crate::error::{BatchError, DeviceError, TaskError};
use crate::event::{Observer, Unrun};
use crate::pool::{Look, Meter, Pool, PoolId, Shutdown};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, flume, guarded};
use std::collections::VecDeque;
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
}

/// A pool with the block that it feeds.
pub(crate) struct Station<D: Device> {
    pub(crate) pool: Arc<dyn Pool<D>>,
    pub(crate) block: usize,
    pub(crate) pass: Pass,
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
    /// A shutdown's time was up, so nobody waits for the device thread any more.
    pub(crate) abandoned: AtomicBool,
}

/// Where batches wait between the threads, and who may cut the next one. Held for the time of a choice,
/// never while a tensor is touched or a caller is told anything.
pub(crate) struct Stage<T> {
    pub(crate) selector: Selector,
    /// Batches on the device that have not started, oldest first.
    pub(crate) loaded: VecDeque<Loaded<T>>,
    /// Batches cut and being gathered by the loader.
    pub(crate) loading: usize,
    /// Replies of every batch that has been cut and not yet delivered.
    pub(crate) flights: Vec<Arc<Flight<T>>>,
    /// How the runtime is to stop, once it is.
    pub(crate) stop: Option<Shutdown>,
    /// All pools refuse new tasks, so what is empty now stays empty.
    pub(crate) closed: bool,
    /// The device thread has ended.
    pub(crate) ended: bool,
}

impl<T> Stage<T> {
    pub(crate) fn new(pools: usize) -> Self {
        Self {
            selector: Selector::new(pools),
            loaded: VecDeque::new(),
            loading: 0,
            flights: Vec::new(),
            stop: None,
            closed: false,
            ended: false,
        }
    }
}

impl<D: Device> Core<D> {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    fn look(&self, pool: PoolId, now: Instant) -> Look {
        let Some(station) = self.stations.get(pool.index()) else { return Look::Idle };
        guarded(|| station.pool.look(now)).unwrap_or_else(|message| {
            tracing::error!(%pool, message, "pool panicked when looked at");
            Look::Idle
        })
    }

    /// Files what pools have rung for, and whose time has come.
    pub(crate) fn refresh(&self, stage: &mut Stage<D::Tensor>, now: Instant) {
        for pool in self.rings.try_iter() {
            stage.selector.note(pool, self.look(pool, now));
        }
        while let Some(pool) = stage.selector.due(now) {
            match self.look(pool, now) {
                // Looking again at the same time would not end.
                Look::At(time) if time <= now => stage.selector.note(pool, Look::Idle),
                look => stage.selector.note(pool, look),
            }
        }
    }

    /// Cuts a batch of the most urgent pool, if any pool can run.
    pub(crate) fn cut(&self, stage: &mut Stage<D::Tensor>, now: Instant) -> Option<Cut<D::Tensor>> {
        self.refresh(stage, now);
        while let Some((urgency, pool)) = stage.selector.most_urgent() {
            let look = self.look(pool, now);
            if look != Look::Ready(urgency) {
                stage.selector.note(pool, look);
                continue;
            }
            let batch = guarded(|| self.stations[pool.index()].pool.cut(now)).unwrap_or_else(|message| {
                tracing::error!(%pool, message, "pool panicked while a batch was cut");
                None
            });
            // A pool that gives nothing although it said it would is left alone until it rings.
            let next = if batch.is_some() { self.look(pool, now) } else { Look::Idle };
            stage.selector.note(pool, next);
            if let Some(batch) = batch.filter(|batch| !batch.tasks.is_empty()) {
                let cut = Cut::new(pool, batch, now);
                stage.flights.push(Arc::clone(&cut.loaded.flight));
                return Some(cut);
            }
        }
        None
    }

    /// Joins the inputs of a batch and places them on the device.
    pub(crate) fn gather(&self, cut: Cut<D::Tensor>) -> Result<Loaded<D::Tensor>, Box<Done<D::Tensor>>> {
        let Cut { parts, loaded: mut batch } = cut;
        if let Some(station) = self.stations.get(batch.flight.pool.index())
            && let Err(message) = guarded(|| station.pool.after_cut())
        {
            tracing::error!(pool = station.pool.name(), message, "pool panicked after a cut");
        }
        let gathered = parts.into_iter().map(|parts| self.on_device("gather", |device| device.gather(parts)));
        let gathered: Result<Vec<_>, _> = gathered.collect();
        batch.gather = self.now().saturating_duration_since(batch.cut);
        match gathered {
            Ok(inputs) => {
                batch.inputs = inputs;
                Ok(batch)
            }
            Err(error) => Err(Box::new(Done { batch, device: Duration::ZERO, outputs: Err(error) })),
        }
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

    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        if let Err(message) = guarded(|| tell(&**observer)) {
            tracing::error!(message, "observer panicked");
        }
    }

    /// Forgets a flight whose replies have been taken.
    pub(crate) fn land(&self, flight: &Arc<Flight<D::Tensor>>) {
        let flights = &mut self.stage.lock().flights;
        if let Some(at) = flights.iter().position(|other| Arc::ptr_eq(other, flight)) {
            flights.swap_remove(at);
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

    /// Gives up a batch that has been cut: whoever still waits for it is told of the shutdown.
    pub(crate) fn give_up(&self, flight: &Arc<Flight<D::Tensor>>) {
        let settled: Vec<_> =
            flight.take().into_iter().filter_map(|reply| reply.settle(Err(TaskError::ShutDown))).collect();
        self.land(flight);
        if !settled.is_empty() {
            self.given_up.fetch_add(settled.len(), Ordering::Relaxed);
            self.observe(|observer| observer.unrun(flight.pool, Unrun::ShutDown, settled.len()));
        }
    }

    /// Answers waiting tasks of a pool whose time is up, in its queue and in batches that have not started,
    /// and says when the next one's time is up.
    ///
    /// The queue goes first: a batch is cut and filed under the stage's lock, so a task that is no longer
    /// in the queue is found among the flights.
    pub(crate) fn expire(&self, pool: PoolId, now: Instant) -> Option<Instant> {
        let station = self.stations.get(pool.index())?;
        let mut next = guarded(|| station.pool.expire(now)).unwrap_or_else(|message| {
            tracing::error!(%pool, message, "pool panicked while tasks expired");
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
        {
            let mut stage = self.stage.lock();
            if stage.stop != Some(Shutdown::Abort) {
                stage.stop = Some(how);
            }
        }
        for (station, pool) in self.stations.iter().zip(0..) {
            if let Err(message) = guarded(|| station.pool.close(how)) {
                tracing::error!(pool = station.pool.name(), message, "pool panicked while it was closed");
            }
            // What was waiting for company need not wait any more.
            self.bells.leave_ring(PoolId(pool));
        }
        let mut stage = self.stage.lock();
        stage.closed = true;
        // What was gathered ahead need not wait for the block that is running.
        let aborted =
            if stage.stop == Some(Shutdown::Abort) { stage.loaded.drain(..).collect() } else { Vec::new() };
        drop(stage);
        for batch in aborted {
            self.give_up(&batch.flight);
        }
        self.bells.wake_all();
    }

    /// Closes every pool at once, and gives up every batch that has been cut and all work with blocks.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
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
    }

    pub(crate) fn meters(&self) -> Vec<Arc<dyn Meter>> {
        self.stations.iter().map(|station| Arc::clone(&station.pool) as Arc<dyn Meter>).collect()
    }
}
