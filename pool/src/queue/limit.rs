//! The most that a batch may have: rows, and elements of all rows together.

use super::item::Item;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) rows: usize,
    /// [`usize::MAX`] if they are not bounded.
    pub(crate) elements: usize,
}

impl Limit {
    /// The rows of an item that fit.
    #[inline]
    pub(crate) fn rows_of(self, item: &impl Item) -> usize {
        if self.elements == usize::MAX {
            return self.rows;
        }
        self.rows.min(self.elements / item.elements_of_row())
    }

    /// Returns true if so many rows, of so many elements in all, fit.
    #[inline]
    pub(crate) const fn fits(self, rows: usize, elements: usize) -> bool {
        rows <= self.rows && elements <= self.elements
    }

    /// What is left of it beside an item.
    #[inline]
    pub(crate) fn without(self, item: &impl Item) -> Self {
        let rows = self.rows.saturating_sub(item.rows());
        let elements = match self.elements {
            usize::MAX => usize::MAX,
            elements => elements.saturating_sub(item.elements()),
        };
        Self { rows, elements }
    }
}
