//! The selector: which pool runs next, when its batch is cut, and on which terms.
//!
//! It holds all that is learned of the pools: what their batches cost, how long they take to gather, how fast their
//! callers come back. Pure data, told what happens; the runtime and the simulator drive it alike.

mod known;
mod news;

use self::known::Table;
use crate::contract::event::{CutReason, Forecast};
use crate::contract::id::PoolId;
use crate::contract::policy::Policy;
use crate::contract::pool::{Look, Outlook, Terms};
use crate::contract::rank::Rank;
use crate::contract::task::TaskHeader;
use crate::policy::company::{Moment, wait_for_company};
use crate::policy::index::{Entry, Index};
use crate::policy::timing::{Margin, just_in_time, rows_in_time};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How cuts are timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Cuts a batch when its gather would end as the running batch does, not as soon as there is room.
    pub just_in_time: bool,
    /// Waits for callers who were just answered, where that pays.
    pub linger: bool,
    /// The part of its time by which an urgent batch may become longer for less urgent tasks.
    pub riders: f64,
    /// The device time below which a batch is too short for any of this.
    pub least: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { just_in_time: true, linger: true, riders: 0.1, least: Duration::from_micros(50) }
    }
}

/// The selector's answer.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// Cut a batch of this pool, if its most urgent task still has this rank.
    Cut(Choice),
    /// Ask again then, or when a pool rings.
    Wait(Instant),
    /// Ask again when the device is free, or when a pool rings.
    UntilFree,
    /// No pool is ready.
    Nothing,
}

/// A pool that was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The pool.
    pub pool: PoolId,
    /// The rank of its most urgent task.
    pub rank: Rank,
    /// The terms on which to cut.
    pub terms: Terms,
    /// True if the terms allow fewer rows because of a deadline.
    for_deadline: bool,
    outlook: Outlook,
}

/// The batch on the device, if something is known of its pool.
#[derive(Clone, Copy, Debug)]
struct Running {
    pool: PoolId,
    rows: usize,
    /// When it is expected to end.
    ends: Instant,
}

/// The selector of one runtime.
pub struct Selector {
    policy: Arc<dyn Policy>,
    listens: bool,
    timing: Timing,
    index: Index,
    pools: Table,
    running: Option<Running>,
    /// Expected device time of the batches with a price that were cut and have not begun.
    ahead: Duration,
    margin: Margin,
    /// For which pool a cut is being put off, why, and since when.
    put_off: Option<(PoolId, CutReason, Instant)>,
    /// Until when the policy first wished to wait for tasks that may come, since the last batch was cut.
    held: Option<Instant>,
    /// Pools whose ranks may have fallen.
    fallen: Vec<PoolId>,
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("policy", &self.policy.name()).finish_non_exhaustive()
    }
}

impl Selector {
    /// Creates the selector of a runtime in which nothing has run yet.
    pub fn new(policy: Arc<dyn Policy>, timing: Timing) -> Self {
        Self {
            listens: policy.listens(),
            policy,
            timing,
            index: Index::default(),
            pools: Table::default(),
            running: None,
            ahead: Duration::ZERO,
            margin: Margin::default(),
            put_off: None,
            held: None,
            fallen: Vec::new(),
        }
    }

    /// Returns the policy.
    pub fn policy(&self) -> &Arc<dyn Policy> {
        &self.policy
    }

    /// Files a pool by how it looks.
    #[inline]
    pub fn note(&mut self, pool: PoolId, look: Look) {
        self.index.note(pool, look.into());
    }

    /// Files a pool that wants to be looked at now as one that has nothing to do: it rings.
    pub fn note_looked_at(&mut self, pool: PoolId, look: Look, now: Instant) {
        match look {
            Look::At(time) if time <= now => self.index.note(pool, Entry::Idle),
            look => self.note(pool, look),
        }
    }

    /// Returns the lowest rank of the pools that are ready.
    pub fn first(&self) -> Option<Rank> {
        self.index.first().map(|(rank, _)| rank)
    }

    /// Returns the pool that wants to be looked at next, and when.
    pub fn next_look(&self) -> Option<(Instant, PoolId)> {
        self.index.next_look()
    }

    /// Chooses. `most_rows` gives the most rows that the device has room for.
    #[inline]
    pub fn next(&mut self, now: Instant, most_rows: impl Fn(PoolId) -> usize) -> Next {
        let Some((pool, outlook)) = self.index.next() else {
            return Next::Nothing;
        };
        let terms = Terms::new(now, most_rows(pool));
        let choice = Choice { pool, rank: outlook.rank, terms, for_deadline: false, outlook: *outlook };
        match self.pools.get(pool) {
            Some(known) if known.is_worth_it => self.consider(choice),
            _ => Next::Cut(choice),
        }
    }

