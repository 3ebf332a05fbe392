//! The directory: which pools feed which blocks, and what the blocks are called, take and give.

use super::slots::Slots;
use crate::contract::backend::{Backend, BlockInfo, Pass};
use crate::contract::error::control::StartError;
use crate::contract::event::Unrun;
use crate::contract::id::{BlockId, PoolId, RuntimeId};
use crate::contract::meter::{Counts, Meter};
use crate::contract::pool::{FailureRules, Pool};
use crate::contract::schema::TensorSpec;
use crate::sync::guarded;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A pool with the block that it feeds. A batch that was cut keeps its station, whatever becomes of the directory.
pub(crate) struct Station<T> {
    pub(crate) id: PoolId,
    pub(crate) pool: Arc<dyn Pool<T>>,
    pub(crate) block: BlockId,
    pub(crate) info: Arc<BlockInfo>,
    pub(crate) pass: Pass,
    pub(crate) rules: FailureRules,
    pub(crate) unrun: UnrunCounts,
}

impl<T> Station<T> {
    /// The specs of what the block gives, if they are known. A gradient is shaped as its input is.
    pub(crate) fn gives(&self) -> Option<Gives<'_>> {
        let (inputs, outputs) = (&self.info.inputs, self.info.outputs.as_ref());
        match self.pass {
            Pass::Forward => Some(Gives { first: outputs?.tensors(), then: &[] }),
            Pass::Backward if self.info.backward_gives_outputs => {
                Some(Gives { first: inputs.tensors(), then: outputs?.tensors() })
            }
            Pass::Backward => Some(Gives { first: inputs.tensors(), then: &[] }),
        }
    }
}

/// The specs of what a block gives in one pass.
#[derive(Clone, Copy)]
pub(crate) struct Gives<'a> {
    first: &'a [TensorSpec],
    then: &'a [TensorSpec],
}

impl<'a> Gives<'a> {
    pub(crate) fn count(self) -> usize {
        self.first.len() + self.then.len()
    }

    pub(crate) fn get(self, at: usize) -> Option<&'a TensorSpec> {
        self.first.get(at).or_else(|| self.then.get(at.checked_sub(self.first.len())?))
    }
}

/// Tasks that had been cut and were answered without being run. Counted here, before their answers, and not by an
/// observer, which is code of others and may hang.
#[derive(Default)]
pub(crate) struct UnrunCounts {
    expired: AtomicU64,
    shut_down: AtomicU64,
    failed: AtomicU64,
    /// The pool's counts when the device was lost. Since then it may count for another runtime.
    frozen: OnceLock<Counts>,
}

impl UnrunCounts {
    pub(crate) fn count(&self, why: Unrun, tasks: usize) {
        let counter = match why {
            Unrun::Expired => &self.expired,
            Unrun::ShutDown => &self.shut_down,
            Unrun::Failed => &self.failed,
        };
        counter.fetch_add(tasks as u64, Ordering::SeqCst);
    }

    pub(crate) fn freeze(&self, counts: Counts) {
        self.frozen.set(counts).ok();
    }
}

/// The pool's counts, and those of its tasks that were cut and never ran.
impl<T> Meter for Station<T> {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn counts(&self) -> Counts {
        // In this order, so that no task has ended that was not submitted.
        let [expired, shut_down, failed] = [&self.unrun.expired, &self.unrun.shut_down, &self.unrun.failed]
            .map(|counter| counter.load(Ordering::SeqCst));
        let mut counts = self.unrun.frozen.get().copied().unwrap_or_else(|| self.pool.counts());
        counts.expired += expired;
        counts.shut_down += shut_down;
        counts.failed += failed;
        counts
    }
}

/// The blocks themselves, which only the device thread touches.
pub(crate) type Blocks<D> = Slots<Box<dyn Backend<D>>>;

pub(crate) struct Directory<T> {
    runtime: RuntimeId,
    stations: Slots<Arc<Station<T>>>,
    /// At the same places as the blocks.
    infos: Slots<Arc<BlockInfo>>,
    names: HashSet<(&'static str, String)>,
}

const BLOCK: &str = "block";
const POOL: &str = "pool";

impl<T> Directory<T> {
    pub(crate) fn new() -> Self {
        Self {
            runtime: RuntimeId::next(),
            stations: Slots::new(),
            infos: Slots::new(),
            names: HashSet::new(),
        }
    }

