//! The accounts of connections: where there are no keys, each open connection is a caller.
//!
//! Numbers are given again, the lowest first, so there are no more of them than connections at the same time: whoever
//! counts by flow counts few.

use skep_runtime_core::Flow;
use skep_runtime_core::sync::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The numbers that open connections have.
#[derive(Clone, Default)]
pub(crate) struct Flows(Arc<Mutex<Numbers>>);

#[derive(Default)]
struct Numbers {
    /// Those up to the highest that nobody has.
    free: BTreeSet<u32>,
    highest: u32,
}

/// A connection's number, as long as it is open.
pub(crate) struct Numbered {
    flows: Flows,
    pub(crate) flow: Flow,
}

impl Flows {
    pub(crate) fn next(&self) -> Numbered {
        let mut numbers = self.0.lock();
        let number = numbers.free.pop_first().unwrap_or_else(|| {
            // 0 would be the pool's.
            numbers.highest = numbers.highest.saturating_add(1);
            numbers.highest
        });
        Numbered { flows: self.clone(), flow: Flow(number) }
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.flows.0.lock().free.insert(self.flow.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_again_and_never_twice() {
        let flows = Flows::default();
        let (first, second, third) = (flows.next(), flows.next(), flows.next());
        assert_eq!([first.flow, second.flow, third.flow], [Flow(1), Flow(2), Flow(3)]);
        drop((second, first));
        let again = [flows.next(), flows.next(), flows.next()];
        assert_eq!(again.each_ref().map(|it| it.flow), [Flow(1), Flow(2), Flow(4)]);
    }
}
