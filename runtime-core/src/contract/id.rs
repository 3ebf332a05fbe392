//! Names of pools, blocks and runtimes that are cheap to copy.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a place in a runtime's table, and which of its tenants is meant: a place can be let again, and whoever still
/// holds the id of the former tenant must not reach the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Names a pool of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub(crate) Slot);

impl PoolId {
    /// Creates the id of the first pool that stands at `index` in its runtime's table: for tests of observers and
    /// pools.
    pub const fn new(index: u32) -> Self {
        Self(Slot { index, generation: 0 })
    }

    /// Returns the pool's place in the table of pools: small numbers, which are used again once a pool is gone.
    pub fn index(self) -> usize {
        self.0.index as usize
    }

    /// Returns how many pools stood at this place before.
    pub fn generation(self) -> u32 {
        self.0.generation
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {}", self.0.index)?;
        if self.0.generation > 0 {
            write!(f, ".{}", self.0.generation)?;
        }
        Ok(())
    }
}

/// Names a block of a runtime, or of the builder that it comes from: to others the name means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId {
    pub(crate) of: RuntimeId,
    pub(crate) slot: Slot,
}

/// Tells runtimes of one process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuntimeId(NonZeroU64);

impl RuntimeId {
    /// Creates the id of a runtime to come, or of a test that plays one before a pool.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NonZeroU64::MIN.saturating_add(NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}
