//! A gate at which blocks, devices and observers wait until a test lets them go on.

use crate::sync::Mutex;
use crate::sync::event_listener::{Event, Listener};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gate, closed at first. What a test holds; code that is to wait calls [`hook`](Self::hook)'s closure. Dropping it
/// opens it for good, so a test that fails leaves nobody waiting.
///
/// ```
/// use skep_runtime_core::testing::Gate;
/// use std::time::Duration;
///
/// let gate = Gate::new();
/// let at = gate.hook();
/// let worker = std::thread::spawn(move || at());
/// assert!(gate.reached(1, Duration::from_secs(60)), "it waits there");
/// gate.pass(1);
/// worker.join().unwrap();
/// ```
pub struct Gate(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Default)]
struct State {
    /// Calls that have come.
    come: usize,
    /// Calls that may go on, of those that have come and are to come.
    may_pass: usize,
    open: bool,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("come", &self.0.state.lock().come).finish_non_exhaustive()
    }
}

impl Gate {
    /// Creates a gate that is closed.
    #[expect(
        clippy::new_without_default,
        reason = "a gate that is closed is nothing that anybody expects by default"
    )]
    pub fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::new(State::default()), changed: Event::new() }))
    }

    /// Returns what waits at the gate when it is called.
    pub fn hook(&self) -> impl Fn() + Clone + Send + Sync + 'static {
        let inner = Arc::clone(&self.0);
        move || inner.wait()
    }

    /// Lets so many calls pass: those that wait, and then those to come.
    pub fn pass(&self, calls: usize) {
        self.0.change(|state| state.may_pass += calls);
    }

    /// Lets every call pass from now on.
    pub fn open(&self) {
        self.0.change(|state| state.open = true);
    }

    /// Waits until so many calls in all have come to the gate, for at most `limit`; returns false if they have not.
    pub fn reached(&self, calls: usize, limit: Duration) -> bool {
        self.0.until(Instant::now().checked_add(limit), |state| state.come >= calls)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify(usize::MAX);
    }

    fn wait(&self) {
        self.change(|state| state.come += 1);
        self.until(None, |state| {
            let passes = state.open || state.may_pass > 0;
            state.may_pass -= usize::from(passes && !state.open);
            passes
        });
    }

    fn until(&self, limit: Option<Instant>, mut enough: impl FnMut(&mut State) -> bool) -> bool {
        loop {
            // Listen first, then look: a change in between is heard.
            let listener = self.changed.listen();
            if enough(&mut self.state.lock()) {
                return true;
            }
            match limit {
                None => listener.wait(),
                Some(limit) => {
                    if listener.wait_deadline(limit).is_none() {
                        return enough(&mut self.state.lock());
                    }
                }
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    #[test]
    fn as_many_pass_as_may() {
        let gate = Gate::new();
        let (tell, told) = std::sync::mpsc::channel();
        let workers = [0, 1, 2].map(|_| {
            let (at, tell) = (gate.hook(), tell.clone());
            std::thread::spawn(move || {
                at();
                tell.send(()).ok();
            })
        });
        assert!(gate.reached(3, LIMIT) && !gate.reached(4, Duration::ZERO));
        gate.pass(2);
        assert_eq!((told.recv(), told.recv()), (Ok(()), Ok(())));
        assert!(told.try_recv().is_err(), "the third one waits");
        drop(gate);
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(told.try_iter().count(), 1);
    }
}
