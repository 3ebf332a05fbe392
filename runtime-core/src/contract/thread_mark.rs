//! Marks on the threads of a runtime, which must not wait for it.

use crate::contract::id::RuntimeId;
use crate::sync::thread_local;
use std::cell::Cell;

thread_local! {
    static HOME: Cell<Option<RuntimeId>> = const { Cell::new(None) };
}

/// Marks the current thread as one of the runtime's until the mark is dropped.
pub(crate) struct ThreadMark(Option<RuntimeId>);

impl ThreadMark {
    pub(crate) fn new(runtime: RuntimeId) -> Self {
        Self(HOME.with(|home| home.replace(Some(runtime))))
    }
}

impl Drop for ThreadMark {
    fn drop(&mut self) {
        HOME.with(|home| home.set(self.0));
    }
}

/// Returns true if the current thread belongs to the runtime that `runtime` names. Free on other threads.
pub(crate) fn on_thread_of(runtime: impl FnOnce() -> Option<RuntimeId>) -> bool {
    HOME.with(Cell::get).is_some_and(|home| runtime() == Some(home))
}
