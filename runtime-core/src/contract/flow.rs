//! Flows: on whose account tasks run.

use std::fmt;

/// The account on which a task runs: a tenant, a user, a job. A fair policy shares the device among flows.
///
/// The application numbers its flows. A task that names none is on the account of its pool.
///
/// ```
/// use skep_runtime_core::{Flow, Request};
///
/// let request = Request::new(vec![1.0]).flow(Flow(7));
/// assert_eq!(request.flow, Some(Flow(7)));
/// assert_ne!(Flow(7), Flow::POOL);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u32);

impl Flow {
    /// The account of the pool that the task is handed to.
    pub const POOL: Self = Self(0);
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::POOL { f.write_str("pool") } else { write!(f, "flow {}", self.0) }
    }
}
