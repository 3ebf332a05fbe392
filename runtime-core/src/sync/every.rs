//! A thread that does something every so often.

use super::{flume, log, thread};
use std::io;
use std::time::Duration;

/// Work that is done once per interval on a thread of its own, and whenever it is asked for. Ends when it is stopped or
/// dropped, which waits for the work that is under way: for as long as one likes, or for at most half a minute, because it
/// may be with a device that is stuck.
#[derive(Debug)]
pub struct Every<R = ()> {
    name: String,
    /// `None` once it ends, as is the thread.
    requests: Option<flume::Sender<flume::Sender<R>>>,
    thread: Option<thread::JoinHandle<()>>,
    /// Nothing comes; its other end is gone when the thread has ended.
    ended: flume::Receiver<()>,
}

/// The longest time that an owner waits for work that is under way.
const DROP_LIMIT: Duration = Duration::from_secs(30);
/// Those who ask at the same time.
const MOST_REQUESTS: usize = 64;

impl<R: Send + 'static> Every<R> {
    /// Does `work` once per interval, the first time one interval from now, on a thread of this name.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidInput`](io::ErrorKind::InvalidInput) for an interval of zero, and the system's error if it
    /// has no thread to give.
    pub fn start(
        thread: &str,
        interval: Duration,
        mut work: impl FnMut() -> R + Send + 'static,
    ) -> io::Result<Self> {
        if interval.is_zero() {
            let message = format!("interval of {thread} is 0 s, expected more");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (requests, requested) = flume::bounded::<flume::Sender<R>>(MOST_REQUESTS);
        let (over, ended) = flume::bounded(1);
        let name = thread.to_owned();
        let run = move || {
            let _over: flume::Sender<()> = over;
            loop {
                match requested.recv_timeout(interval) {
                    Ok(reply) => drop(reply.send(work())),
                    Err(flume::RecvTimeoutError::Timeout) => drop(work()),
                    Err(flume::RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let thread = thread::Builder::new().name(name.clone()).spawn(run)?;
        Ok(Self { name, requests: Some(requests), thread: Some(thread), ended })
    }

    /// Has the work done once more, now, and returns what came of it. `None` if it is not over within `limit`.
    pub fn now(&self, limit: Duration) -> Option<R> {
        let (reply, result) = flume::bounded(1);
        self.requests.as_ref()?.try_send(reply).ok()?;
        result.recv_timeout(limit).ok()
    }
}

impl<R> Every<R> {
    /// Ends it, and waits for the work that is under way. Returns false if that is not over within `limit`: the thread is
    /// left behind, and ends with the work.
    pub fn stop(mut self, limit: Duration) -> bool {
        self.end(limit)
    }

    fn end(&mut self, limit: Duration) -> bool {
        self.requests = None;
        let Some(running) = self.thread.take() else { return true };
        if self.ended.recv_timeout(limit) == Err(flume::RecvTimeoutError::Timeout) {
            log(|| tracing::warn!(thread = self.name, ?limit, "thread does not end, and is left behind"));
            return false;
        }
        // It can only have panicked in what the application brings (a subscriber, a recorder), which has told so.
        running.join().ok();
        true
    }
}

impl<R> Drop for Every<R> {
    fn drop(&mut self) {
        self.end(DROP_LIMIT);
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
        let mut count = 0;
        let every = Every::start("every", Duration::MAX, move || {
            count += 1;
            count
        });
        let every = every.unwrap();
        assert_eq!([every.now(Duration::MAX), every.now(Duration::MAX)], [Some(1), Some(2)]);
    }

    #[test]
    fn who_asks_for_the_work_waits_no_longer_than_the_limit() {
        let (go_on, hold) = std::sync::mpsc::channel::<()>();
        let every = Every::start("every", Duration::MAX, move || {
            hold.recv().ok();
        })
        .unwrap();
        assert_eq!(every.now(Duration::ZERO), None);
        drop(go_on);
    }

    #[test]
    fn an_end_waits_no_longer_than_the_limit() {
        let (go_on, hold) = std::sync::mpsc::channel::<()>();
        let (over, is_over) = std::sync::mpsc::channel();
        let every = Every::start("every", Duration::MAX, move || {
            hold.recv().ok();
            over.send(()).ok();
        })
        .unwrap();
        assert_eq!(every.now(Duration::ZERO), None);
        assert!(!every.stop(Duration::ZERO));
        assert!(is_over.try_recv().is_err(), "it was not waited for");
        drop(go_on);
        // It ends with its work, and does nothing more.
        assert_eq!(is_over.iter().count(), 1);
        let every = Every::start("every", Duration::MAX, || ()).unwrap();
        assert!(every.stop(Duration::MAX));
    }

    #[test]
    fn an_interval_of_nothing_is_refused() {
        let error = Every::start("every", Duration::ZERO, || ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "interval of every is 0 s, expected more");
    }
}
