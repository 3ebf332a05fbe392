//! How fast somebody who was answered comes back.

use std::time::Duration;

/// The time between an answer and the next task of the same caller: what is usual, and how much it varies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Back {
    usual: f64,
    spread: f64,
    seen: u32,
    /// The last ones, one after the other, that came long after they were expected.
    away: u32,
}

/// The times that are seen before anything is made of them.
const ENOUGH: u32 = 3;

/// No pause is shorter, in seconds.
const SHORTEST: f64 = 1e-3;

/// Whoever comes after so many times the limit was away: a pause says nothing of how fast answers bring the next task.
const AWAY: f64 = 4.0;

impl Back {
    /// Notes a time; `None` if the task had been there before the answer.
    pub(crate) fn note(&mut self, time: Option<Duration>) {
        let time = time.unwrap_or_default().as_secs_f64();
        if self.seen >= ENOUGH && time > (AWAY * self.expected()).max(SHORTEST) {
            self.away += 1;
            if self.away < ENOUGH {
                return;
            }
            // It is not a pause if it is always so.
            *self = Self::default();
        }
        self.away = 0;
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
            .then(|| Duration::try_from_secs_f64(self.expected()).unwrap_or(Duration::MAX))
    }

    fn expected(&self) -> f64 {
        self.usual + 4.0 * self.spread
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

    #[test]
    fn a_pause_is_no_return() {
        let (mut back, ms) = (Back::default(), Duration::from_millis);
        (0..20).for_each(|_| back.note(Some(ms(1))));
        back.note(Some(ms(2000)));
        assert!(back.limit().unwrap() < ms(3), "{back:?}");
        // But who has become slow is known as slow.
        (0..12).for_each(|_| back.note(Some(ms(50))));
        assert!(back.limit().unwrap() >= ms(50) && back.limit().unwrap() < ms(60), "{back:?}");
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
