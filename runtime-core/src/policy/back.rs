//! How fast somebody who was answered comes back.

use std::time::Duration;

/// The time between an answer and the next task of the same caller: what is usual, and how much it varies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Back {
    usual: f64,
    spread: f64,
    seen: u32,
}

/// The times that are seen before anything is made of them.
const ENOUGH: u32 = 3;

impl Back {
    /// Notes a time; `None` if the task had been there before the answer.
    pub(crate) fn note(&mut self, time: Option<Duration>) {
        let time = time.unwrap_or_default().as_secs_f64();
        if self.seen == 0 {
            self.usual = time;
        }
        self.seen = self.seen.saturating_add(1);
        self.spread += ((time - self.usual).abs() - self.spread) / 4.0;
        self.usual += (time - self.usual) / 8.0;
    }

    /// The time after which it is not expected any more. `None` while too little is known.
    pub(crate) fn limit(&self) -> Option<Duration> {
        (self.seen >= ENOUGH)
            .then(|| Duration::try_from_secs_f64(self.usual + 4.0 * self.spread).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_expected_before_it_was_seen() {
        let mut back = Back::default();
        back.note(Some(Duration::from_millis(1)));
        back.note(Some(Duration::from_millis(1)));
        assert_eq!(back.limit(), None);
        back.note(None);
        assert!(back.limit().is_some());
    }

    proptest! {
        #[test]
        fn most_come_within_the_limit(times in prop::collection::vec(100u64..200, 50..200)) {
            let (mut back, mut late) = (Back::default(), 0);
            for (at, &time) in times.iter().enumerate() {
                let time = Duration::from_micros(time);
                late += usize::from(at > 8 && back.limit().is_some_and(|limit| time > limit));
                back.note(Some(time));
            }
            prop_assert!(late * 10 <= times.len(), "{late} of {} were late", times.len());
        }
    }
}
