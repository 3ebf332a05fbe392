//! Whether the parameters of a block are still those that it was loaded with.
//!
//! Layers for inference may keep their weights in a layout of their own. Weights change in place, by a step of an
//! optimizer or a state that is restored, and candle's tensors do not tell. So the block counts.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a block's parameters. Clones are of the same block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<AtomicU64>);

/// The parameters change with every backward pass.
const TRAINED: u64 = u64::MAX;

thread_local! {
    /// Those of the block whose layers for inference are being made on this thread: candle's builder, which is handed
    /// to layers, has no room for them.
    static IN_THE_MAKING: RefCell<Option<Changes>> = const { RefCell::new(None) };
}

impl Changes {
    /// Those of the block whose layers for inference are being made on this thread, if any.
    pub(crate) fn in_the_making() -> Option<Self> {
        IN_THE_MAKING.with_borrow(Clone::clone)
    }

    /// Makes layers for inference, which may ask for the block's changes.
    pub(super) fn while_making<R>(&self, make: impl FnOnce() -> R) -> R {
        struct End(Option<Changes>);
        impl Drop for End {
            fn drop(&mut self) {
                IN_THE_MAKING.set(self.0.take());
            }
        }
        let _end = End(IN_THE_MAKING.replace(Some(self.clone())));
        make()
    }

    /// A parameter has been replaced.
    pub(super) fn replaced(&self) {
        // The block is called from one thread; the count stays below what stands for training.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < TRAINED - 1).then(|| count + 1)
        });
    }

    /// The parameters are trained from now on.
    pub(super) fn trained(&self) {
        self.0.store(TRAINED, Ordering::Relaxed);
    }

    /// The number of times that parameters were replaced; `None` if they are trained, so that laying them out
    /// anew would cost more than it saves.
    pub(crate) fn count(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&count| count != TRAINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_find_the_changes_of_their_block_while_they_are_made() {
        let changes = Changes::default();
        let found = changes.while_making(|| Changes::in_the_making().unwrap());
        assert!(Changes::in_the_making().is_none());
        assert_eq!(found.count(), Some(0));
        changes.replaced();
        assert_eq!(found.count(), Some(1));
        changes.trained();
        changes.replaced();
        assert_eq!(found.count(), None);
    }

    #[test]
    fn a_panic_while_they_are_made_ends_it() {
        let made = std::panic::catch_unwind(|| Changes::default().while_making(|| panic!("made up")));
        assert!(made.is_err() && Changes::in_the_making().is_none());
    }
}
