//! Ranks: the order in which batches run, without its reasons.

use crate::contract::priority::Priority;
use std::time::Instant;

/// The rank of a batch: the lowest runs next. Opaque: who keeps ranks in order knows nothing of priorities or times,
/// so that another policy may make other ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: Priority,
    since: Instant,
}

impl Rank {
    /// Creates the rank of a batch of this class, which runs after those of lower classes and, within the class, after
    /// those of earlier times.
    pub(super) const fn new(class: Priority, since: Instant) -> Self {
        Self { class, since }
    }
}
