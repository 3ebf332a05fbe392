//! An event that many wait for.

use shuttle::sync::{Mutex, MutexGuard};
use shuttle::thread::{self, Thread};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Waits on the current thread.
pub trait Listener: Sized {
    /// Until it is notified.
    fn wait(self);

    /// Until it is notified; `None` where the deadline has passed already.
    fn wait_deadline(self, deadline: Instant) -> Option<()>;
}

/// Tells those who listen.
#[derive(Default)]
pub struct Event(Arc<Mutex<Vec<Entry>>>);

/// One who listens, until it has been notified or is dropped.
pub struct EventListener {
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Itself, by which it is told apart.
    me: Arc<()>,
}

struct Entry {
    who: Arc<()>,
    notified: bool,
    wake: Option<Wake>,
}

enum Wake {
    Thread(Thread),
    Task(Waker),
}

fn lock(entries: &Mutex<Vec<Entry>>) -> MutexGuard<'_, Vec<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notifies the first `count` of those who have not been.
fn notify(entries: &Mutex<Vec<Entry>>, count: impl FnOnce(&[Entry]) -> usize) {
    let waiting: Vec<_> = {
        let mut entries = lock(entries);
        let count = count(&entries);
        let first = entries.iter_mut().filter(|entry| !entry.notified).take(count);
        let tell = |entry: &mut Entry| {
            entry.notified = true;
            entry.wake.take()
        };
        first.map(tell).collect()
    };
    for wake in waiting.into_iter().flatten() {
        match wake {
            Wake::Thread(thread) => thread.unpark(),
            Wake::Task(waker) => waker.wake(),
        }
    }
}

impl Event {
    /// An event that nobody listens to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens from now on.
    pub fn listen(&self) -> EventListener {
        let me = Arc::new(());
        lock(&self.0).push(Entry { who: Arc::clone(&me), notified: false, wake: None });
        EventListener { entries: Arc::clone(&self.0), me }
    }

    /// Notifies listeners until `count` are.
    pub fn notify(&self, count: usize) {
        notify(&self.0, |entries| {
            count.saturating_sub(entries.iter().filter(|entry| entry.notified).count())
        });
    }

    /// Notifies `count` more listeners.
    pub fn notify_additional(&self, count: usize) {
        notify(&self.0, |_| count);
    }
}

impl EventListener {
    /// Whether it has been notified; if not, leaves what to wake.
    fn take_or_leave(&self, wake: Wake) -> bool {
        let mut entries = lock(&self.entries);
        let Some(at) = entries.iter().position(|entry| Arc::ptr_eq(&entry.who, &self.me)) else {
            return true;
        };
        let notified = entries[at].notified;
        if notified {
            entries.remove(at);
        } else {
            entries[at].wake = Some(wake);
        }
        notified
    }
}

impl Listener for EventListener {
    fn wait(self) {
        while !self.take_or_leave(Wake::Thread(thread::current())) {
            thread::park();
        }
    }

    fn wait_deadline(self, deadline: Instant) -> Option<()> {
        if deadline > Instant::now() {
            self.wait();
            return Some(());
        }
        self.take_or_leave(Wake::Thread(thread::current())).then_some(())
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.take_or_leave(Wake::Task(context.waker().clone())) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Who was notified and does not look any more passes it on.
impl Drop for EventListener {
    fn drop(&mut self) {
        let mut entries = lock(&self.entries);
        let mine = entries.iter().position(|entry| Arc::ptr_eq(&entry.who, &self.me));
        let unheard = mine.map(|at| entries.remove(at)).is_some_and(|entry| entry.notified);
        drop(entries);
        if unheard {
            notify(&self.entries, |_| 1);
        }
    }
}
