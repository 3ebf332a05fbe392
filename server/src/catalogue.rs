//! The models of the folder by name: which are served, and why others are not.

use crate::model::Model;
use skep_runtime_core::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands behind a name.
#[derive(Clone)]
pub(crate) enum Entry {
    Served(Arc<Model>),
    /// It is being put on the device.
    Loading,
    /// It takes no requests any more, and those that it has are answered.
    Unloading,
    /// It is not served, for this reason.
    Missing(String),
}

pub(crate) type Entries = BTreeMap<String, Entry>;

/// The models of the folder by name.
#[derive(Default)]
pub(crate) struct Catalogue(Mutex<Arc<Entries>>);

impl Catalogue {
    /// All of them as they are now.
    pub(crate) fn now(&self) -> Arc<Entries> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn get(&self, name: &str) -> Option<Entry> {
        self.0.lock().get(name).cloned()
    }

    pub(crate) fn set(&self, name: &str, entry: Entry) {
        let mut entries = self.0.lock();
        // Whoever goes through the entries keeps those that he has.
        let before = Arc::make_mut(&mut entries).insert(name.to_owned(), entry);
        drop(entries);
        drop(before);
    }

    /// The models that are served, in the order of their names.
    pub(crate) fn served(&self) -> Vec<Arc<Model>> {
        let model = |entry: &Entry| match entry {
            Entry::Served(model) => Some(Arc::clone(model)),
            _ => None,
        };
        self.now().values().filter_map(model).collect()
    }
}
