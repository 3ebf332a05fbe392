//! The counts of a soak.

use std::fmt;
use std::ops::AddAssign;

/// The counts of a soak. Those before `lost` say what there was; those from `lost` on must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runtimes started, or meant to be.
    pub lives: u64,
    /// Calls that handed a task in.
    pub submitted: u64,
    /// Tasks that got their outputs.
    pub succeeded: u64,
    /// Tasks whose batch failed.
    pub failed: u64,
    /// Tasks whose ticket was dropped.
    pub dropped: u64,
    /// Tasks that expired.
    pub expired: u64,
    /// Tasks that had to leave a full queue for others.
    pub evicted: u64,
    /// Tasks given up at a shutdown, or because their block was removed.
    pub shut_down: u64,
    /// Tasks given up when the device was lost.
    pub device_lost: u64,
    /// Tasks given back at submit.
    pub refused: u64,
    /// Calls given up while they waited for room. They are not among the submitted ones, although some of their tasks
    /// had just been let in, and were cancelled.
    pub given_up: u64,
    /// Tasks that had no answer when every wait was over.
    pub lost: u64,
    /// Tasks answered more than once, and rows run again although they had run well.
    pub doubled: u64,
    /// Outputs that do not belong to their inputs.
    pub mixed_up: u64,
    /// Tasks that were answered as expired and ran all the same.
    pub late: u64,
    /// Tasks that failed because of the contents of another one.
    pub harmed: u64,
    /// Tasks that were told of the loss of a device although another one could have run them.
    pub not_passed_on: u64,
    /// Tasks that the runtime's accounts and the callers count differently, or that have no end in them.
    pub unbalanced: u64,
    /// Tensors, and devices, that were left when their runtime had ended.
    pub tensors_left: u64,
    /// Threads that were left in the end.
    pub threads_left: u64,
    /// Bytes that were allocated in the end and had not been in the beginning.
    pub bytes_left: u64,
}

impl Report {
    /// Returns true if nothing was lost, doubled, mixed up, late, harmed, kept from other devices, counted differently or left.
    pub fn is_clean(&self) -> bool {
        self.wrong().iter().all(|(_, count)| *count == 0)
    }

    /// Returns the number of tasks that ended, in any way.
    pub(super) fn ended(&self) -> u64 {
        let given_up = self.shut_down + self.device_lost;
        self.succeeded + self.failed + self.dropped + self.expired + self.evicted + given_up + self.refused
    }

    fn wrong(&self) -> [(&'static str, u64); 10] {
        [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("mixed up", self.mixed_up),
            ("late", self.late),
            ("harmed", self.harmed),
            ("not passed on", self.not_passed_on),
            ("unbalanced", self.unbalanced),
            ("tensors left", self.tensors_left),
            ("threads left", self.threads_left),
            ("bytes left", self.bytes_left),
        ]
    }

    fn seen(&self) -> [(&'static str, u64); 12] {
        [
            ("runtimes", self.lives),
            ("submitted", self.submitted),
            ("succeeded", self.succeeded),
            ("failed", self.failed),
            ("dropped", self.dropped),
            ("expired", self.expired),
            ("evicted", self.evicted),
            ("shut down", self.shut_down),
            ("device lost", self.device_lost),
            ("refused", self.refused),
            ("sum of ends", self.ended()),
            ("given up", self.given_up),
        ]
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.lives += other.lives;
        self.submitted += other.submitted;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.expired += other.expired;
        self.evicted += other.evicted;
        self.shut_down += other.shut_down;
        self.device_lost += other.device_lost;
        self.refused += other.refused;
        self.given_up += other.given_up;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.mixed_up += other.mixed_up;
        self.late += other.late;
        self.harmed += other.harmed;
        self.not_passed_on += other.not_passed_on;
        self.unbalanced += other.unbalanced;
        self.tensors_left += other.tensors_left;
        self.threads_left += other.threads_left;
        self.bytes_left += other.bytes_left;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in self.seen().iter().chain(&self.wrong()) {
            writeln!(f, "{what:<13} {count:>12}")?;
        }
        Ok(())
    }
}
