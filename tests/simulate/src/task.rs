//! Tasks, as all rules see them.

/// A time of the simulation, in nanoseconds since its beginning.
pub(crate) type Nanos = u64;

pub(crate) const MS: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1_000 * MS;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times are positive, and short")]
pub(crate) fn millis(time: f64) -> Nanos {
    (time * 1e6).round() as Nanos
}

pub(crate) fn seconds(time: f64) -> Nanos {
    millis(time * 1e3)
}

/// A task of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// The place among all tasks of the simulation.
    pub(crate) id: u32,
    pub(crate) model: u32,
    pub(crate) flow: u32,
    pub(crate) priority: i32,
    pub(crate) elements: u32,
    pub(crate) arrived: Nanos,
    /// The time in which it should be answered.
    pub(crate) objective: Nanos,
    /// The caller who waits for it before it sends the next one.
    pub(crate) caller: Option<u32>,
}

impl Task {
    pub(crate) fn due(&self) -> Nanos {
        self.arrived + self.objective
    }
}
