//! The barrier of tests: nothing is left to happen until somebody makes it.

use super::bells::TimerEvent;
use super::handle::Handle;
use super::shared::Shared;
use super::status::Phase;
use crate::contract::device::Device;
use crate::sync::flume;
use std::time::{Duration, Instant};

impl<D: Device> Handle<D> {
    /// Waits until all has happened that can without a caller, a test or the clock: every batch that can be cut has run
    /// and is answered, every deadline that has passed is told, and every waker and observer has been called. Returns false
    /// if `limit`, of the system's time, passes first: while a block is held at a [`Gate`](crate::testing::Gate), say.
    ///
    /// Behind the feature `testing`.
    ///
    /// ```
    /// use skep_runtime_core::RuntimeBuilder;
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock, ManualClock};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let mut builder = RuntimeBuilder::new(FakeDevice::new()).clock(Arc::clone(&clock) as Arc<_>);
    /// builder.block(FnBlock::rows("same", 1, |x: &[FakeTensor]| Ok(x.to_vec())))?;
    /// let runtime = builder.start()?;
    /// clock.advance(Duration::from_secs(1));
    /// assert!(runtime.handle().settled(Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn settled(&self, limit: Duration) -> bool {
        let shared = self.shared();
        let until = Instant::now().checked_add(limit);
        let left = || until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        shared.status.watch(true);
        let is_settled = loop {
            if !shared.status.wait(left(), || shared.is_quiet()) || !shared.are_passed(&left) {
                break false;
            }
            // What the timer and the teller did may have been the beginning of something.
            if shared.is_quiet() {
                break true;
            }
        };
        shared.status.watch(false);
        is_settled
    }
}

impl<D: Device> Shared<D> {
    /// Returns true if no batch is on its way, none can be cut, and no block is to come.
    fn is_quiet(&self) -> bool {
        if self.status.phase() != Phase::Running || self.status.loss().is_some() {
            return self.status.phase() != Phase::Built;
        }
        let now = self.now();
        let stage = self.stage.lock();
        let is_due = stage.selector.next_look().is_some_and(|(time, _)| time <= now);
        stage.flights.is_empty()
            && !stage.expiring
            && !is_due
            && !stage.has_work()
            && !stage.residents.is_busy()
            && stage.heard == self.bells.rung()
            && !self.work.are_waiting()
    }

    /// Waits until the timer, and then the teller, have done what they had to do; false if there is no time left.
    fn are_passed(&self, left: &impl Fn() -> Duration) -> bool {
        let passed = |here: flume::Receiver<()>| {
            // Whoever has ended has nothing to do.
            !matches!(here.recv_timeout(left()), Err(flume::RecvTimeoutError::Timeout))
        };
        let (tell, here) = flume::bounded(1);
        self.bells.tell_timer(TimerEvent::Pass(tell));
        if !passed(here) {
            return false;
        }
        let (tell, here) = flume::bounded(1);
        self.teller.tell(move || {
            tell.send(()).ok();
        });
        passed(here)
    }
}
