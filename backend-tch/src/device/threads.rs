//! How many threads one operation uses.

use crate::shim;
use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    /// True on a device's thread.
    static BOUND: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread a device's.
pub(super) fn claim() {
    BOUND.set(true);
}

/// Has operations of this thread use no other threads while it lives, unless this is a device's thread.
///
/// OpenMP gives each thread that computes threads of its own, which stay. Once a process has more of them than there are
/// processors they no longer wait awake for work, and every small operation of a device with several threads takes twice as
/// long: so loading a block, and joining tensors beside a batch that runs, make none.
pub(crate) struct OneThread {
    before: c_int,
}

impl OneThread {
    pub(crate) fn here() -> Self {
        Self { before: if BOUND.get() { 0 } else { shim::swap_threads(1) } }
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        if self.before > 0 {
            shim::swap_threads(self.before);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("threads is {got}, expected {}", if *got == 0 { "at least 1" } else { "at most 1024" })]
pub(super) struct WrongThreads {
    got: usize,
}

/// More threads than this are a mistake, and OpenMP ends the process when it cannot start them.
const MAX: usize = 1024;

/// Makes operations that are called from this thread use `count` threads, this one included.
pub(super) fn bind(count: usize) -> Result<(), WrongThreads> {
    match c_int::try_from(count) {
        Ok(threads) if (1..=MAX).contains(&count) => {
            // Asking first: else libtorch sets the process's number at this thread's first operation.
            let _ = tch::get_num_threads();
            tch::set_num_threads(threads);
            Ok(())
        }
        _ => Err(WrongThreads { got: count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_new_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn each_thread_keeps_its_own_number() {
        on_new_thread(|| {
            bind(3).unwrap();
            assert_eq!(on_new_thread(|| bind(2).map(|()| tch::get_num_threads()).unwrap()), 2);
            assert_eq!(tch::get_num_threads(), 3);
        });
    }

    #[test]
    fn other_threads_compute_alone_and_get_their_number_back() {
        on_new_thread(|| {
            bind(3).unwrap();
            {
                let _one = OneThread::here();
                assert_eq!(tch::get_num_threads(), 1);
            }
            assert_eq!(tch::get_num_threads(), 3);
            claim();
            let _one = OneThread::here();
            assert_eq!(tch::get_num_threads(), 3);
        });
    }

    #[test]
    fn odd_numbers_are_refused() {
        assert_eq!(bind(0).unwrap_err().to_string(), "threads is 0, expected at least 1");
        assert_eq!(bind(5000).unwrap_err().to_string(), "threads is 5000, expected at most 1024");
    }
}
