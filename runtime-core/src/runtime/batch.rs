//! A batch on its way: cut, gathered onto the device, run, and done.

use super::directory::Station;
use super::flight::Flight;
use super::sharing::Laid;
use super::trial::Trial;
use super::verifying::Alone;
use crate::contract::backend::Training;
use crate::contract::batch::{Batch, Piece};
use crate::contract::error::batch::BatchError;
use crate::contract::event::Forecast;
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::sync::discard_all;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch that has been cut, with the tasks' tensors still apart. They are kept until the batch is
/// answered, because half of it may have to run again.
///
/// Boxed wherever it goes: it is handed on many times, and large.
pub(crate) struct CutBatch<T> {
    pub(crate) station: Arc<Station<T>>,
    pub(crate) flight: Arc<Flight<T>>,
    /// The pool's rank when the batch was cut from it.
    pub(crate) rank: Rank,
    /// For each input of the block, the tasks' tensors.
    pub(crate) columns: Vec<Vec<T>>,
    /// The header of each task.
    pub(crate) headers: SmallVec<[TaskHeader; 1]>,
    /// For each task an empty vector for its outputs, or none.
    pub(crate) vectors: Vec<Vec<T>>,
    /// The tasks that are parts of larger ones, in order, and what their tensors are cut from.
    pub(crate) pieces: Vec<Piece<T>>,
    /// The tensors of the pieces are in the columns.
    pub(crate) is_cut: bool,
    /// What is to be freed once no lock is held: `Drop` of tensors is code of others.
    pub(super) spent: Spent<T>,
    /// When the tasks were cut from their pool.
    pub(crate) left_queue: Instant,
    /// When this batch was chosen: the same time, or later if it is half of one that failed.
    pub(crate) chosen: Instant,
    /// The time that it took to place the inputs on the device.
    pub(crate) gather: Duration,
    /// The time in the block; `None` until the block has been called.
    pub(crate) device: Option<Duration>,
    /// How the block's training stands after this batch, if it was a backward pass.
    pub(crate) training: Option<Training>,
    /// What was known of it when it was cut.
    pub(crate) forecast: Forecast,
    /// One of the tasks as it was run alone, if the batch is to be verified.
    pub(crate) alone: Option<Alone<T>>,
    /// How it was gathered, if its tasks may differ in size.
    pub(crate) laid: Option<Box<Laid>>,
    /// The outcomes so far of the batch that this one was half of.
    pub(crate) trial: Option<Arc<Trial>>,
    /// The policy has been told that these tasks ran, or do not.
    pub(crate) is_again: bool,
    /// The rows whose time is still counted as ahead of the device; none once the batch has begun.
    pub(crate) ahead: usize,
}

/// Tensors, and what cuts them, that serve no more.
pub(super) struct Spent<T> {
    pub(super) tensors: Vec<T>,
    pub(super) pieces: Vec<Piece<T>>,
}

impl<T> Spent<T> {
    pub(super) const fn new() -> Self {
        Self { tensors: Vec::new(), pieces: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tensors.is_empty() && self.pieces.is_empty()
    }
}

impl<T> CutBatch<T> {
    pub(crate) fn new(station: Arc<Station<T>>, rank: Rank, batch: Batch<T>, now: Instant) -> Box<Self> {
        let (mut headers, mut ahead) = (SmallVec::with_capacity(batch.tasks.len()), 0);
        for task in &batch.tasks {
            headers.push(task.header);
            ahead += task.header.rows;
        }
        let flight = Flight::new(station.id, batch.tasks, batch.shared);
        // Written in place: `Box::new` copies it.
        Box::write(
            Box::new_uninit(),
            Self {
                station,
                flight,
                rank,
                columns: batch.columns,
                headers,
                vectors: batch.vectors,
                is_cut: batch.pieces.is_empty(),
                pieces: batch.pieces,
                spent: Spent::new(),
                left_queue: now,
                chosen: now,
                gather: Duration::ZERO,
                device: None,
                training: None,
                forecast: Forecast::default(),
                alone: None,
                laid: None,
                trial: None,
                is_again: false,
                ahead,
            },
        )
    }

    pub(crate) fn rows(&self) -> usize {
        self.headers.iter().map(|header| header.rows).sum()
    }

    /// Notes that the policy has heard what was expected of its tasks, and what came of it.
    pub(crate) fn is_told(&mut self) {
        self.is_again = true;
        self.forecast.per_row = Duration::ZERO;
    }

    /// Notes how it was gathered, if its tasks may differ in size.
    #[inline]
    pub(crate) fn laid(&mut self, laid: Option<Box<Laid>>) {
        match laid.as_deref() {
            Some(Laid::Padded(sizes)) => {
                (self.forecast.padding, self.forecast.padded) = sizes.elements(&self.headers);
            }
            // What was known when it was cut is of all that waited.
            Some(Laid::Ragged(lengths)) => {
                let elements = lengths.of_row(&self.headers);
                let by = elements as f64 / self.forecast.elements.max(1) as f64;
                // The policy has heard of each task by its own elements, which stays.
                let per_row = Duration::try_from_secs_f64(self.forecast.per_row.as_secs_f64() * by);
                self.forecast.per_row = per_row.unwrap_or(self.forecast.per_row);
                self.forecast.elements = elements;
            }
            None => {}
        }
        self.laid = laid;
    }

    /// Frees what serves no more. To be called outside of all locks.
    #[inline]
    pub(crate) fn free_spent(&mut self) {
        if self.spent.is_empty() {
            return;
        }
        let Spent { tensors, pieces } = std::mem::replace(&mut self.spent, Spent::new());
        discard_all(tensors);
        discard_all(pieces);
    }

    /// Frees everything. To be called outside of all locks.
    pub(crate) fn free(mut self: Box<Self>) {
        self.free_spent();
        for column in &mut self.columns {
            discard_all(column.drain(..));
        }
        if !self.pieces.is_empty() {
            discard_all(std::mem::take(&mut self.pieces));
        }
    }

    /// Returns true if any of its tasks is a part of a larger one. One that was cut for a device that is lost has its tensors
    /// with it.
    pub(crate) fn has_parts(&self) -> bool {
        let is_part = |header: &TaskHeader| !(header.is_first && header.is_last);
        !self.pieces.is_empty() || (self.flight.is_shared() && self.headers.iter().any(is_part))
    }

    /// Returns true if it has one task, which is a part of several rows that can be cut again.
    pub(crate) fn is_divisible_part(&self) -> bool {
        self.pieces.len() == 1 && self.headers.len() == 1 && self.rows() > 1
    }
}

/// The inputs of a block, the columns of all tasks joined.
pub(crate) type Joined<T> = SmallVec<[T; 1]>;

/// The same beside how they were joined, if the tasks may differ in size.
pub(crate) type Gathered<T> = (Joined<T>, Option<Box<Laid>>);

/// A batch whose inputs are on the device.
pub(crate) struct GatheredBatch<T> {
    pub(crate) batch: Box<CutBatch<T>>,
    pub(crate) inputs: Joined<T>,
}

/// A batch that is over: outputs on the device, or the reason why there are none.
pub(crate) struct DoneBatch<T> {
    pub(crate) batch: Box<CutBatch<T>>,
    /// They have served, and are freed where the batch is delivered, not on the device thread.
    pub(crate) inputs: Joined<T>,
    pub(crate) outputs: Result<Vec<T>, Arc<BatchError>>,
}
