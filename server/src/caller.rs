//! Callers: on whose account requests run, and how much each may ask for.

use crate::problem::{Problem, ProblemKind};
use skep_runtime_core::Flow;
use skep_runtime_core::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Whoever has a key of their own.
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) flow: Flow,
    /// The most requests at work.
    pub(crate) requests: usize,
    pub(crate) at_work: AtomicUsize,
    pub(crate) rows: Option<Rate>,
}

/// On whose account a request runs: a key's, or that of the connection that it came by.
#[derive(Clone)]
pub(crate) enum Caller {
    Key(Arc<Account>),
    Connection(Flow),
}

/// A request at work, counted for its key as long as this lives.
pub(crate) struct Slot(Option<Arc<Account>>);

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(account) = &self.0 {
            account.at_work.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Caller {
    /// The account by which a fair policy shares the device.
    pub(crate) fn flow(&self) -> Flow {
        match self {
            Self::Key(account) => account.flow,
            Self::Connection(flow) => *flow,
        }
    }

    /// The key's name.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Key(account) => Some(&account.name),
            Self::Connection(_) => None,
        }
    }

    /// Counts a request at work, of which a key has only so many.
    pub(crate) fn begin(&self) -> Result<Slot, Problem> {
        let Self::Key(account) = self else { return Ok(Slot(None)) };
        let one_more = |now: usize| (now < account.requests).then_some(now + 1);
        let begun = account.at_work.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        begun.map_err(|most| {
            let name = &account.name;
            let message = format!("{most} requests of `{name}` are at work, which is as many as it may have");
            Problem::new(ProblemKind::TooMany, message).retry_after(1)
        })?;
        Ok(Slot(Some(Arc::clone(account))))
    }

    /// Takes rows, or texts, from what the key may ask for in a second.
    pub(crate) fn charge(&self, rows: usize) -> Result<(), Problem> {
        let Self::Key(account) = self else { return Ok(()) };
        let Some(rate) = &account.rows else { return Ok(()) };
        rate.take(rows, Instant::now()).map_err(|wait| {
            let name = &account.name;
            let message = format!("`{name}` has asked for its {} rows per second", rate.per_second);
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Problem::new(ProblemKind::TooMany, message).retry_after(seconds.max(1))
        })
    }
}

/// Rows per second, of which those of one second may come at once.
///
/// Whoever has any left is let in, and pays afterwards for what was more than that: so a request of more rows than a
/// second's is served, and the next one waits the longer.
pub(crate) struct Rate {
    per_second: f64,
    /// Rows that are left, and when that was so. Less than none if some are owed.
    left: Mutex<(f64, Instant)>,
}

impl Rate {
    pub(crate) fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, left: Mutex::new((per_second, now)) }
    }

    /// Takes rows, or says how long it is until some can be taken.
    fn take(&self, rows: usize, now: Instant) -> Result<(), Duration> {
        let mut left = self.left.lock();
        let since = now.saturating_duration_since(left.1).as_secs_f64();
        let there = (left.0 + since * self.per_second).min(self.per_second);
        *left = (there, left.1.max(now));
        if there <= 0.0 {
            let wait = Duration::try_from_secs_f64(-there / self.per_second).unwrap_or(Duration::MAX);
            return Err(wait.max(Duration::from_nanos(1)));
        }
        left.0 -= rows as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_with_time_and_pile_up_for_a_second_only() {
        let start = Instant::now();
        let (s, rate) = (Duration::from_secs, Rate::new(10.0, start));
        assert_eq!(rate.take(4, start), Ok(()));
        assert_eq!(rate.take(26, start), Ok(()), "more than is left, but something is");
        assert_eq!(rate.take(1, start), Err(s(2)), "20 rows are owed");
        assert_eq!(rate.take(1, start + s(1)), Err(s(1)));
        assert_eq!(rate.take(1, start + s(2) + Duration::from_millis(100)), Ok(()));
        let later = start + s(1000);
        assert_eq!(rate.take(10, later), Ok(()));
        assert_eq!(rate.take(1, later), Err(Duration::from_nanos(1)), "no more than those of one second");
        assert_eq!(rate.take(1, start), Err(Duration::from_nanos(1)), "time that goes back gives nothing");
    }

    #[test]
    fn a_key_has_as_many_requests_at_work_as_it_may() {
        let account = |requests| {
            let (at_work, name) = (AtomicUsize::new(0), "ann".to_owned());
            Caller::Key(Arc::new(Account { name, flow: Flow(1), requests, at_work, rows: None }))
        };
        let ann = account(2);
        let (first, second) = (ann.begin().unwrap(), ann.clone().begin().unwrap());
        let refused = ann.begin().map(drop).unwrap_err();
        assert_eq!((refused.status(), refused.retry_after), (429, Some(1)));
        assert_eq!(refused.message, "2 requests of `ann` are at work, which is as many as it may have");
        assert!(account(1).begin().is_ok() && Caller::Connection(Flow(2)).begin().is_ok());
        drop(first);
        assert!(ann.begin().is_ok(), "and its own is given back at once");
        drop(second);
    }
}
