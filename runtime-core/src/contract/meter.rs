//! The counts of a pool.

use crate::contract::error::submit::SubmitError;
use std::ops::{Add, Sub};

/// The counts of a pool since it was made; those of a runtime's [meter](Meter), its own share of them. Every task that was ever submitted is
/// `refused`, `cancelled`, `expired`, `evicted`, `failed`, `shut_down`, still waiting, or was cut into a batch that ran or
/// is to run. A task counts once, in however many parts it runs, and before its caller has the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Tasks that callers handed in, the refused ones included.
    pub submitted: u64,
    /// Tasks given back at once.
    pub refused: u64,
    /// Those of `refused` whose reason was noted.
    pub refusals: Refusals,
    /// Tasks whose ticket was dropped before all of them was cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they ran.
    pub expired: u64,
    /// Tasks that had to leave a full queue for more urgent ones.
    pub evicted: u64,
    /// Tasks that failed without being run, because they could not be cut to fit a batch.
    pub failed: u64,
    /// Tasks given up before they ran, at shutdown, because the device was lost, or because the block was removed.
    pub shut_down: u64,
    /// Tasks waiting now, those included that have expired and are about to be told. One of which a part has been cut
    /// waits no more.
    pub waiting: u64,
    /// Rows waiting now, those included that are left of tasks of which a part has been cut.
    pub waiting_rows: u64,
}

impl Counts {
    /// Sets [`submitted`](Self#structfield.submitted).
    pub fn submitted(mut self, submitted: u64) -> Self {
        self.submitted = submitted;
        self
    }

    /// Sets [`refused`](Self#structfield.refused).
    pub fn refused(mut self, refused: u64) -> Self {
        self.refused = refused;
        self
    }

    /// Sets [`cancelled`](Self#structfield.cancelled).
    pub fn cancelled(mut self, cancelled: u64) -> Self {
        self.cancelled = cancelled;
        self
    }

    /// Sets [`expired`](Self#structfield.expired).
    pub fn expired(mut self, expired: u64) -> Self {
        self.expired = expired;
        self
    }

    /// Sets [`evicted`](Self#structfield.evicted).
    pub fn evicted(mut self, evicted: u64) -> Self {
        self.evicted = evicted;
        self
    }

    /// Sets [`failed`](Self#structfield.failed).
    pub fn failed(mut self, failed: u64) -> Self {
        self.failed = failed;
        self
    }

    /// Sets [`shut_down`](Self#structfield.shut_down).
    pub fn shut_down(mut self, shut_down: u64) -> Self {
        self.shut_down = shut_down;
        self
    }

    /// Sets [`waiting`](Self#structfield.waiting).
    pub fn waiting(mut self, waiting: u64) -> Self {
        self.waiting = waiting;
        self
    }

    /// Sets [`waiting_rows`](Self#structfield.waiting_rows).
    pub fn waiting_rows(mut self, waiting_rows: u64) -> Self {
        self.waiting_rows = waiting_rows;
        self
    }
}

/// Refused tasks by the reason: `invalid`, `full`, `deadline passed`, `too late`, `stopped` and `misuse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Self::REASONS.len()]);

impl Refusals {
    const REASONS: [&'static str; 6] =
        ["invalid", "full", "deadline passed", "too late", "stopped", "misuse"];

    /// Notes a refusal.
    pub fn note(&mut self, error: &SubmitError) {
        let reason = match error {
            SubmitError::Full { .. } => 1,
            SubmitError::DeadlinePassed => 2,
            SubmitError::TooLate { .. } => 3,
            SubmitError::ShutDown | SubmitError::DeviceLost(_) | SubmitError::Removed => 4,
            SubmitError::WouldDeadlock => 5,
            _ => 0,
        };
        self.0[reason] += 1;
    }

    /// Returns each reason for which tasks were refused, and how many.
    pub fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::REASONS.into_iter().zip(self.0).filter(|(_, tasks)| *tasks > 0)
    }
}

impl Add for Refusals {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (own, more) in self.0.iter_mut().zip(other.0) {
            *own += more;
        }
        self
    }
}

/// The counts of two pools together.
impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            submitted: self.submitted + other.submitted,
            refused: self.refused + other.refused,
            refusals: self.refusals + other.refusals,
            cancelled: self.cancelled + other.cancelled,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
            failed: self.failed + other.failed,
            shut_down: self.shut_down + other.shut_down,
            waiting: self.waiting + other.waiting,
            waiting_rows: self.waiting_rows + other.waiting_rows,
        }
    }
}

impl Sub for Refusals {
    type Output = Self;

    fn sub(mut self, part: Self) -> Self {
        for (own, less) in self.0.iter_mut().zip(part.0) {
            *own = own.saturating_sub(less);
        }
        self
    }
}

/// What is left of counts without a part of them.
impl Sub for Counts {
    type Output = Self;

    fn sub(self, part: Self) -> Self {
        Self {
            submitted: self.submitted.saturating_sub(part.submitted),
            refused: self.refused.saturating_sub(part.refused),
            refusals: self.refusals - part.refusals,
            cancelled: self.cancelled.saturating_sub(part.cancelled),
            expired: self.expired.saturating_sub(part.expired),
            evicted: self.evicted.saturating_sub(part.evicted),
            failed: self.failed.saturating_sub(part.failed),
            shut_down: self.shut_down.saturating_sub(part.shut_down),
            waiting: self.waiting.saturating_sub(part.waiting),
            waiting_rows: self.waiting_rows.saturating_sub(part.waiting_rows),
        }
    }
}

/// The name and the counts of a pool, without its tensor type.
pub trait Meter: Send + Sync {
    /// Returns the pool's name.
    fn name(&self) -> &str;

    /// Returns the counts at this moment.
    fn counts(&self) -> Counts;
}
