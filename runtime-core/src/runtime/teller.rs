//! The teller: runs code of others for threads that must not wait for it.
//!
//! The timer keeps all deadlines, and a thread that has a lock or a batch in hand keeps others waiting: neither wakes a
//! waker, tells an observer or writes to the log itself.

use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, guarded};
use std::collections::VecDeque;
use std::sync::OnceLock;

type Errand = Box<dyn FnOnce() + Send>;

pub(crate) struct Teller {
    /// `None` once the teller has ended.
    errands: Mutex<Option<Errands>>,
    thread: OnceLock<Thread>,
}

#[derive(Default)]
struct Errands {
    waiting: VecDeque<Errand>,
    closing: bool,
}

impl Teller {
    pub(crate) fn new() -> Self {
        Self { errands: Mutex::new(Some(Errands::default())), thread: OnceLock::new() }
    }

    pub(crate) fn set_thread(&self, thread: Thread) {
        self.thread.set(thread).ok();
        // It may have fallen asleep before it could be woken.
        self.wake();
    }

    /// Has an errand run by the teller; by the calling thread once that has ended.
    pub(crate) fn tell(&self, errand: impl FnOnce() + Send + 'static) {
        let mut errands = self.errands.lock();
        if let Some(errands) = &mut *errands {
            errands.waiting.push_back(Box::new(errand));
        } else {
            drop(errands);
            guarded(errand).ok();
            return;
        }
        drop(errands);
        self.wake();
    }

    /// Lets the teller end, once it has run what waits.
    pub(crate) fn close(&self) {
        if let Some(errands) = &mut *self.errands.lock() {
            errands.closing = true;
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The next errand; `None` if there is none yet, and an end if there will be none any more.
    fn next(&self) -> Next {
        let mut errands = self.errands.lock();
        let Some(open) = &mut *errands else { return Next::End };
        match open.waiting.pop_front() {
            Some(errand) => Next::Errand(errand),
            None if open.closing => {
                *errands = None;
                Next::End
            }
            None => Next::Sleep,
        }
    }
}

enum Next {
    Errand(Errand),
    Sleep,
    End,
}

/// Runs errands until the teller is closed.
pub(crate) fn teller_loop(teller: &Teller) {
    loop {
        match teller.next() {
            // It may eat this thread's wake-up, so it is followed by another look.
            Next::Errand(errand) => drop(guarded(errand)),
            Next::Sleep => thread::park(),
            Next::End => return,
        }
    }
}
