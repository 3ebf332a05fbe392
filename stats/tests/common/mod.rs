//! A pool that counts what it is told.

use skep_runtime_core::{Counts, Meter, sync::Mutex};
use std::sync::Arc;

pub(crate) struct Queue {
    name: String,
    pub(crate) counts: Mutex<Counts>,
}

impl Queue {
    pub(crate) fn new(name: &str, counts: Counts) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), counts: Mutex::new(counts) })
    }
}

impl Meter for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    fn counts(&self) -> Counts {
        *self.counts.lock()
    }
}
