//! The counts of a pool.

/// The counts of a pool since it was made, or taken over by another runtime. Every task that was ever submitted is
/// `refused`, `cancelled`, `expired`, `shut_down`, still waiting, or was cut into a batch that ran or is to run. A task
/// is counted before its caller has the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that callers handed in, the refused ones included.
    pub submitted: u64,
    /// Tasks given back at once.
    pub refused: u64,
    /// Tasks whose ticket was dropped before they were cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they ran.
    pub expired: u64,
    /// Tasks given up before they ran, at shutdown or because the device was lost.
    pub shut_down: u64,
    /// Tasks waiting now.
    pub waiting: u64,
    /// Rows waiting now.
    pub waiting_rows: u64,
}

/// The name and the counts of a pool, without its tensor type.
pub trait Meter: Send + Sync {
    /// Returns the pool's name.
    fn name(&self) -> &str;

    /// Returns the counts at this moment.
    fn counts(&self) -> Counts;
}
