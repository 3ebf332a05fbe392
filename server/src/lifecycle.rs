//! The life of a server: ready, draining, closing; and how many requests are at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};

/// A step of a server's life; steps are never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Models are being loaded.
    Starting,
    /// Requests are served.
    Ready,
    /// Requests are served, and balancers are told to send no more.
    Draining,
    /// No connection is accepted any more; what is at work ends.
    Closing,
    /// Everything ends at once.
    Ended,
}

/// Where a server stands in its life.
#[derive(Clone)]
pub(crate) struct Lifecycle(Arc<Inner>);

struct Inner {
    phase: watch::Sender<Phase>,
    at_work: AtomicUsize,
    idle: Notify,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        let (phase, _) = watch::channel(Phase::Starting);
        Self(Arc::new(Inner { phase, at_work: AtomicUsize::new(0), idle: Notify::new() }))
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Goes on to a later phase; an earlier one is ignored.
    pub(crate) fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = to.max(*phase);
            later
        });
    }

    /// Waits until the phase is `phase` or a later one.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut phases = self.0.phase.subscribe();
        // The sender lives as long as this does.
        phases.wait_for(|now| *now >= phase).await.ok();
    }

    /// Counts a request for as long as the guard lives; `None` if as many as `most` are at work.
    pub(crate) fn begin(&self, most: usize) -> Option<AtWork> {
        let begin = |now: usize| (now < most).then_some(now + 1);
        self.0.at_work.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begin).ok()?;
        Some(AtWork(self.clone()))
    }

    pub(crate) fn at_work(&self) -> usize {
        self.0.at_work.load(Ordering::SeqCst)
    }

    /// Waits until no more than `few` requests are at work.
    pub(crate) async fn quiet(&self, few: usize) {
        loop {
            // Listen first, then look: an end in between is heard.
            let ended = self.0.idle.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.at_work() <= few {
                return;
            }
            ended.await;
        }
    }
}

/// A request at work.
pub(crate) struct AtWork(Lifecycle);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.at_work.fetch_sub(1, Ordering::SeqCst);
        self.0.0.idle.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_not_taken_back() {
        let life = Lifecycle::new();
        life.advance(Phase::Draining);
        life.advance(Phase::Ready);
        assert_eq!(life.phase(), Phase::Draining);
    }

    #[tokio::test]
    async fn requests_are_counted_and_bounded() {
        let life = Lifecycle::new();
        let first = life.begin(2).unwrap();
        let second = life.begin(2).unwrap();
        assert!(life.begin(2).is_none());
        drop(first);
        life.quiet(1).await;
        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.quiet(0).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        waiting.await.unwrap();
        assert_eq!(life.at_work(), 0);
    }
}
