//! Riders: less urgent tasks in a batch of urgent ones.

use super::item::{Item, Place};
use skep_runtime_core::Priority;
use skep_runtime_core::pool::Terms;

/// The rows of a batch by their class: the first one's, and those that ride with it.
pub(super) struct Riders<'a> {
    terms: &'a Terms,
    class: Option<Priority>,
    rows: usize,
    /// The most rows, once there are any of another class.
    most: Option<usize>,
}

impl<'a> Riders<'a> {
    pub(super) const fn new(terms: &'a Terms) -> Self {
        Self { terms, class: None, rows: 0, most: None }
    }

    /// Returns true if an item of this rank may be in the batch.
    pub(super) fn admit(&mut self, rank: Place, item: &impl Item) -> bool {
        let class = rank.class();
        if class > *self.class.get_or_insert(class) {
            let most = *self.most.get_or_insert_with(|| self.terms.rows_with_riders(self.rows));
            if self.rows.saturating_add(item.rows()) > most {
                return false;
            }
        }
        self.rows = self.rows.saturating_add(item.rows());
        true
    }
}