    /// The runtime that it is, or will be, the directory of.
    pub(crate) fn runtime(&self) -> RuntimeId {
        self.runtime
    }

    /// Refuses a block's name that is taken.
    pub(crate) fn check_block(&self, name: &str) -> Result<(), StartError> {
        self.check(BLOCK, name)
    }

    fn check(&self, what: &'static str, name: &str) -> Result<(), StartError> {
        let key = (what, name.to_owned());
        if self.names.contains(&key) {
            return Err(StartError::NameTwice { what, name: key.1 });
        }
        Ok(())
    }

    pub(crate) fn add_block(&mut self, info: BlockInfo) -> Result<BlockId, StartError> {
        self.check_block(&info.name)?;
        let slot = self.infos.next().ok_or_else(|| too_many("blocks"))?;
        self.names.insert((BLOCK, info.name.clone()));
        self.infos.insert(Arc::new(info));
        Ok(BlockId { of: self.runtime, slot })
    }

    pub(crate) fn remove_block(&mut self, block: BlockId) {
        if self.info(block).is_some()
            && let Some(info) = self.infos.remove(block.slot)
        {
            self.names.remove(&(BLOCK, info.name.clone()));
        }
    }

    pub(crate) fn add_pool(
        &mut self,
        block: BlockId,
        pass: Pass,
        pool: Arc<dyn Pool<T>>,
        rules: FailureRules,
    ) -> Result<PoolId, StartError> {
        self.check(POOL, pool.name())?;
        let info = Arc::clone(self.info(block).ok_or(StartError::ForeignBlock)?);
        if pass == Pass::Backward && !info.backward {
            let (pool, block) = (pool.name().to_owned(), info.name.clone());
            return Err(StartError::NoSuchPass { pool, block, pass });
        }
        if !guarded(|| pool.claim(self.runtime)).unwrap_or(false) {
            return Err(StartError::PoolInUse { pool: pool.name().to_owned() });
        }
        let id = PoolId(self.stations.next().ok_or_else(|| too_many("pools"))?);
        self.names.insert((POOL, pool.name().to_owned()));
        self.stations.insert(Arc::new(Station {
            id,
            pool,
            block,
            info,
            pass,
            rules,
            unrun: UnrunCounts::default(),
        }));
        Ok(id)
    }

    pub(crate) fn has_pools(&self) -> bool {
        self.stations.iter().next().is_some()
    }

    pub(crate) fn remove_pool(&mut self, pool: PoolId) {
        if let Some(station) = self.stations.remove(pool.0) {
            self.names.remove(&(POOL, station.pool.name().to_owned()));
        }
    }

    #[inline]
    pub(crate) fn station(&self, pool: PoolId) -> Option<&Arc<Station<T>>> {
        self.stations.get(pool.0)
    }

    /// All stations, to be visited without the lock of the directory.
    pub(crate) fn stations(&self) -> Vec<Arc<Station<T>>> {
        self.stations.iter().map(Arc::clone).collect()
    }

    pub(crate) fn info(&self, block: BlockId) -> Option<&Arc<BlockInfo>> {
        self.infos.get(block.slot).filter(|_| block.of == self.runtime)
    }

    pub(crate) fn infos(&self) -> Vec<BlockInfo> {
        self.infos.iter().map(|info| BlockInfo::clone(info)).collect()
    }

    pub(crate) fn block_of(&self, name: &str) -> Option<BlockId> {
        // Blocks are few, and asked for by name seldom.
        self.infos
            .entries()
            .find(|(_, info)| info.name == name)
            .map(|(slot, _)| BlockId { of: self.runtime, slot })
    }
}

fn too_many(setting: &'static str) -> StartError {
    StartError::Setting {
        of: "runtime".to_owned(),
        setting,
        got: "more".to_owned(),
        expected: "at most 4294967295",
    }
}
