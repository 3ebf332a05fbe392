//! Deadlines that pass: in a pool's queue, and in batches that have not started.

use super::shared::Shared;
use crate::contract::answer::reply::Settled;
use crate::contract::batch::BatchTask;
use crate::contract::device::Device;
use crate::contract::error::task::TaskError;
use crate::contract::event::Unrun;
use crate::contract::id::PoolId;
use crate::sync::guarded;
use std::sync::Arc;
use std::time::Instant;

impl<D: Device> Shared<D> {
    /// Answers waiting tasks of a pool whose time is up, in its queue and in batches that have not started,
    /// and returns the time at which the next one's is up.
    ///
    /// The queue goes first: a batch is cut and filed under the stage's lock, so a task that is no longer
    /// in the queue is found among the flights.
    pub(crate) fn expire(&self, pool: PoolId, now: Instant) -> Option<Instant> {
        let station = self.stage.lock().directory.station(pool).map(Arc::clone)?;
        let mut next = guarded(|| station.pool.expire(now)).unwrap_or_else(|message| {
            self.broke(&station, "expire", &message);
            None
        });
        let flights: Vec<_> = {
            let stage = self.stage.lock();
            stage.flights.iter().filter(|flight| flight.pool == pool).cloned().collect()
        };
        for flight in flights {
            let (expired, later) = flight.expire(now);
            self.answer_expired(pool, expired, now);
            next = next.into_iter().chain(later).min();
        }
        next
    }

    /// Answers tasks whose deadline passed before their batch started.
    pub(crate) fn answer_expired(&self, pool: PoolId, expired: Vec<BatchTask<D::Tensor>>, now: Instant) {
        let expired = expired.into_iter().map(|task| (task.header.waited(now), task.reply));
        let mut settled: Vec<_> =
            expired.filter_map(|(waited, reply)| reply.settle(Err(TaskError::Expired { waited }))).collect();
        if !settled.is_empty() {
            self.outside.observe(|observer| observer.unrun(pool, Unrun::Expired, settled.len()));
        }
        Settled::deliver_all(&mut settled);
    }
}
