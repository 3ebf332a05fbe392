//! One answer of several parts: of a task that runs in several batches.

use super::cell::{Cell, TaskResult};
use crate::sync::Mutex;
use std::sync::Arc;

/// Joins the outputs of a task's parts, given in the parts' order.
pub type JoinParts<T> = Box<dyn Fn(Vec<Vec<T>>) -> TaskResult<T> + Send + Sync>;

/// Whoever is waiting for an answer.
pub(super) enum To<T> {
    Ticket(Arc<Cell<T>>),
    /// The part of this number of several.
    Part(Arc<Parts<T>>, u32),
}

/// The answers of a task's parts. How many there are is known when the last one is taken off. A part that is cut again
/// has parts as well, whose answers together are its own.
pub(super) struct Parts<T> {
    state: Mutex<State<T>>,
    join: Arc<JoinParts<T>>,
}

struct State<T> {
    /// `None` once the task, or the part of which these are parts, has been answered.
    to: Option<To<T>>,
    /// For each part so far, and for the rest.
    outputs: Vec<Option<Vec<T>>>,
    missing: usize,
}

impl<T> Parts<T> {
    /// The parts of a task of which none has been taken off: the rest is all of it, and has the number 0.
    pub(super) fn new(cell: Arc<Cell<T>>, join: JoinParts<T>) -> Self {
        Self::of(To::Ticket(cell), Arc::new(join), vec![None])
    }

    fn of(to: To<T>, join: Arc<JoinParts<T>>, outputs: Vec<Option<Vec<T>>>) -> Self {
        let missing = outputs.len();
        Self { state: Mutex::new(State { to: Some(to), outputs, missing }), join }
    }

    /// Takes a part apart into two.
    pub(super) fn halve(self: Arc<Self>, part: u32) -> [To<T>; 2] {
        let join = Arc::clone(&self.join);
        let halves = Arc::new(Self::of(To::Part(self, part), join, vec![None, None]));
        [To::Part(Arc::clone(&halves), 0), To::Part(halves, 1)]
    }

    /// Gives the rest the next number, because the part that had it was taken off.
    pub(super) fn go_on(&self) -> u32 {
        let mut state = self.state.lock();
        let next = state.outputs.len();
        state.outputs.push(None);
        state.missing += 1;
        u32::try_from(next).unwrap_or(u32::MAX)
    }

    /// Returns true if the task has been answered.
    pub(super) fn is_over(&self) -> bool {
        let whole = match &self.state.lock().to {
            None => return true,
            Some(To::Ticket(_)) => return false,
            Some(To::Part(whole, _)) => Arc::clone(whole),
        };
        whole.is_over()
    }

    /// Takes the outputs of a part. Returns what becomes of the task with the last one.
    pub(super) fn put(&self, part: u32, outputs: Vec<T>) -> Option<TaskResult<T>> {
        let (outputs, whole) = {
            let mut state = self.state.lock();
            state.to.as_ref()?;
            *state.outputs.get_mut(part as usize)? = Some(outputs);
            state.missing -= 1;
            if state.missing > 0 {
                return None;
            }
            let whole = match &state.to {
                Some(To::Part(whole, part)) => Some((Arc::clone(whole), *part)),
                Some(To::Ticket(_)) | None => None,
            };
            (std::mem::take(&mut state.outputs), whole)
        };
        let joined = (self.join)(outputs.into_iter().flatten().collect());
        match (whole, joined) {
            (Some((whole, part)), Ok(outputs)) => whole.put(part, outputs),
            (_, joined) => Some(joined),
        }
    }

    /// Takes whoever waits for the answer of the task; `None` if it has been given.
    pub(super) fn take(&self) -> Option<Arc<Cell<T>>> {
        let to = self.state.lock().to.take()?;
        match to {
            To::Ticket(cell) => Some(cell),
            To::Part(whole, _) => whole.take(),
        }
    }
}
