//! The counts of a pool.

/// The counts of a pool since it was made, or taken over by another runtime. Every task that was ever submitted is
/// `refused`, `cancelled`, `expired`, `evicted`, `failed`, `shut_down`, still waiting, or was cut into a batch that ran or
/// is to run. A task counts once, in however many parts it runs, and before its caller has the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that callers handed in, the refused ones included.
    pub submitted: u64,
    /// Tasks given back at once.
    pub refused: u64,
    /// Tasks whose ticket was dropped before all of them was cut.
    pub cancelled: u64,
    /// Tasks whose deadline passed before they ran.
    pub expired: u64,
    /// Tasks that had to leave a full queue for more urgent ones.
    pub evicted: u64,
    /// Tasks that failed without being run, because they could not be cut to fit a batch.
    pub failed: u64,
    /// Tasks given up before they ran, at shutdown or because the device was lost.
    pub shut_down: u64,
    /// Tasks waiting now. One of which a part has been cut waits no more.
    pub waiting: u64,
    /// Rows waiting now, those included that are left of tasks of which a part has been cut.
    pub waiting_rows: u64,
}

/// The name and the counts of a pool, without its tensor type.
pub trait Meter: Send + Sync {
    /// Returns the pool's name.
    fn name(&self) -> &str;

    /// Returns the counts at this moment.
    fn counts(&self) -> Counts;
}
