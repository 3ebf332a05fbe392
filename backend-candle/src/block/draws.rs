//! Random numbers of training steps, for layers.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// Those of the block whose layers are being made on this thread: candle's builder, which is handed to layers, has no
    /// room for them.
    static IN_THE_MAKING: RefCell<Option<Draws>> = const { RefCell::new(None) };
}

/// The random numbers of a block. Clones are of the same block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draws(Arc<skep_toolkit::Draws>);

impl Draws {
    /// Those of the block whose layers are being made on this thread, if any.
    pub(crate) fn in_the_making() -> Option<Self> {
        IN_THE_MAKING.with_borrow(Clone::clone)
    }

    /// Makes layers, which may ask for the block's random numbers.
    pub(super) fn while_making<R>(&self, make: impl FnOnce() -> R) -> R {
        struct End(Option<Draws>);
        impl Drop for End {
            fn drop(&mut self) {
                IN_THE_MAKING.set(self.0.take());
            }
        }
        let _end = End(IN_THE_MAKING.replace(Some(self.clone())));
        make()
    }

    pub(super) fn begin(&self, seed: u64) {
        self.0.begin(seed);
    }

    pub(crate) fn dropout(&self, probability: f64, count: usize) -> Vec<f32> {
        self.0.dropout(probability, count)
    }
}