    /// Decides on a pool of which something is known.
    fn consider(&mut self, mut choice: Choice) -> Next {
        let Choice { pool, outlook, .. } = choice;
        let now = choice.terms.now;
        let Some(known) = self.pools.get(pool) else { return Next::Cut(choice) };
        let Some(price) = known.prices.of(outlook.elements) else { return Next::Cut(choice) };
        choice.terms.price = Some(price);
        choice.terms.elements = outlook.elements;
        choice.terms.riders = self.timing.riders;
        let most = outlook.max_rows.min(choice.terms.most_rows).max(1);
        let rows = outlook.rows.min(most);
        choice.terms.per_row = price.share(rows);
        let gather = known.gather.of(rows);
        let free = self.free(now);
        if !outlook.at_once {
            if let Some(until) = self.policy.hold(outlook.rank, price.of(rows), now) {
                if self.running.is_some() {
                    self.put_off(pool, CutReason::Linger, now);
                    return Next::UntilFree;
                }
                // An idle device waits once: a policy that wished it anew each time would have nothing run.
                let until = until.min(*self.held.get_or_insert(until));
                if until > now {
                    self.put_off(pool, CutReason::Linger, now);
                    return Next::Wait(until);
                }
            }
            let on_device =
                self.running.filter(|running| running.pool == pool).map_or(0, |running| running.rows);
            let moment = Moment {
                now,
                waiting: outlook.rows,
                in_flight: known.in_flight + known.answering,
                answering: on_device + known.answering,
                most,
                price,
                free,
                gather,
            };
            self.pools.entry(pool).returns.are_there(moment.waiting + moment.in_flight);
            if let Some(until) = self.company(pool, &moment, outlook.deadline) {
                return until;
            }
        }
        if let Some(free) = free
            && self.timing.just_in_time
            && let Some(at) = just_in_time(now, free, gather, self.margin)
        {
            self.put_off(pool, CutReason::JustInTime, now);
            return Next::Wait(at);
        }
        let begin = free.unwrap_or(now) + gather;
        choice.terms.begins = begin;
        if let Some(deadline) = self.index.first_deadline()
            && let Some(fit) = rows_in_time(&price, rows, begin, deadline)
            && self.others_wait(rows, &outlook)
        {
            choice.terms.most_rows = choice.terms.most_rows.min(fit);
            choice.for_deadline = true;
        }
        Next::Cut(choice)
    }

    /// Returns true if tasks wait that are not in the batch that could be cut.
    fn others_wait(&self, rows: usize, outlook: &Outlook) -> bool {
        outlook.rows > rows || !self.index.is_alone()
    }

    /// Waits for callers to come back, if that pays and nobody else could run meanwhile.
    fn company(&mut self, pool: PoolId, moment: &Moment, deadline: Option<Instant>) -> Option<Next> {
        if !self.timing.linger || !self.index.is_alone() {
            return None;
        }
        let known = self.pools.get(pool)?;
        let wait = wait_for_company(&known.returns, moment)?;
        // A task that would expire meanwhile is worth more than company.
        let latest = deadline.and_then(|deadline| deadline.checked_sub(moment.gather + self.margin.get()));
        let until = latest.map_or(wait.until, |latest| wait.until.min(latest));
        if until <= moment.now {
            return None;
        }
        self.pools.entry(pool).wanted = Some(wait.rows);
        self.put_off(pool, CutReason::Linger, moment.now);
        let is_later = moment.free.is_none_or(|free| until >= free);
        Some(if self.running.is_some() && is_later { Next::UntilFree } else { Next::Wait(until) })
    }

    /// Returns the rows with which a pool whose cut is put off is to ring, once.
    pub fn take_wanted(&mut self, pool: PoolId) -> Option<usize> {
        self.pools.get_mut(pool)?.wanted.take()
    }

    /// Returns the pool whose cut is being put off.
    pub fn waits_for(&self) -> Option<PoolId> {
        self.put_off.map(|(pool, ..)| pool)
    }

    fn put_off(&mut self, pool: PoolId, why: CutReason, now: Instant) {
        let since = self.put_off.filter(|(of, ..)| *of == pool).map_or(now, |(.., since)| since);
        self.put_off = Some((pool, why, since));
    }

    /// Returns when the device comes free, if it is busy and that can be told.
    fn free(&self, now: Instant) -> Option<Instant> {
        let running = self.running?;
        Some(running.ends.max(now) + self.ahead)
    }

    /// Notes that a batch was cut as it was chosen, and how its pool looks now.
    #[inline]
    pub fn was_cut(&mut self, choice: &Choice, tasks: &[TaskHeader], look: Look, draining: bool) -> Forecast {
        let Choice { pool, terms, for_deadline, outlook, .. } = *choice;
        let now = terms.now;
        self.note(pool, look);
        self.held = None;
        let rows: usize = tasks.iter().map(|task| task.rows).sum();
        let put_off = self.put_off.take_if(|(of, ..)| *of == pool);
        let most = outlook.max_rows.min(terms.most_rows);
        let left = match look {
            Look::Ready(outlook) => outlook.rows,
            _ => 0,
        };
        let reason = if draining {
            CutReason::Drain
        } else if for_deadline {
            CutReason::Deadline
        } else if outlook.by_elements && (rows >= most || left > 0) {
            CutReason::Elements
        } else if rows >= most || left > 0 {
            CutReason::Full
        } else if outlook.at_once {
            CutReason::Delay
        } else {
            put_off.map_or(CutReason::Empty, |(_, why, _)| why)
        };
        if let Some(price) = terms.price {
            self.ahead += price.of(rows);
            self.pools.entry(pool).was_cut(tasks, rows, left);
        }
        Forecast {
            reason,
            put_off: put_off.map_or(Duration::ZERO, |(.., since)| now.saturating_duration_since(since)),
            elements: outlook.elements,
            padding: 0,
            padded: 0,
            price: terms.price,
            per_row: terms.per_row,
        }
    }
}

#[cfg(test)]
mod tests;
