//! One answer of several parts: of a task that runs in several batches.

use super::cell::{Cell, TaskResult};
use crate::sync::Mutex;
use std::sync::Arc;

/// Joins the outputs of a task's parts, given in the parts' order.
pub type JoinParts<T> = Box<dyn Fn(Vec<Vec<T>>) -> TaskResult<T> + Send + Sync>;

/// The answers of a task's parts. How many there are is known when the last one is taken off.
pub(super) struct Parts<T> {
    state: Mutex<State<T>>,
    join: JoinParts<T>,
}

struct State<T> {
    /// `None` once the task has been answered.
    cell: Option<Arc<Cell<T>>>,
    /// For each part so far, and for the rest.
    outputs: Vec<Option<Vec<T>>>,
    missing: usize,
}

impl<T> Parts<T> {
    /// The parts of a task of which none has been taken off: the rest is all of it, and has the number 0.
    pub(super) fn new(cell: Arc<Cell<T>>, join: JoinParts<T>) -> Self {
        Self { state: Mutex::new(State { cell: Some(cell), outputs: vec![None], missing: 1 }), join }
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
        self.state.lock().cell.is_none()
    }

    /// Takes the answer of a part. Returns the task's own with the last part, or with the first that failed.
    #[inline]
    pub(super) fn settle(&self, part: u32, result: TaskResult<T>) -> Option<(Arc<Cell<T>>, TaskResult<T>)> {
        let (cell, result) = {
            let mut state = self.state.lock();
            match result {
                Err(error) => (state.cell.take()?, Err(error)),
                Ok(outputs) => {
                    *state.outputs.get_mut(part as usize)? = Some(outputs);
                    state.missing -= 1;
                    if state.missing > 0 {
                        return None;
                    }
                    (state.cell.take()?, Ok(std::mem::take(&mut state.outputs)))
                }
            }
        };
        Some((cell, result.and_then(|outputs| (self.join)(outputs.into_iter().flatten().collect()))))
    }
}
