//! How many threads a matrix product uses.
//!
//! candle's products run on the rayon pool of the thread that calls them. The device thread becomes a member
//! of a pool of the wanted size, so that nothing is handed to another thread where one is enough.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::cell::RefCell;

thread_local! {
    /// Keeps the pool's other threads for as long as the device thread lives.
    static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ThreadsError {
    #[error("threads is 0, expected at least 1")]
    Zero,
    #[error("this thread already computes with {bound} threads, expected {wanted}")]
    AlreadyBound { bound: usize, wanted: usize },
    #[error("threads for computing cannot be started")]
    Start(#[from] ThreadPoolBuildError),
}

/// Makes products that are called from this thread use `count` threads, this one included.
///
/// A thread keeps its first number for good.
pub(super) fn bind(count: usize) -> Result<(), ThreadsError> {
    if count == 0 {
        return Err(ThreadsError::Zero);
    }
    POOL.with_borrow_mut(|pool| {
        if let Some(bound) = pool.as_ref().map(ThreadPool::current_num_threads) {
            return if bound == count {
                Ok(())
            } else {
                Err(ThreadsError::AlreadyBound { bound, wanted: count })
            };
        }
        let builder = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("skep-compute-{i}"))
            .use_current_thread();
        *pool = Some(builder.build()?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_new_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn a_bound_thread_computes_with_as_many_threads_as_asked() {
        assert_eq!(on_new_thread(|| bind(3).map(|()| rayon::current_num_threads()).unwrap()), 3);
        assert_eq!(on_new_thread(|| bind(1).map(|()| rayon::current_num_threads()).unwrap()), 1);
    }

    #[test]
    fn one_thread_computes_on_the_calling_thread() {
        on_new_thread(|| {
            bind(1).unwrap();
            let here = std::thread::current().id();
            let (a, b) = rayon::join(|| std::thread::current().id(), || std::thread::current().id());
            assert_eq!([a, b], [here, here]);
        });
    }

    #[test]
    fn a_thread_keeps_its_number() {
        on_new_thread(|| {
            bind(2).unwrap();
            bind(2).unwrap();
            assert!(matches!(bind(1), Err(ThreadsError::AlreadyBound { bound: 2, wanted: 1 })));
        });
    }

    #[test]
    fn no_threads_are_refused() {
        assert!(matches!(bind(0), Err(ThreadsError::Zero)));
    }
}
