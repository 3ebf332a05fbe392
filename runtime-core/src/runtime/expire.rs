//! Deadlines that pass: in a pool's queue, and in batches that have not started.

use super::directory::Station;
use super::shared::Shared;
use crate::contract::answer::reply::Settled;
use crate::contract::batch::BatchTask;
use crate::contract::device::Device;
use crate::contract::error::task::TaskError;
use crate::contract::event::{Observer, Unrun};
use crate::contract::id::PoolId;
use crate::contract::pool::Expired;
use crate::sync::guarded;
use std::sync::Arc;
use std::time::Instant;

impl<D: Device> Shared<D> {
    /// Answers waiting tasks of a pool whose time is up, in its queue and in batches that have not started,
    /// and returns the time at which the next one's is up. Called by the timer: what is code of others, the teller does.
    ///
    /// The queue goes first: a batch is cut and filed under the stage's lock, so a task that is no longer
    /// in the queue is found among the flights.
    pub(crate) fn expire(&self, pool: PoolId, now: Instant) -> Option<Instant> {
        let station = {
            let mut stage = self.stage.lock();
            let station = Arc::clone(stage.directory.station(pool)?);
            stage.expiring = true;
            station
        };
        let Expired { mut settled, mut next } = guarded(|| station.pool.expire(self.bells.runtime, now))
            .unwrap_or_else(|message| {
                self.broke(&station, "expire", message);
                Expired::none()
            });
        let mut after = Settled::complete_all(&mut settled);
        let flights: Vec<_> = {
            let stage = self.stage.lock();
            stage.flights.iter().filter(|flight| flight.pool == pool).cloned().collect()
        };
        let mut unrun = 0;
        for flight in flights {
            let (expired, later) = flight.expire(now);
            next = next.into_iter().chain(later).min();
            let mut settled = settle_expired(&station, expired, now);
            unrun += settled.len();
            after.append(Settled::complete_all(&mut settled));
        }
        self.stage.lock().expiring = false;
        let observer = self.outside.observer.clone().filter(|_| unrun > 0);
        self.stir();
        self.teller.tell(move || {
            after.run();
            guarded(|| station.pool.after_cut()).ok();
            if let Some(observer) = observer {
                observer.unrun(pool, Unrun::Expired, unrun);
            }
        });
        next
    }

    /// Answers tasks whose deadline passed before their batch started.
    pub(crate) fn answer_expired(
        &self,
        station: &Station<D::Tensor>,
        expired: Vec<BatchTask<D::Tensor>>,
        now: Instant,
    ) {
        let mut settled = settle_expired(station, expired, now);
        Settled::deliver_all(&mut settled);
        if !settled.is_empty() {
            self.outside.observe(|observer: &dyn Observer| {
                observer.unrun(station.id, Unrun::Expired, settled.len());
            });
        }
    }
}

/// Settles, and counts, tasks whose deadline passed before their batch started.
fn settle_expired<T>(station: &Station<T>, expired: Vec<BatchTask<T>>, now: Instant) -> Vec<Settled<T>> {
    let settled: Vec<_> = expired
        .into_iter()
        .filter_map(|task| {
            let waited = task.header.waited(now);
            task.reply.settle(Err(TaskError::Expired { waited }))
        })
        .collect();
    station.unrun.count(Unrun::Expired, settled.len());
    settled
}
