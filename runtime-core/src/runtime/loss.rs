//! Losing the device: a batch that does not come back within its limit, or an error after which nothing runs.
//!
//! Either way every task is answered at once, whatever the device does meanwhile, and the pools are let go, so
//! that another runtime can take them over. What lies on the device stays with the threads that hold it: freeing
//! memory of a device that hangs may hang too.

use super::bell::TimerEvent;
use super::core::Core;
use super::flight::Flight;
use crate::device::Device;
use crate::error::{DeviceLoss, TaskError};
use crate::event::Unrun;
use crate::pool::{PoolId, Shutdown};
use crate::sync::atomic::Ordering;
use crate::sync::guarded;
use crate::ticket::Settled;
use std::time::Instant;

impl<D: Device> Core<D> {
    /// Lets the device work on a batch, under the eyes of the timer where batches have a limit.
    ///
    /// The timer is told of the first batch only; it then follows what is at work by itself, once per limit, and
    /// stops when nothing is. The batch is marked before `watching` is read, and the timer clears `watching`
    /// before it reads the marks, so one of them sees the other.
    pub(crate) fn at_work<R>(&self, flight: &Flight<D::Tensor>, work: impl FnOnce() -> R) -> R {
        let Some(limit) = self.settings.batch_limit else { return work() };
        let now = self.now();
        flight.set_at_work(Some(now));
        if !self.watching.swap(true, Ordering::SeqCst)
            && let Some(end) = now.checked_add(limit)
        {
            self.bells.tell_timer(TimerEvent::Watch(end));
        }
        let result = work();
        flight.set_at_work(None);
        result
    }

    /// Gives the device up when it has worked on a batch for too long. Says when to look again, if anything is
    /// at work.
    pub(crate) fn watch(&self, now: Instant) -> Option<Instant> {
        let limit = self.settings.batch_limit?;
        self.watching.store(false, Ordering::SeqCst);
        let flights = self.stage.lock().flights.clone();
        let at_work = flights.iter().filter_map(|flight| Some((flight.at_work()?, flight.pool)));
        let (since, pool) = at_work.min_by_key(|(since, _)| *since)?;
        let end = since.checked_add(limit)?;
        if end <= now {
            let pool = self.stations.get(pool.index()).map_or("", |station| station.pool.name());
            self.lose(&DeviceLoss::Stuck { pool: pool.into(), limit });
            return None;
        }
        self.watching.store(true, Ordering::SeqCst);
        Some(end)
    }

    /// Answers every task with the loss, and takes no more.
    pub(crate) fn lose(&self, loss: &DeviceLoss) {
        if matches!(loss, DeviceLoss::Stuck { .. }) {
            self.status.abandon();
        }
        if !self.status.lose(loss.clone()) {
            return self.status.notify();
        }
        tracing::error!(%loss, "answering all tasks, and taking no more");
        let flights = {
            let mut stage = self.stage.lock();
            stage.stop = Some(Shutdown::Abort);
            stage.closed = true;
            stage.flights.clone()
        };
        // Who has an answer finds everything counted, and may replace this runtime at once.
        let mut settled = Vec::new();
        for station in &self.stations {
            match guarded(|| station.pool.lose(loss)) {
                Ok(answers) => settled.extend(answers),
                Err(message) => {
                    tracing::error!(pool = station.pool.name(), message, "pool panicked in `lose`");
                }
            }
        }
        // The device thread may never come back to them.
        self.jobs.close();
        for flight in flights {
            settled.extend(self.settle_unrun(&flight, &TaskError::DeviceLost(loss.clone())));
        }
        self.observe(|observer| observer.lost(loss));
        Settled::deliver_all(&mut settled);
        self.status.notify();
        self.bells.wake_all();
    }

    /// Settles, and counts, what nobody has answered yet of a batch that has been cut.
    pub(crate) fn settle_unrun(
        &self,
        flight: &Flight<D::Tensor>,
        error: &TaskError,
    ) -> Vec<Settled<D::Tensor>> {
        let settled: Vec<_> = flight.take().filter_map(|reply| reply.settle(Err(error.clone()))).collect();
        if !settled.is_empty() {
            self.observe(|observer| observer.unrun(flight.pool, Unrun::ShutDown, settled.len()));
        }
        settled
    }

    /// Notes that a pool panicked: the timer closes it, so that its tasks are answered.
    pub(crate) fn broke(&self, pool: PoolId, doing: &'static str, message: &str) {
        tracing::error!(%pool, message, "pool panicked in `{doing}`, closing it");
        self.bells.tell_timer(TimerEvent::Close(pool));
    }

    pub(crate) fn close_pool(&self, pool: PoolId, how: Shutdown) {
        let Some(station) = self.stations.get(pool.index()) else { return };
        if let Err(message) = guarded(|| station.pool.close(how)) {
            tracing::error!(pool = station.pool.name(), message, "pool panicked while it was closed");
        }
    }
}
