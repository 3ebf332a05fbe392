//! A thread that does something every so often.

use super::{flume, thread};
use std::io;
use std::time::Duration;

/// Work that is done once per interval on a thread of its own. Ends when it is dropped, which waits for the
/// work that is under way.
#[derive(Debug)]
pub struct Every {
    /// Both are `None` only while dropping.
    stop: Option<flume::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Every {
    /// Does `work` once per interval, the first time one interval from now, on a thread of this name.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](io::ErrorKind::InvalidInput) for an interval of zero, and the system's error if it
    /// has no thread to give.
    pub fn start(
        thread: &str,
        interval: Duration,
        mut work: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        if interval.is_zero() {
            let message = format!("interval of {thread} is 0 s, expected more");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (stop, stopped) = flume::bounded(0);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(flume::RecvTimeoutError::Timeout) {
                work();
            }
        };
        let thread = thread::Builder::new().name(thread.to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Every {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It can only have panicked in what the application brings (a subscriber, a recorder), which has told so.
            thread.join().ok();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_again_and_again_and_ends_with_its_owner() {
        let (done, seen) = std::sync::mpsc::channel();
        let every = Every::start("every", Duration::from_millis(1), move || {
            done.send(thread::current().name().map(str::to_owned)).ok();
        });
        for _ in 0..3 {
            assert_eq!(seen.recv().unwrap().as_deref(), Some("every"));
        }
        drop(every);
        // This ends, because the sender went with the thread.
        seen.iter().for_each(drop);
    }

    #[test]
    fn an_owner_need_not_wait_for_the_interval() {
        drop(Every::start("every", Duration::MAX, || unreachable!()).unwrap());
    }

    #[test]
    fn an_interval_of_nothing_is_refused() {
        let error = Every::start("every", Duration::ZERO, || ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "interval of every is 0 s, expected more");
    }
}
