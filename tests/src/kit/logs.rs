//! Events, in their order.

use skep_runtime_core::sync::Mutex;
use std::sync::{Arc, Once};

/// A list that several blocks and threads write to.
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }
}

impl<T> Log<T> {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry.
    pub fn push(&self, entry: T) {
        self.0.lock().push(entry);
    }

    /// Takes all entries out.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Keeps panics whose message starts with `on purpose`, or that have none, off the terminal.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str().is_some_and(|message| !message.starts_with("on purpose")) {
                usual(info);
            }
        }));
    });
}
