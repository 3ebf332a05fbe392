//! Start-time fair queueing: the tags of flows.

use crate::contract::flow::Flow;
use crate::contract::id::PoolId;
use crate::contract::policy::Ran;
use crate::contract::priority::Priority;
use crate::contract::rank::{Rank, whole};
use crate::contract::task::TaskHeader;
use crate::policy::back::Back;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// On whose account a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    Flow(Flow),
    Pool(PoolId),
}

impl Account {
    fn of(pool: PoolId, task: &TaskHeader) -> Self {
        if task.flow == Flow::POOL { Self::Pool(pool) } else { Self::Flow(task.flow) }
    }
}

/// The tags of all flows that are remembered.
#[derive(Debug)]
pub(crate) struct Tags {
    weights: HashMap<Flow, f64>,
    otherwise: f64,
    flows: HashMap<Account, Served>,
    /// The tag of the flow that was served last.
    serving: i64,
    /// The highest tag.
    highest: i64,
    /// Accounts that are on the device or were there a moment ago.
    recent: Vec<Account>,
    /// Accounts that were left when those of the past were last forgotten.
    kept: usize,
}

/// What a flow has had.
#[derive(Clone, Debug)]
struct Served {
    /// Nanoseconds on the device by its weight; of what is on its way, those that are expected.
    tag: i64,
    weight: f64,
    in_flight: u32,
    answered: Option<Instant>,
    back: Back,
    is_recent: bool,
}

impl Served {
    /// Charges device time, or gives some back if it is negative. Returns the tag.
    fn charge(&mut self, nanos: f64) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "centuries saturate")]
        let due = (nanos / self.weight) as i64;
        self.tag = self.tag.saturating_add(due);
        self.tag
    }
}

/// The part of a batch's time for which the device may wait for somebody whose turn comes first.
const PATIENCE: u32 = 20;
/// Accounts below which none are forgotten.
const FEW: usize = 64;

impl Tags {
    pub(crate) fn new() -> Self {
        Self {
            weights: HashMap::new(),
            otherwise: 1.0,
            flows: HashMap::new(),
            serving: 0,
            highest: 0,
            recent: Vec::new(),
            kept: 0,
        }
    }

    /// Sets the weight of a flow, or that of all flows that have none of their own.
    pub(crate) fn set_weight(&mut self, flow: Option<Flow>, weight: f64) {
        let weight = if weight.is_nan() { 1.0 } else { weight.clamp(0.001, 1000.0) };
        match flow {
            Some(flow) => drop(self.weights.insert(flow, weight)),
            None => self.otherwise = weight,
        }
    }

    /// The same weights, and nothing served yet.
    pub(crate) fn anew(&self) -> Self {
        Self { weights: self.weights.clone(), otherwise: self.otherwise, ..Self::new() }
    }

    fn served(&mut self, account: Account) -> &mut Served {
        if self.flows.len() > 2 * self.kept + FEW {
            self.forget_the_past();
        }
        let Self { weights, otherwise, serving, .. } = self;
        self.flows.entry(account).or_insert_with(|| Served {
            tag: *serving,
            weight: match account {
                Account::Flow(flow) => weights.get(&flow).copied().unwrap_or(*otherwise),
                Account::Pool(_) => *otherwise,
            },
            in_flight: 0,
            answered: None,
            back: Back::default(),
            is_recent: false,
        })
    }

    /// Forgets accounts that nothing is known of that a new one would not have.
    fn forget_the_past(&mut self) {
        let serving = self.serving;
        self.flows.retain(|_, served| served.tag > serving || served.in_flight > 0 || served.is_recent);
        self.kept = self.flows.len();
    }

    pub(crate) fn rank(&mut self, pool: PoolId, task: &TaskHeader) -> Rank {
        let serving = self.serving;
        let served = self.served(Account::of(pool, task));
        // No flow that waits has a lower tag than the one that is served: this one was away.
        served.tag = served.tag.max(serving);
        Rank::new(Priority::NORMAL, served.tag)
    }

    /// Returns true if a task's flow is charged with what is expected, and not yet with what it was.
    pub(crate) fn may_fall(&self, pool: PoolId, task: &TaskHeader) -> bool {
        self.flows.get(&Account::of(pool, task)).is_some_and(|served| served.in_flight > 0)
    }

    pub(crate) fn took(&mut self, pool: PoolId, task: &TaskHeader, expected: Duration, first: bool) {
        let account = Account::of(pool, task);
        let serving = self.serving;
        let served = self.served(account);
        served.tag = served.tag.max(serving);
        let start = served.tag;
        let highest = served.charge(whole(expected) as f64);
        served.in_flight += 1;
        if let Some(answered) = served.answered.take() {
            served.back.note(task.submitted.checked_duration_since(answered));
        }
        if !std::mem::replace(&mut served.is_recent, true) {
            self.recent.push(account);
        }
        if first {
            self.serving = start;
        }
        self.highest = self.highest.max(highest);
    }

    pub(crate) fn ran(&mut self, ran: &Ran<'_>) {
        for (task, expected, device) in ran.shares() {
            let served = self.served(Account::of(ran.pool, task));
            let tag = served.charge(whole(device) as f64 - whole(expected) as f64);
            served.in_flight = served.in_flight.saturating_sub(u32::from(!ran.again));
            served.answered = Some(ran.ended);
            self.highest = self.highest.max(tag);
            // It was charged too much, and is behind again: it was not away.
            self.serving = self.serving.min(tag);
        }
    }

    pub(crate) fn idle(&mut self) {
        // Nobody waits, so nobody is behind.
        self.serving = self.highest;
    }

    pub(crate) fn hold(&mut self, rank: Rank, expected: Duration, now: Instant) -> Option<Instant> {
        let (flows, serving, patience) = (&mut self.flows, self.serving, expected / PATIENCE);
        let mut until = None;
        self.recent.retain(|account| {
            let Some(served) = flows.get_mut(account) else { return false };
            // On the device still: it is answered in a moment, or later.
            let since = if served.in_flight > 0 { Some(now) } else { served.answered };
            let back = since.and_then(|since| since.checked_add(served.back.limit()?));
            let comes = back.filter(|&back| back > now);
            served.is_recent = served.in_flight > 0 || comes.is_some();
            if let Some(back) = comes
                && served.tag.max(serving) < rank.key()
                && back.saturating_duration_since(now) <= patience
            {
                until = until.max(Some(back));
            }
            served.is_recent
        });
        until
    }
}

#[cfg(test)]
mod tests;
