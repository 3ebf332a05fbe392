//! Fair sharing of device time among flows.

use crate::contract::flow::Flow;
use crate::contract::id::PoolId;
use crate::contract::policy::{Facts, Policy, Ran};
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::policy::tags::Tags;
use crate::sync::Mutex;
use std::fmt;
use std::time::{Duration, Instant};

/// The order that shares *measured device time* among [flows](Flow) by weight, wherever their tasks wait. Tasks of one
/// flow run in the order in which they were submitted; priorities mean nothing, unless [`Classes`](crate::Classes) are
/// around it.
///
/// Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): each flow has a tag, the device time that it has had by
/// its weight; the lowest runs next. A task is charged with the time that it is expected to take when it is cut, and the
/// charge is corrected by the measured time. A flow that comes back after a pause starts at the tag of the flow that is
/// served then, so it piles up no credit. Flows that always wait differ in the time that they are served, by their
/// weights, by at most two of their largest batches, over any interval.
///
/// A flow that was just answered and is known to come back soon is waited for, where that costs the device little.
///
/// ```
/// use skep_runtime_core::{Fair, Flow};
///
/// let fair = Fair::new().weight(Flow(1), 2.0).otherwise(0.5);
/// # let _ = fair;
/// ```
pub struct Fair(Mutex<Tags>);

impl Fair {
    /// Creates the fair order, in which every flow has the weight 1.
    pub fn new() -> Self {
        Self(Mutex::new(Tags::new()))
    }

    /// Sets the weight of a flow: of two flows that always wait, one of twice the weight gets twice the device time. A
    /// weight that is no number from 0.001 to 1,000 is brought into that range.
    pub fn weight(self, flow: Flow, weight: f64) -> Self {
        self.0.lock().set_weight(Some(flow), weight);
        self
    }

    /// Sets the weight of flows that have none of their own. Default 1.
    pub fn otherwise(self, weight: f64) -> Self {
        self.0.lock().set_weight(None, weight);
        self
    }
}

impl fmt::Debug for Fair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fair").field(&*self.0.lock()).finish()
    }
}

impl Default for Fair {
    fn default() -> Self {
        Self::new()
    }
}

/// The weights, without what was served.
impl Clone for Fair {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().anew()))
    }
}

impl Policy for Fair {
    fn name(&self) -> &'static str {
        "fair"
    }

    fn facts(&self) -> Facts {
        Facts { flow: true, ..Facts::NONE }
    }

    fn rank(&self, pool: PoolId, task: &TaskHeader) -> Rank {
        self.0.lock().rank(pool, task)
    }

    fn listens(&self) -> bool {
        true
    }

    fn may_fall(&self, pool: PoolId, task: &TaskHeader) -> bool {
        self.0.lock().may_fall(pool, task)
    }

    fn took(&self, pool: PoolId, task: &TaskHeader, expected: Duration, first: bool) {
        self.0.lock().took(pool, task, expected, first);
    }

    fn ran(&self, ran: &Ran<'_>) {
        self.0.lock().ran(ran);
    }

    fn idle(&self) {
        self.0.lock().idle();
    }

    fn hold(&self, rank: Rank, expected: Duration, now: Instant) -> Option<Instant> {
        self.0.lock().hold(rank, expected, now)
    }
}
