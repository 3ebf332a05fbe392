//! The directory: which pools feed which blocks, and what the blocks are called, take and give.

use super::sharing::Sharing;
use super::slots::Slots;
use super::verifying::Verifying;
use crate::contract::backend::{BlockInfo, Pass};
use crate::contract::error::control::StartError;
use crate::contract::event::Unrun;
use crate::contract::id::{BlockId, PoolId, RuntimeId, Slot};
use crate::contract::meter::{Counts, Meter};
use crate::contract::policy::Policy;
use crate::contract::pool::{FailureRules, Pool};
use crate::contract::schema::TensorSpec;
use crate::sync::guarded;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A pool with the block that it feeds. A batch that was cut keeps its station, whatever becomes of the directory.
pub(crate) struct Station<T> {
    pub(crate) id: PoolId,
    pub(crate) pool: Arc<dyn Pool<T>>,
    pub(crate) block: BlockId,
    pub(crate) info: Arc<BlockInfo>,
    pub(crate) pass: Pass,
    pub(crate) rules: FailureRules,
    pub(crate) verifying: Option<Verifying>,
    /// How tasks of different sizes share a batch, if they do.
    pub(crate) sharing: Option<Box<Sharing>>,
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
        let mut counts = self.pool.counts();
        counts.expired += expired;
        counts.shut_down += shut_down;
        counts.failed += failed;
        counts
    }
}

pub(crate) struct Directory<T> {
    runtime: RuntimeId,
    stations: Slots<Arc<Station<T>>>,
    tenants: Slots<Tenant>,
    /// By name, those that leave excepted: their names are free.
    blocks: HashMap<String, Slot>,
    pools: HashMap<String, PoolId>,
    leaving: Vec<Leaving>,
}

struct Leaving {
    block: BlockId,
    /// Its pools take no more tasks.
    closed: bool,
}

/// A block, and the pools that feed it.
struct Tenant {
    info: Arc<BlockInfo>,
    pools: Vec<PoolId>,
}

/// A pool that is to feed one pass of a block.
pub(crate) type Feed<T> = (Pass, Arc<dyn Pool<T>>, FailureRules);

impl<T> Directory<T> {
    pub(crate) fn new() -> Self {
        Self {
            runtime: RuntimeId::next(),
            stations: Slots::new(),
            tenants: Slots::new(),
            blocks: HashMap::new(),
            pools: HashMap::new(),
            leaving: Vec::new(),
        }
    }

    /// The runtime that it is, or will be, the directory of.
    pub(crate) fn runtime(&self) -> RuntimeId {
        self.runtime
    }

    /// Refuses a block's name that is taken.
    pub(crate) fn check_block(&self, name: &str) -> Result<(), StartError> {
        if self.blocks.contains_key(name) {
            return Err(StartError::NameTwice { what: "block", name: name.to_owned() });
        }
        Ok(())
    }

    pub(crate) fn add_block(&mut self, info: BlockInfo) -> Result<BlockId, StartError> {
        self.check_block(&info.name)?;
        let slot = self.tenants.next().ok_or_else(|| too_many("blocks"))?;
        self.blocks.insert(info.name.clone(), slot);
        self.tenants.insert(Tenant { info: Arc::new(info), pools: Vec::new() });
        Ok(BlockId { of: self.runtime, slot })
    }

    pub(crate) fn add_pool(
        &mut self,
        block: BlockId,
        (pass, pool, rules): Feed<T>,
    ) -> Result<PoolId, StartError> {
        if self.pools.contains_key(pool.name()) {
            return Err(StartError::NameTwice { what: "pool", name: pool.name().to_owned() });
        }
        let info = Arc::clone(self.info(block).ok_or(StartError::ForeignBlock)?);
        if pass == Pass::Backward && !info.backward {
            let (pool, block) = (pool.name().to_owned(), info.name.clone());
            return Err(StartError::NoSuchPass { pool, block, pass });
        }
        let padding = guarded(|| pool.padding()).unwrap_or(None);
        let sharing = Sharing::new(padding, &info, pass, pool.name())?.map(Box::new);
        if !guarded(|| pool.claim(self.runtime)).unwrap_or(false) {
            return Err(StartError::PoolInUse { pool: pool.name().to_owned() });
        }
        let id = PoolId(self.stations.next().ok_or_else(|| too_many("pools"))?);
        self.pools.insert(pool.name().to_owned(), id);
        if let Some(tenant) = self.tenants.get_mut(block.slot) {
            tenant.pools.push(id);
        }
        let verifying = guarded(|| pool.verify()).ok().flatten().map(Verifying::new);
        let unrun = UnrunCounts::default();
        self.stations.insert(Arc::new(Station {
            id,
            pool,
            block,
            info,
            pass,
            rules,
            verifying,
            sharing,
            unrun,
        }));
        Ok(id)
    }

