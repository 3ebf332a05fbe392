//! Looking for news for a moment before sleeping until somebody brings it.
//!
//! Waking a thread whose processor has gone to rest takes tens of microseconds, which is longer than many a batch. A
//! thread that looks for as long as a wake-up takes, and sleeps only then, uses at most twice the processor time of one
//! that knew beforehand which is better (Karlin, Li, Manasse, Owicki: Empirical studies of competitive spinning for a
//! shared-memory multiprocessor, 1991).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How patient a thread is. Where it has looked in vain it looks ever more seldom: soon only one time in 256.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    /// How many times it does not look after it has looked in vain.
    skip: u8,
    /// How many of them are left.
    left: u8,
}

impl Spin {
    pub(crate) const fn new() -> Self {
        Self { skip: 0, left: 0 }
    }

    /// Looks for at most `limit`, and says whether the news has come.
    pub(crate) fn until(&mut self, limit: Duration, come: impl Fn() -> bool) -> bool {
        // Whoever could bring the news needs a processor as well. Under exploration, a thread that looks without end is
        // an interleaving too.
        static ALONE: LazyLock<bool> =
            LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|n| n.get() == 1));
        if cfg!(shuttle) || limit.is_zero() || *ALONE { false } else { self.look(limit, come) }
    }

    fn look(&mut self, limit: Duration, come: impl Fn() -> bool) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        let come = looked(limit, come);
        self.skip = if come { 0 } else { self.skip.saturating_mul(2).saturating_add(1) };
        self.left = self.skip;
        come
    }
}

fn looked(limit: Duration, come: impl Fn() -> bool) -> bool {
    // Asking for the time takes as long as looking several times.
    const LOOKS: usize = 16;
    let mut start = None;
    loop {
        for _ in 0..LOOKS {
            if come() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= limit {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const LIMIT: Duration = Duration::from_nanos(1);

    /// How many of `times` waits in vain looked at all.
    fn vain(spin: &mut Spin, times: usize) -> usize {
        let looked = |spin: &mut Spin| {
            let looked = Cell::new(false);
            let look = || {
                looked.set(true);
                false
            };
            assert!(!spin.look(LIMIT, look));
            looked.get()
        };
        (0..times).filter(|_| looked(spin)).count()
    }

    #[test]
    fn news_that_comes_in_time_is_seen() {
        let looks = Cell::new(0);
        let third = || looks.replace(looks.get() + 1) == 2;
        assert!(Spin::new().look(LIMIT, third));
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn who_looks_in_vain_looks_ever_more_seldom() {
        let mut spin = Spin::new();
        assert_eq!(vain(&mut spin, 8 + 256), 8);
        assert_eq!(vain(&mut spin, 256_000), 1000);
    }

    #[test]
    fn who_has_seen_news_looks_again() {
        let mut spin = Spin::new();
        vain(&mut spin, 255);
        while !spin.look(LIMIT, || true) {}
        assert!(spin.look(LIMIT, || true));
        assert_eq!(vain(&mut spin, 2), 1);
    }

    #[test]
    fn no_time_is_not_spent() {
        assert!(!Spin::new().until(Duration::ZERO, || unreachable!()));
    }
}
