//! How many threads one operation uses.

use std::ffi::c_int;

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
    fn odd_numbers_are_refused() {
        assert_eq!(bind(0).unwrap_err().to_string(), "threads is 0, expected at least 1");
        assert_eq!(bind(5000).unwrap_err().to_string(), "threads is 5000, expected at most 1024");
    }
}
