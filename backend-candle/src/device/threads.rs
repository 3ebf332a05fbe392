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
    #[error("cores {first} to {last} cannot be had")]
    Cores { first: usize, last: usize, source: std::io::Error },
}

/// Keeps the current thread, and those that it starts, on `count` cores from `first` on.
pub(super) fn keep_on(first: usize, count: usize) -> Result<(), ThreadsError> {
    let last = first.saturating_add(count.max(1) - 1);
    cores::keep_on(first, last).map_err(|source| ThreadsError::Cores { first, last, source })
}

#[cfg(target_os = "linux")]
mod cores {
    use rustix::thread::{CpuSet, sched_setaffinity};
    use std::io;

    pub(super) fn keep_on(first: usize, last: usize) -> io::Result<()> {
        if last >= CpuSet::MAX_CPU {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("expected at most {}", CpuSet::MAX_CPU - 1),
            ));
        }
        let mut cores = CpuSet::new();
        (first..=last).for_each(|core| cores.set(core));
        Ok(sched_setaffinity(None, &cores)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod cores {
    use std::io;

    pub(super) fn keep_on(_: usize, _: usize) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "threads are kept on cores on Linux only"))
    }
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
    #[cfg(target_os = "linux")]
    fn a_thread_and_those_that_it_starts_stay_on_their_cores() {
        use rustix::thread::{CpuSet, sched_getaffinity};
        on_new_thread(|| {
            let all = sched_getaffinity(None).unwrap();
            let own = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap();
            keep_on(own, 1).unwrap();
            let mut one = CpuSet::new();
            one.set(own);
            assert_eq!(sched_getaffinity(None).unwrap(), one);
            assert_eq!(on_new_thread(|| sched_getaffinity(None).unwrap()), one);
        });
        let error = on_new_thread(|| keep_on(5000, 2).unwrap_err());
        assert_eq!(error.to_string(), "cores 5000 to 5001 cannot be had");
    }

    #[test]
    fn no_threads_are_refused() {
        assert!(matches!(bind(0), Err(ThreadsError::Zero)));
    }
}
