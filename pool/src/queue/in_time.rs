//! Answers in time: what comes too late takes no device time.

use super::Queue;
use super::item::{Item, Place};
use super::moment::Moment;
use skep_runtime_core::Price;
use skep_runtime_core::pool::Terms;
use std::time::Duration;

/// So much more may a row cost in a batch that is made smaller for the first one to be answered in time; else it costs the
/// others more than it is worth.
const DEARER: f64 = 1.02;

/// What is left of the shortest time for a batch, so that whoever comes just after it was cut is answered in time.
const PART: u32 = 3;

/// So much more a row may cost in a batch that is made smaller for those who may come.
const A_LITTLE: f64 = 1.1;

/// The part of the way to a longer time that each task of more time goes.
const FORGETS: u32 = 64;

impl<I: Item<Rank = Place>> Queue<I> {
    /// Notes the time that a task has until its deadline.
    pub(super) fn note_time_left(&mut self, time: Duration) {
        let shortest = self.shortest.unwrap_or(time);
        self.shortest = Some(time.min(shortest + time.saturating_sub(shortest) / FORGETS));
    }

    /// The rows of a batch that is not too long for whoever comes while it runs, if fewer rows cost little more each.
    fn not_too_long(&self, rows: usize, price: &Price) -> Option<usize> {
        let fit = price.rows_within(self.shortest? / PART).max(1);
        (fit < rows && price.share(fit) <= price.share(rows).mul_f64(A_LITTLE)).then_some(fit)
    }

    /// Puts aside the first tasks of a group that cannot be answered in time, or only in a batch too small for those that
    /// wait. Returns the rows of a batch in which the first one that is left is answered in time.
    pub(super) fn in_time(&mut self, at: usize, room: usize, terms: &Terms, moment: &Moment<'_>) -> usize {
        let Some(price) = terms.price else { return room };
        let room = self.not_too_long(room.min(self.groups[at].rows), &price).unwrap_or(room);
        while let Some((key, first)) = self.groups[at].items.first() {
            let Some(deadline) = first.header().deadline else { return room };
            let wanted = self.groups[at].rows.min(room);
            let fit = price.rows_within(deadline.saturating_duration_since(terms.begins));
            let is_cheap = || price.share(fit) <= price.share(wanted).mul_f64(DEARER);
            if fit >= wanted || (fit >= first.rows() && is_cheap()) {
                return room.min(fit);
            }
            self.set_aside(at, key, moment);
        }
        room
    }
}
