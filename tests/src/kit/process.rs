//! Facts that the operating system knows of this process.

use super::waits::LIMIT;
use std::time::Instant;

/// Returns the number of threads of this process, or `None` if the system does not tell.
pub fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Returns the number of threads beyond `before`. A thread that was joined may be listed for a moment longer, so
/// this looks again until none is left, for a limited time.
pub fn threads_left(before: Option<usize>) -> usize {
    let until = Instant::now() + LIMIT;
    loop {
        let left = before.zip(threads()).map_or(0, |(before, now)| now.saturating_sub(before));
        if left == 0 || Instant::now() > until {
            return left;
        }
        std::thread::yield_now();
    }
}
