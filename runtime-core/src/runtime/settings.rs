//! Settings of a runtime, and their limits.

use crate::contract::error::control::StartError;
use crate::policy::selector::Timing;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Batches gathered ahead of the one that runs.
    pub(crate) prefetch: usize,
    /// Sender threads.
    pub(crate) senders: usize,
    /// Device time under which a batch is not worth the help of another thread.
    pub(crate) hand_over: Duration,
    /// The time that a thread looks for what it waits for before it sleeps.
    pub(crate) spin: Duration,
    /// The longest that the device may work on one batch at a stretch.
    pub(crate) batch_limit: Option<Duration>,
    /// The longest that dropping the runtime waits for the batch on the device.
    pub(crate) drop_limit: Duration,
    /// How cuts are timed.
    pub(crate) timing: Timing,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefetch: 1,
            senders: 1,
            hand_over: Duration::from_micros(50),
            spin: Duration::from_micros(50),
            batch_limit: None,
            drop_limit: Duration::from_secs(30),
            timing: Timing::default(),
        }
    }
}

impl Settings {
    /// The most of either: threads, and batches on the device, beyond which nobody gains.
    const MOST: usize = 64;
    const LONGEST_SPIN: Duration = Duration::from_millis(10);

    /// Checks each setting.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Setting`] with the first that is out of range.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let wrong = |setting, got: String, expected| {
            Err(StartError::Setting { of: "runtime".to_owned(), setting, got, expected })
        };
        if self.prefetch > Self::MOST {
            return wrong("prefetch", self.prefetch.to_string(), "0 to 64 batches");
        }
        if !(1..=Self::MOST).contains(&self.senders) {
            return wrong("senders", self.senders.to_string(), "1 to 64 threads");
        }
        if let Some(limit) = self.batch_limit.filter(Duration::is_zero) {
            return wrong("batch_limit", format!("{limit:?}"), "more than no time");
        }
        let riders = self.timing.riders;
        if riders.is_nan() || riders < 0.0 {
            return wrong("riders", riders.to_string(), "0 or more");
        }
        if self.spin > Self::LONGEST_SPIN {
            return wrong("spin", format!("{:?}", self.spin), "0 to 10 ms");
        }
        Ok(())
    }
}
