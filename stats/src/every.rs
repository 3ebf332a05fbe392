//! A thread that does something again and again.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Ends when it is dropped, which waits for it.
#[derive(Debug)]
pub(crate) struct Every {
    /// Both are `None` only while dropping.
    stop: Option<flume::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Every {
    /// Does `work` once per interval, the first time one interval from now.
    pub(crate) fn start(
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
            // It can only have panicked in the application's subscriber or recorder, which has told so.
            thread.join().ok();
        }
    }
}
