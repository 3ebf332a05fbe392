//! The choice of the next batch.

use super::batch::CutBatch;
use super::directory::Station;
use super::shared::Shared;
use super::stage::Stage;
use crate::contract::device::Device;
use crate::contract::pool::Look;
use crate::policy::index::Entry;
use crate::policy::oldest_first::OldestFirst;
use crate::sync::guarded;
use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Instant;

/// The time of a choice, read from the clock only if the choice depends on it.
pub(crate) type Now<F> = LazyCell<Instant, F>;

/// Ranks a pool by the runtime's policy.
fn entry(look: Look) -> Entry {
    match look {
        Look::Ready(outlook) => Entry::Ready(OldestFirst.rank(&outlook)),
        Look::At(time) => Entry::At(time),
        Look::Idle => Entry::Idle,
    }
}

impl<D: Device> Shared<D> {
    fn look(&self, station: &Arc<Station<D::Tensor>>, now: Instant, most_rows: usize) -> Entry {
        let look = guarded(|| station.pool.look(now, most_rows)).unwrap_or_else(|message| {
            self.broke(station, "look", message);
            Look::Idle
        });
        entry(look)
    }

    /// Files the pools that have rung, and those whose time has come.
    pub(crate) fn refresh(&self, stage: &mut Stage<D::Tensor>, now: &Now<impl FnOnce() -> Instant>) {
        while stage.heard != self.bells.rung()
            && let Ok(pool) = stage.rings.try_recv()
        {
            stage.heard = stage.heard.wrapping_add(1);
            if let Some(station) = stage.directory.station(pool) {
                let entry = self.look(station, **now, stage.most_rows(pool));
                stage.index.note(pool, entry);
            }
        }
        while let Some((_, pool)) = stage.index.next_look().filter(|(time, _)| *time <= **now) {
            let most_rows = stage.most_rows(pool);
            let entry = stage
                .directory
                .station(pool)
                .map_or(Entry::Idle, |station| self.look(station, **now, most_rows));
            match entry {
                // Looking again at the same time would not end.
                Entry::At(time) if time <= **now => stage.index.note(pool, Entry::Idle),
                entry => stage.index.note(pool, entry),
            }
        }
    }

    /// Cuts a batch of the pool of the lowest rank, if any pool can run. Half of a batch that failed comes
    /// with the rank that the batch had.
    pub(crate) fn cut(
        &self,
        stage: &mut Stage<D::Tensor>,
        now: &Now<impl FnOnce() -> Instant>,
    ) -> Option<Box<CutBatch<D::Tensor>>> {
        self.refresh(stage, now);
        loop {
            let first = stage.index.first();
            if let Some(mut half) = stage.take_half(first.map(|(rank, _)| rank)) {
                half.chosen = **now;
                return Some(half);
            }
            let (rank, pool) = first?;
            let Some(station) = stage.directory.station(pool) else {
                stage.index.note(pool, Entry::Idle);
                continue;
            };
            let now = **now;
            let most_rows = stage.most_rows(pool);
            let wanted = |outlook: &_| OldestFirst.rank(outlook) == rank;
            let cut = guarded(|| station.pool.cut_if(&wanted, now, most_rows));
            let (batch, look) = cut.unwrap_or_else(|message| {
                self.broke(station, "cut", message);
                (None, Look::Idle)
            });
            let batch = batch
                .filter(|batch| !batch.tasks.is_empty())
                .map(|batch| CutBatch::new(Arc::clone(station), rank, batch, now));
            stage.index.note(pool, entry(look));
            if let Some(batch) = batch {
                stage.flights.push(Arc::clone(&batch.flight));
                return Some(batch);
            }
        }
    }
}
