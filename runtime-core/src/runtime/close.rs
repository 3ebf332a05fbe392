//! Closing: pools that take no more tasks, and batches that are given up.

use super::directory::Station;
use super::flight::Flight;
use super::shared::Shared;
use crate::contract::answer::reply::{Reply, Settled};
use crate::contract::device::Device;
use crate::contract::error::task::TaskError;
use crate::contract::event::Unrun;
use crate::contract::id::{PoolId, RuntimeId};
use crate::contract::pool::{Pool, Shutdown};
use crate::sync::{discard_all, guarded, log};
use std::sync::Arc;

impl<D: Device> Shared<D> {
    /// Closes every pool, then wakes the threads to see it.
    pub(crate) fn close(&self, how: Shutdown) {
        if self.status.loss().is_some() {
            // The loss answers their tasks.
            return self.bells.wake_all();
        }
        self.status.close();
        let stations = {
            let mut stage = self.stage.lock();
            if stage.stop != Some(Shutdown::Abort) {
                stage.stop = Some(how);
            }
            stage.directory.stations()
        };
        for station in stations {
            close_pool(&*station.pool, self.bells.runtime, how);
            // What was waiting for company need not wait any more.
            self.bells.leave_ring(station.id);
        }
        let mut stage = self.stage.lock();
        stage.closed = true;
        // What was gathered ahead need not wait for the block that is running.
        let aborted = if stage.stop == Some(Shutdown::Abort) { stage.take_unstarted() } else { Vec::new() };
        drop(stage);
        for gathered in aborted {
            self.give_up(&gathered.batch.flight);
        }
        self.bells.wake_all();
    }

    /// Has every pool take no more tasks and run what it has. The threads stay.
    pub(crate) fn drain(&self) {
        if self.status.loss().is_some() {
            return;
        }
        self.status.close();
        let stations = self.stage.lock().directory.stations();
        for station in stations {
            close_pool(&*station.pool, self.bells.runtime, Shutdown::Drain);
            // What was waiting for company need not wait any more.
            self.bells.leave_ring(station.id);
        }
        self.bells.wake_all();
    }

    /// Returns true if no task is open: none waits, and none is in a batch.
    pub(crate) fn is_drained(&self) -> bool {
        // A batch is cut and filed under this lock, so a task is found in its queue or among the flights.
        let stage = self.stage.lock();
        // Rows, because what is left of a split task is no task that waits.
        let waiting = |station: &Arc<Station<D::Tensor>>| {
            guarded(|| station.pool.counts().waiting_rows).is_ok_and(|rows| rows > 0)
        };
        stage.flights.is_empty() && !stage.expiring && !stage.directory.stations().iter().any(waiting)
    }

    /// Closes every pool at once, and gives up every batch that has been cut and all work with blocks.
    pub(crate) fn abandon(&self) {
        self.status.abandon();
        // The device thread may never come back to them.
        let jobs = self.work.close();
        let stations = self.stage.lock().directory.stations();
        let shut_down = || stations.iter().map(|station| station.pool.counts().shut_down).sum::<u64>();
        let before = shut_down();
        self.close(Shutdown::Abort);
        let queued = shut_down().saturating_sub(before);
        self.status.gave_up(usize::try_from(queued).unwrap_or(usize::MAX));
        let flights = self.stage.lock().flights.clone();
        for flight in flights {
            self.give_up(&flight);
        }
        discard_all(jobs);
        self.status.notify();
    }

    /// Gives up a batch that has been cut: whoever still waits for it is told of the shutdown. If the device is lost, its
    /// tasks go on with others, or are told of that.
    pub(crate) fn give_up(&self, flight: &Arc<Flight<D::Tensor>>) {
        let (mut settled, useless) = match self.status.loss() {
            // Who has noted the loss may not have come to this batch yet.
            Some(loss) => self.pass_on(flight.pool, flight.take_open(), loss),
            None => (self.settle_unrun(flight, &TaskError::ShutDown), Vec::new()),
        };
        self.status.gave_up(settled.len());
        // An observer that hangs has the answers of this batch behind it.
        settled.extend(flight.take_held_back());
        Settled::deliver_all(&mut settled);
        discard_all(useless);
        self.land(flight);
    }

    /// Settles, and counts, the tasks of a batch that has been cut which nobody has answered yet.
    pub(crate) fn settle_unrun(
        &self,
        flight: &Flight<D::Tensor>,
        error: &TaskError,
    ) -> Vec<Settled<D::Tensor>> {
        self.settle_replies(flight.pool, flight.take(), error)
    }

    /// Settles, and counts, tasks of a batch that were taken out of it without having been run.
    pub(crate) fn settle_replies(
        &self,
        pool: PoolId,
        replies: impl Iterator<Item = Reply<D::Tensor>>,
        error: &TaskError,
    ) -> Vec<Settled<D::Tensor>> {
        let settled: Vec<_> = replies.filter_map(|reply| reply.settle(Err(error.clone()))).collect();
        if !settled.is_empty() {
            let tasks = settled.len();
            if let Some(station) = self.stage.lock().directory.station(pool) {
                station.unrun.count(Unrun::ShutDown, tasks);
            }
            if let Some(observer) = self.outside.observer.clone() {
                self.teller.tell(move || observer.unrun(pool, Unrun::ShutDown, tasks));
            }
        }
        settled
    }

    /// Has a pool that panicked closed, so that its tasks are answered. Called under locks, too.
    pub(crate) fn broke(&self, station: &Arc<Station<D::Tensor>>, doing: &'static str, message: String) {
        let (station, runtime) = (Arc::clone(station), self.bells.runtime);
        self.teller.tell(move || {
            close_pool(&*station.pool, runtime, Shutdown::Abort);
            log(|| tracing::error!(pool = %station.id, message, "pool panicked in `{doing}`, closed it"));
        });
    }
}

/// Closes a pool, if it is `by`'s.
pub(crate) fn close_pool<T>(pool: &dyn Pool<T>, by: RuntimeId, how: Shutdown) {
    if let Err(message) = guarded(|| pool.close(by, how)) {
        log(|| tracing::error!(pool = pool.name(), message, "pool panicked while it was closed"));
    }
}
