//! Answers in time: what comes too late takes no device time.

use super::Queue;
use super::item::{Item, Place};
use super::moment::Moment;
use skep_runtime_core::pool::Terms;

/// So much more may a row cost in a batch that is made smaller for the first one to be answered in time; else it costs the
/// others more than it is worth.
const DEARER: f64 = 1.02;

impl<I: Item<Rank = Place>> Queue<I> {
    /// Puts aside the first tasks of a group that cannot be answered in time, or only in a batch too small for those that
    /// wait. Returns the rows of a batch in which the first one that is left is answered in time.
    pub(super) fn in_time(&mut self, at: usize, room: usize, terms: &Terms, moment: &Moment<'_>) -> usize {
        let Some(price) = terms.price else { return room };
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
