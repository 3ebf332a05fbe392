//! The loss of the device: a batch that does not come back within its limit, or an error after which nothing runs.
//!
//! Either way every task is answered at once, whatever the device does meanwhile, and the pools are let go, so
//! that another runtime can take them over. What lies on the device stays with the threads that hold it: freeing
//! memory of a device that hangs may hang too.

use super::bells::TimerEvent;
use super::flight::Flight;
use super::shared::Shared;
use crate::contract::answer::reply::Settled;
use crate::contract::device::Device;
use crate::contract::error::cause::Chain;
use crate::contract::error::device_loss::DeviceLoss;
use crate::contract::pool::Shutdown;
use crate::sync::atomic::Ordering;
use crate::sync::{discard_all, guarded, log};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl<D: Device> Shared<D> {
    /// Lets the device work on a batch, under the eyes of the timer where batches have a limit.
    ///
    /// The timer is told of the first batch only; it then follows what is at work by itself, once per limit, and
    /// stops when nothing is. The batch is marked before `watch` is read, and the timer clears `watch`
    /// before it reads the marks, so one of them sees the other.
    pub(crate) fn at_work<R>(&self, flight: &Flight<D::Tensor>, work: impl FnOnce() -> R) -> R {
        let Some(limit) = self.settings.batch_limit else { return work() };
        let now = self.now();
        flight.set_at_work(Some(now));
        self.watch_until(now, limit);
        let result = work();
        flight.set_at_work(None);
        result
    }

    /// Lets the device thread work with a block, under the same eyes.
    pub(crate) fn at_work_with_blocks<R>(&self, work: impl FnOnce() -> R) -> R {
        let Some(limit) = self.settings.batch_limit else { return work() };
        let now = self.now();
        *self.watch.work.lock() = Some(now);
        self.watch_until(now, limit);
        let result = work();
        *self.watch.work.lock() = None;
        result
    }

    fn watch_until(&self, now: Instant, limit: Duration) {
        if !self.watch.on.swap(true, Ordering::SeqCst)
            && let Some(end) = now.checked_add(limit)
        {
            self.bells.tell_timer(TimerEvent::Watch(end));
        }
    }

    /// Gives the device up when it has worked on a batch for too long. Returns the time to look again, if anything is
    /// at work.
    pub(crate) fn look_at_device(&self, now: Instant) -> Option<Instant> {
        let limit = self.settings.batch_limit?;
        self.watch.on.store(false, Ordering::SeqCst);
        let flights = self.stage.lock().flights.clone();
        let at_work = flights.iter().filter_map(|flight| Some((flight.at_work()?, Some(flight.pool))));
        let with_blocks = (*self.watch.work.lock()).map(|since| (since, None));
        let (since, pool) = at_work.chain(with_blocks).min_by_key(|(since, _)| *since)?;
        let end = since.checked_add(limit)?;
        if end <= now {
            let station = pool.and_then(|pool| self.stage.lock().directory.station(pool).map(Arc::clone));
            let work = station.map_or_else(
                || "work with a block".to_owned(),
                |station| format!("a batch of pool `{}`", station.pool.name()),
            );
            self.lose(&DeviceLoss::Stuck { work: work.into(), limit });
            return None;
        }
        self.watch.on.store(true, Ordering::SeqCst);
        Some(end)
    }

    /// Passes every task on to other devices, or answers it with the loss, and takes no more. Called by the timer, too: what
    /// is code of others, the teller does.
    pub(crate) fn lose(&self, loss: &DeviceLoss) {
        if matches!(loss, DeviceLoss::Stuck { .. }) {
            self.status.abandon();
        }
        let status = Arc::clone(&self.status);
        let (flights, stations) = {
            let mut stage = self.stage.lock();
            // In one step: a thread that knows of the loss and could still cut would take for this device what it has just
            // given to others.
            if !self.status.lose(loss.clone()) {
                drop(stage);
                return self.teller.tell(move || status.notify());
            }
            stage.stop = Some(Shutdown::Abort);
            stage.closed = true;
            (stage.flights.clone(), stage.directory.stations())
        };
        // Who has an answer finds everything counted, and may replace this runtime at once.
        let (mut settled, mut useless, mut panics) = (Vec::new(), Vec::new(), Vec::new());
        let now = self.now();
        let hangs = |since: Instant| match loss {
            DeviceLoss::Stuck { limit, .. } => now.saturating_duration_since(since) >= *limit,
            _ => false,
        };
        for flight in flights {
            if let Some(taken) = flight.lose(hangs) {
                let (answers, tensors) = self.pass_on(flight.pool, taken, loss);
                settled.extend(answers);
                useless.extend(tensors);
            }
            settled.extend(flight.take_held_back());
        }
        for station in &stations {
            match guarded(|| station.pool.lose(self.bells.runtime, loss)) {
                Ok(answers) => settled.extend(answers),
                Err(message) => panics.push((station.id, message)),
            }
        }
        // The device thread may never come back to them.
        let jobs = self.work.close();
        let after = Settled::complete_all(&mut settled);
        self.status.let_go();
        self.bells.wake_all();
        // All answers are given and all deadlines over, so this delays none, also on the timer's thread.
        discard_all(jobs);
        let (loss, observer) = (loss.clone(), self.outside.observer.clone());
        self.teller.tell(move || {
            after.run();
            discard_all(useless);
            for station in stations {
                guarded(|| station.pool.after_cut()).ok();
            }
            status.notify();
            if let Some(observer) = observer {
                guarded(|| observer.lost(&loss)).ok();
            }
            for (pool, message) in panics {
                log(|| tracing::error!(%pool, message, "pool panicked in `lose`"));
            }
            log(|| tracing::error!(loss = %Chain(&loss), "answered all tasks, and takes no more"));
        });
    }
}
