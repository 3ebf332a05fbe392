//! The choice of the next batch.

use super::batch::CutBatch;
use super::directory::Station;
use super::shared::{Now, Shared};
use super::stage::Stage;
use crate::contract::device::Device;
use crate::contract::id::PoolId;
use crate::contract::pool::Look;
use crate::policy::selector::{Choice, Next};
use crate::sync::guarded;
use std::sync::Arc;
use std::time::Instant;

/// The outcome of a choice.
pub(crate) enum Cut<T> {
    /// A batch was cut.
    Batch(Box<CutBatch<T>>),
    /// It is better to choose then, or when a pool rings.
    Later(Instant),
    /// It is better to choose when the device is free, or when a pool rings.
    UntilFree,
    /// There is nothing to cut.
    Nothing,
}

impl<D: Device> Shared<D> {
    fn look(&self, station: &Arc<Station<D::Tensor>>, now: Instant, most_rows: usize) -> Look {
        guarded(|| station.pool.look(now, most_rows)).unwrap_or_else(|message| {
            self.broke(station, "look", message);
            Look::Idle
        })
    }

    /// Files the pools that have rung, and those whose time has come.
    pub(crate) fn refresh(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) {
        while stage.heard != self.bells.rung()
            && let Ok(pool) = stage.rings.try_recv()
        {
            stage.heard = stage.heard.wrapping_add(1);
            if let Some(station) = stage.directory.station(pool) {
                let (look, block) = (self.look(station, **now, stage.most_rows(pool)), station.block);
                stage.note(block, pool, look);
            }
        }
        while let Some(pool) = stage.selector.next_fallen() {
            if let Some(station) = stage.directory.station(pool) {
                let most_rows = stage.most_rows(pool);
                let look = guarded(|| station.pool.look_again(**now, most_rows));
                let look = look.unwrap_or_else(|message| {
                    self.broke(station, "look", message);
                    Look::Idle
                });
                let block = station.block;
                stage.note(block, pool, look);
            }
        }
        while let Some((_, pool)) = stage.selector.next_look().filter(|(time, _)| *time <= **now) {
            let most_rows = stage.most_rows(pool);
            let station = stage.directory.station(pool);
            let look = station.map_or(Look::Idle, |station| self.look(station, **now, most_rows));
            let look = match station.map(|station| station.block) {
                Some(block) => stage.admit(block, pool, look),
                None => look,
            };
            // Looking again at the same time would not end.
            stage.selector.note_looked_at(pool, look, **now);
        }
    }

    /// Looks at a pool once more.
    pub(crate) fn look_at(
        &self,
        stage: &mut Stage<D::Tensor>,
        pool: PoolId,
        now: &Now<impl FnOnce() -> Instant>,
    ) {
        let Some(station) = stage.directory.station(pool) else {
            return stage.selector.note(pool, Look::Idle);
        };
        let (look, block) = (self.look(station, **now, stage.most_rows(pool)), station.block);
        stage.note(block, pool, look);
    }

    /// Cuts a batch of the pool of the lowest rank, if any pool can run and it is time. Half of a batch that failed comes
    /// with the rank that the batch had.
    pub(crate) fn cut(
        &self,
        stage: &mut Stage<D::Tensor>,
        now: &Now<impl FnOnce() -> Instant>,
    ) -> Cut<D::Tensor> {
        self.refresh(stage, now);
        self.keep_house(stage, now);
        loop {
            let first = stage.selector.first();
            if let Some(mut half) = stage.take_half(first) {
                half.chosen = **now;
                return Cut::Batch(half);
            }
            if first.is_none() {
                // A pool may have turned out to have nothing, and its block makes room.
                self.keep_house(stage, now);
                return Cut::Nothing;
            }
            let (selector, ceilings) = (&mut stage.selector, &stage.ceilings);
            match &selector.next(**now, |pool| ceilings.most_rows(pool)) {
                Next::Cut(choice) => {
                    if let Some(batch) = self.cut_from(stage, choice) {
                        return Cut::Batch(batch);
                    }
                }
                Next::Wait(until) => {
                    self.await_company(stage);
                    return Cut::Later(*until);
                }
                Next::UntilFree => {
                    self.await_company(stage);
                    return Cut::UntilFree;
                }
                Next::Nothing => return Cut::Nothing,
            }
        }
    }

    /// Asks the pool whose cut is put off to ring when there is company enough.
    fn await_company(&self, stage: &mut Stage<D::Tensor>) {
        let Some(pool) = stage.selector.waits_for() else { return };
        let Some(rows) = stage.selector.take_wanted(pool) else { return };
        if let Some(station) = stage.directory.station(pool)
            && let Err(message) = guarded(|| station.pool.wake_at(rows))
        {
            self.broke(station, "wake_at", message);
        }
    }

    /// Cuts a batch of the pool that was chosen, and files the pool anew.
    #[inline]
    fn cut_from(&self, stage: &mut Stage<D::Tensor>, choice: &Choice) -> Option<Box<CutBatch<D::Tensor>>> {
        let (pool, now) = (choice.pool, choice.terms.now);
        let Some(station) = stage.directory.station(pool) else {
            stage.selector.note(pool, Look::Idle);
            return None;
        };
        let (mut look, block) = (Look::Idle, station.block);
        let cut = guarded(|| station.pool.cut_if(choice.rank, &choice.terms, &mut look));
        let mut batch = match cut {
            Ok(Some(batch)) if !batch.tasks.is_empty() => {
                CutBatch::new(Arc::clone(station), choice.rank, batch, now)
            }
            Ok(_) => {
                stage.note(block, pool, look);
                return None;
            }
            Err(message) => {
                self.broke(station, "cut", message);
                stage.note(block, pool, Look::Idle);
                return None;
            }
        };
        stage.residents.cut(block.slot);
        let look = stage.admit(block, pool, look);
        let draining = stage.stop.is_some();
        batch.forecast = stage.selector.was_cut(choice, &batch.headers, look, draining);
        stage.flights.push(Arc::clone(&batch.flight));
        Some(batch)
    }
}
