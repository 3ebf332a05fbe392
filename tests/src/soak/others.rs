//! Further devices that feed from the pools of the first one: one that goes on when that is lost, and one that takes its
//! place.

use super::device::{Faulty, faulty_block};
use crate::kit::LIMIT;
use rand::Rng;
use rand::rngs::StdRng;
use skep_pool::{Serve, ServeMore, Served};
use skep_runtime_core::pool::Policy;
use skep_runtime_core::{Clock, Device, Health, RunningRuntime, RuntimeBuilder, Shutdown, StartError};
use skep_stats::{PoolSnapshot, Stats};
use std::sync::Arc;

/// What is served on the first device, with the number of the first pool of each block.
pub(super) type Blocks<D> = Vec<(Served<Faulty<D>>, usize)>;

/// The clock and the order of work that all devices go by.
type Common<'a> = (&'a Arc<dyn Clock>, &'a Arc<dyn Policy>);

pub(super) struct Others<D: Device> {
    second: Option<RunningRuntime<Faulty<D>>>,
    third: Option<Faulty<D>>,
    clock: Arc<dyn Clock>,
    order: Arc<dyn Policy>,
    stats: Vec<Stats>,
}

impl<D: Device> Others<D> {
    /// Starts a second device beside the first one, with a copy of each block for the forward passes.
    pub(super) fn start(
        [second, third]: [Faulty<D>; 2],
        blocks: &Blocks<D>,
        (clock, order): Common<'_>,
        rng: &mut StdRng,
    ) -> Self {
        let stats = Stats::new();
        let mut builder = builder(second, (clock, order), &stats, rng);
        let device = Arc::clone(builder.device());
        for (served, first) in blocks {
            let copy = faulty_block(&device, &served.info.name, *first, false);
            builder.join(copy, served).expect("the copy is one");
        }
        let second = started(builder);
        let (clock, order) = (Arc::clone(clock), Arc::clone(order));
        Self { second, third: Some(third), clock, order, stats: vec![stats] }
    }

    /// Returns true if one goes on when the first one is lost.
    pub(super) fn are_there(&self) -> bool {
        self.second.is_some()
    }

    /// Lets a third device in, now that the first one is lost, and the second one out.
    pub(super) fn replace(&mut self, blocks: &Blocks<D>, rng: &mut StdRng) {
        let Some(third) = self.third.take() else { return };
        let stats = Stats::new();
        let Some(third) = started(builder(third, (&self.clock, &self.order), &stats, rng)) else { return };
        self.stats.push(stats);
        for (served, first) in blocks {
            let copy = faulty_block(third.handle().device(), &served.info.name, *first, false);
            if let Err(error) = third.handle().join(copy, served) {
                // If neither of the others has started, the pools are closed.
                let is_closed = matches!(error, StartError::PoolInUse { .. });
                assert!(is_closed && self.second.is_none(), "{error}");
                // None of them has counted anything.
                return self.stats.clear();
            }
        }
        if let Some(second) = self.second.replace(third) {
            second.shutdown(Shutdown::Drain, LIMIT).expect("drain should end");
        }
    }

    /// Ends them, and returns their accounts.
    pub(super) fn end(self) -> Vec<PoolSnapshot> {
        if let Some(last) = &self.second {
            assert!(matches!(last.handle().health(), Health::Running), "{:?}", last.handle().health());
            last.shutdown(Shutdown::Drain, LIMIT).expect("drain should end");
        }
        self.stats.iter().map(|stats| stats.snapshot().total).collect()
    }
}

fn builder<D: Device>(
    device: Faulty<D>,
    (clock, order): Common<'_>,
    stats: &Stats,
    rng: &mut StdRng,
) -> RuntimeBuilder<Faulty<D>> {
    RuntimeBuilder::new(device)
        .prefetch(rng.random_range(0..3))
        .senders(rng.random_range(1..4))
        .clock(Arc::clone(clock))
        .policy(Arc::clone(order))
        .observer(stats.observer())
}

/// `None` if its device does not want to.
fn started<D: Device>(builder: RuntimeBuilder<Faulty<D>>) -> Option<RunningRuntime<Faulty<D>>> {
    match builder.start() {
        Ok(running) => Some(running),
        Err(StartError::Device(error)) => {
            drop(error);
            None
        }
        Err(other) => panic!("no start should fail like this: {other}"),
    }
}
