//! Which instructions this processor has.

use pulp::{Arch, Simd, WithSimd};

/// Instructions that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    arch: Arch,
    /// Numbers of a register.
    lanes: usize,
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

impl Processor {
    /// The best instructions of this processor; `None` where it has none that multiply and add several numbers at
    /// once.
    pub(crate) fn found() -> Option<Self> {
        let arch = Arch::new();
        let lanes = arch.dispatch(Lanes);
        (lanes > 1).then_some(Self { arch, lanes })
    }

    /// Numbers of a register.
    pub(super) fn lanes(self) -> usize {
        self.lanes
    }

    /// Calls `work` compiled for these instructions. What it calls must be inlined.
    #[inline(always)]
    pub(super) fn run<W: WithSimd>(self, work: W) -> W::Output {
        self.arch.dispatch(work)
    }
}