    /// Tells pools by which policy their tasks are ranked here.
    pub(crate) fn rank_by<'a>(
        &self,
        mut stations: impl Iterator<Item = &'a Arc<Station<T>>>,
        policy: &Arc<dyn Policy>,
    ) -> Result<(), StartError>
    where
        T: 'a,
    {
        stations.try_for_each(|station| {
            let told = guarded(|| station.pool.rank_by(self.runtime, policy)).unwrap_or(Ok(()));
            told.map_err(|why| {
                let policy = guarded(|| policy.name()).unwrap_or("unknown");
                StartError::OtherPolicy { pool: station.pool.name().to_owned(), policy, why }
            })
        })
    }

    pub(crate) fn has_pools(&self) -> bool {
        self.stations.iter().next().is_some()
    }

    /// Lets a block leave, and its pools with it: their names are free, and who asks for the block by name does not find
    /// it. Returns false if it leaves already, or is not there.
    pub(crate) fn leave(&mut self, block: BlockId) -> bool {
        if self.tenant(block).is_none() || self.is_leaving(block) {
            return false;
        }
        self.free_names(block);
        self.leaving.push(Leaving { block, closed: false });
        true
    }

    /// Notes that the pools of a block that leaves take no more tasks.
    pub(crate) fn note_closed(&mut self, block: BlockId) {
        self.leaving
            .iter_mut()
            .filter(|leaving| leaving.block == block)
            .for_each(|leaving| leaving.closed = true);
    }

    /// Keeps a block that leaves until [`note_closed`](Self::note_closed): somebody has taken tasks of it, and has not
    /// counted them yet.
    pub(crate) fn keep(&mut self, block: BlockId) {
        self.leaving
            .iter_mut()
            .filter(|leaving| leaving.block == block)
            .for_each(|leaving| leaving.closed = false);
    }

    /// Blocks that leave, are still there, and get no more tasks.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = BlockId> {
        self.leaving.iter().filter(|leaving| leaving.closed).map(|leaving| leaving.block)
    }

    fn is_leaving(&self, block: BlockId) -> bool {
        self.leaving.iter().any(|leaving| leaving.block == block)
    }

    /// Takes a block out, with its pools, and returns these.
    pub(crate) fn remove_block(&mut self, block: BlockId) -> Vec<Arc<Station<T>>> {
        if !self.is_leaving(block) {
            self.free_names(block);
        }
        self.leaving.retain(|leaving| leaving.block != block);
        let tenant = if self.tenant(block).is_some() { self.tenants.remove(block.slot) } else { None };
        let pools = tenant.into_iter().flat_map(|tenant| tenant.pools);
        pools.filter_map(|pool| self.stations.remove(pool.0)).collect()
    }

    fn free_names(&mut self, block: BlockId) {
        let Some(tenant) = self.tenants.get(block.slot).filter(|_| block.of == self.runtime) else { return };
        self.blocks.remove(&tenant.info.name);
        for station in tenant.pools.iter().filter_map(|pool| self.stations.get(pool.0)) {
            self.pools.remove(station.pool.name());
        }
    }

    fn tenant(&self, block: BlockId) -> Option<&Tenant> {
        self.tenants.get(block.slot).filter(|_| block.of == self.runtime)
    }

    #[inline]
    pub(crate) fn station(&self, pool: PoolId) -> Option<&Arc<Station<T>>> {
        self.stations.get(pool.0)
    }

    /// All stations, to be visited without the lock of the directory.
    pub(crate) fn stations(&self) -> Vec<Arc<Station<T>>> {
        self.stations.iter().map(Arc::clone).collect()
    }

    /// The stations of a block; none if it is not there.
    pub(crate) fn stations_of(&self, block: BlockId) -> Vec<Arc<Station<T>>> {
        let pools = self.tenant(block).into_iter().flat_map(|tenant| &tenant.pools);
        pools.filter_map(|pool| self.station(*pool)).map(Arc::clone).collect()
    }

    pub(crate) fn info(&self, block: BlockId) -> Option<&Arc<BlockInfo>> {
        self.tenant(block).map(|tenant| &tenant.info)
    }

    pub(crate) fn infos(&self) -> Vec<BlockInfo> {
        let stays = |slot| !self.is_leaving(BlockId { of: self.runtime, slot });
        let stay = self.tenants.entries().filter(|(slot, _)| stays(*slot));
        stay.map(|(_, tenant)| BlockInfo::clone(&tenant.info)).collect()
    }

    pub(crate) fn block_of(&self, name: &str) -> Option<BlockId> {
        Some(BlockId { of: self.runtime, slot: *self.blocks.get(name)? })
    }

    pub(crate) fn pool_of(&self, name: &str) -> Option<&Arc<Station<T>>> {
        self.station(*self.pools.get(name)?)
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
