//! Putting a runtime together: settings, blocks, pools.

use super::bells::{Bells, TimerEvent};
use super::blocks::Blocks;
use super::close::close_pool;
use super::directory::Directory;
use super::goods::Desk;
use super::loaded::LoadedBlock;
use super::outside::Outside;
use super::running::{Freight, RunningRuntime, Runtime};
use super::settings::Settings;
use super::shared::Shared;
use super::stage::Stage;
use super::status::Status;
use super::teller::Teller;
use super::warm::{WarmUp, check};
use super::watch::Watch;
use super::work::Work;
use crate::contract::backend::{Backend, BlockInfo, BlockState, Fit, Pass, Unmatched};
use crate::contract::clock::{Clock, SystemClock};
use crate::contract::device::Device;
use crate::contract::error::control::{ControlError, StartError};
use crate::contract::event::Observer;
use crate::contract::id::{BlockId, PoolId};
use crate::contract::policy::Policy;
use crate::contract::pool::{Pool, Shutdown};
use crate::policy::oldest_first::OldestFirst;
use crate::policy::residents::Residents;
use crate::policy::selector::{Selector, Timing};
use crate::sync::atomic::AtomicBool;
use crate::sync::{Mutex, flume, guarded};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Puts a [`Runtime`] together.
///
/// Blocks are loaded onto the device as they are registered, so a block that cannot be loaded fails there and then.
/// With `skep-pool`, one call registers a block and its pools.
pub struct RuntimeBuilder<D: Device> {
    device: Arc<D>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    /// Pools have the clock that was set before.
    is_clock_late: bool,
    observer: Option<Arc<dyn Observer>>,
    policy: Arc<dyn Policy>,
    pub(super) blocks: Blocks<D>,
    pub(super) directory: Directory<D::Tensor>,
    warm_ups: Vec<WarmUp>,
    pub(super) residents: Residents,
    /// Of a runtime with a budget.
    pub(super) desk: Option<Desk<D>>,
    /// Blocks were served before the budget was set.
    pub(super) is_budget_late: bool,
}

impl<D: Device> fmt::Debug for RuntimeBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<D: Device> RuntimeBuilder<D> {
    /// Creates a builder with no blocks and the default settings.
    pub fn new(device: D) -> Self {
        Self {
            device: Arc::new(device),
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            is_clock_late: false,
            observer: None,
            policy: Arc::new(OldestFirst),
            blocks: Blocks::new(),
            directory: Directory::new(),
            warm_ups: Vec::new(),
            residents: Residents::new(u64::MAX),
            desk: None,
            is_budget_late: false,
        }
    }

    /// Sets the number of batches that are gathered ahead of the one that runs. Default 1; at most 64.
    ///
    /// 1 hides the gathering behind the device's work. More helps only where the time to gather varies a
    /// lot, and costs urgency: a batch that is gathered is not overtaken, so an urgent task waits behind up
    /// to `batches + 1` others. 0 spares the loader's thread and gathers between batches.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.settings.prefetch = batches;
        self
    }

    /// Sets the number of threads that bring outputs back. Default 1; 1 to 64. More help if outputs are large, or if
    /// callers' wakers take long. Answers of one pool can overtake each other whatever the number: the device thread
    /// answers too, when nothing overlaps or when the senders have enough to do.
    pub fn senders(mut self, threads: usize) -> Self {
        self.settings.senders = threads;
        self
    }

    /// Sets the time on the device under which a batch is not worth another thread's help. Default 50 µs, some
    /// times what it costs to wake a thread. Zero always asks for help; tests of overlap want that.
    pub fn hand_over(mut self, device_time: Duration) -> Self {
        self.settings.hand_over = device_time;
        self
    }

    /// Sets the time that the device thread looks for a new task before it sleeps, and a thread that waits for its
    /// task's answer for that. Default 50 µs, about what it takes to wake a thread on a processor at rest; at most 10 ms. Zero: they
    /// sleep at once.
    ///
    /// It helps a caller who hands in one quick task after the other, and is next to nothing for others: a thread that
    /// has looked in vain looks ever more seldom, soon only one time in 256; of several callers whose tasks wait
    /// together only the first looks; and nobody does where the process has one processor.
    pub fn spin(mut self, limit: Duration) -> Self {
        self.settings.spin = limit;
        self
    }

    /// Sets the longest time that the device may work on one batch at a stretch: gather it, run it, or bring its outputs
    /// back. Default: no limit.
    ///
    /// When it passes, the device counts as stuck: every task is answered with
    /// [`DeviceLoss::Stuck`](crate::DeviceLoss::Stuck), new ones are refused, [`Handle::health`] says so, and
    /// another runtime can take the pools over. A thread that is stuck cannot be ended: it is left behind, and
    /// ends when its call returns. So choose the limit far above what the slowest batch takes.
    ///
    /// [`Handle::health`]: crate::Handle::health
    pub fn batch_limit(mut self, limit: Duration) -> Self {
        self.settings.batch_limit = Some(limit);
        self
    }

    /// Sets the order of work: which task runs next, wherever it waits. Default [`OldestFirst`].
    ///
    /// ```
    /// use skep_runtime_core::{Classes, Fair, Flow, RuntimeBuilder, testing::FakeDevice};
    /// use std::sync::Arc;
    ///
    /// // Strict classes by priority, and within each the device's time is shared: flow 1 gets twice the share.
    /// let fair = Fair::new().weight(Flow(1), 2.0);
    /// let builder = RuntimeBuilder::new(FakeDevice::new()).policy(Arc::new(Classes::of(fair)));
    /// # let _ = builder;
    /// ```
    pub fn policy(mut self, policy: Arc<dyn Policy>) -> Self {
        self.policy = policy;
        self
    }

    /// Sets if a batch is cut when its gather would end as the running batch does, or as soon as there is room. Default
    /// true: the later it is cut, the more tasks it takes along, and the more urgent ones. It takes effect as soon as it is
    /// known how long batches take.
    pub fn just_in_time(mut self, yes: bool) -> Self {
        self.settings.timing.just_in_time = yes;
        self
    }

    /// Sets if a batch waits a moment for callers who were just answered and are about to come back. Default true: it
    /// does where that is known to spare more than it costs, which is where batches take a time whatever their rows.
    pub fn linger(mut self, yes: bool) -> Self {
        self.settings.timing.linger = yes;
        self
    }

    /// Sets the part of its time by which an urgent batch may become longer for tasks of less urgent classes that run
    /// with it. Default 0.1. Infinity fills each batch up.
    pub fn riders(mut self, part: f64) -> Self {
        self.settings.timing.riders = part;
        self
    }

    /// Sets the longest time that dropping the running runtime waits for the batch on the device. Default 30 s.
    ///
    /// When it passes, every task still open is answered with [`TaskError::ShutDown`](crate::TaskError::ShutDown), and the
    /// device thread is left behind: it ends when its block returns.
    pub fn drop_limit(mut self, limit: Duration) -> Self {
        self.settings.drop_limit = limit;
        self
    }

    /// Sets the clock. Default: the system's. To be set before blocks are served: their pools take tasks at once, and
    /// two clocks do not agree on how long those have waited. Set later, it makes [`build`](Self::build) fail.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.is_clock_late |= self.directory.has_pools();
        self
    }

    /// Sets the observer, which hears of each batch. Default: none.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Returns the device.
    pub fn device(&self) -> &Arc<D> {
        &self.device
    }

    /// Returns the clock, for pools of one's own.
    pub fn clock_handle(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Loads a block onto the device. An output schema that it does not name is found by a dummy run of
    /// three rows of zeros, or of fewer if it does not take three.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::NameTwice`] if the name is taken, and [`StartError::Load`] if the block cannot be loaded or
    /// the dummy run fails.
    pub fn block(&mut self, block: impl Backend<D>) -> Result<BlockId, StartError> {
        self.block_for(block, usize::MAX)
    }

    /// Loads a block whose batches will have at most so many rows: a dummy run has no more, and tries as many if the block
    /// takes no fewer.
    ///
    /// # Errors
    ///
    /// Returns those of [`block`](Self::block).
    pub fn block_for(&mut self, block: impl Backend<D>, most_rows: usize) -> Result<BlockId, StartError> {
        let info = block.info();
        self.directory.check_block(&info.name)?;
        let LoadedBlock { info, body, .. } =
            LoadedBlock::load(&*self.device, Box::new(block), info, most_rows)?;
        let id = self.directory.add_block(info)?;
        self.blocks.insert(id.slot, body);
        Ok(id)
    }

    /// Has a block run batches of zeros, of these numbers of rows, on the device thread before the runtime is ready: what a
    /// device does only once (kernels that are compiled or chosen, memory that is got) is done by then. The outputs are
    /// thrown away; what all but the first batch took is learned. Free dims are as long as they may be, up to 64.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::ForeignBlock`] if the block is not one of this builder's, and [`StartError::Setting`] if a batch
    /// has no rows. If a batch fails, the start does: [`StartError::WarmUp`].
    pub fn warm_up(&mut self, block: BlockId, rows: &[usize]) -> Result<(), StartError> {
        check(self.directory.info(block).ok_or(StartError::ForeignBlock)?, rows)?;
        if !self.warm_up_later(block, rows) {
            self.warm_ups.push(WarmUp { block, rows: rows.to_vec() });
        }
        Ok(())
    }

    /// Takes a block out again, with the pools that feed it: their waiting tasks are answered with
    /// [`TaskError::ShutDown`](crate::TaskError::ShutDown), and the names are free.
    pub fn remove_block(&mut self, block: BlockId) {
        if self.directory.info(block).is_none() {
            return;
        }
        for station in self.directory.remove_block(block) {
            close_pool(&*station.pool, self.directory.runtime(), Shutdown::Abort);
        }
        drop(self.blocks.remove(block.slot));
        self.forget_reloadable(block);
        self.warm_ups.retain(|warm_up| warm_up.block != block);
    }

    /// Replaces a registered block's state, before its first batch.
    ///
    /// # Errors
    ///
    /// Returns [`ControlError::UnknownBlock`] if no block of this name is registered, and [`ControlError::Block`] or
    /// [`ControlError::Panic`] if it cannot take the state: a part does not fit, is missing, or is not the block's.
    pub fn restore(&mut self, block: &str, state: &BlockState) -> Result<(), ControlError> {
        self.restore_as(block, state, Fit::Exact).map(drop)
    }

    /// Replaces the parts of a registered block's state that are in `state`, before its first batch. Returns the parts
    /// that only one of them has; the block's keep their values.
    ///
    /// # Errors
    ///
    /// Returns those of [`restore`](Self::restore), but for parts that are missing or not the block's.
    pub fn restore_partial(&mut self, block: &str, state: &BlockState) -> Result<Unmatched, ControlError> {
        self.restore_as(block, state, Fit::Partial)
    }

    fn restore_as(&mut self, block: &str, state: &BlockState, fit: Fit) -> Result<Unmatched, ControlError> {
        let unknown = || ControlError::UnknownBlock { name: block.to_owned() };
        let id = self.directory.block_of(block).ok_or_else(unknown)?;
        let restored = match self.blocks.get_mut(id.slot) {
            Some(body) => guarded(|| body.restore(state, fit)),
            None => guarded(|| self.restore_away(id, state, fit)),
        };
        match restored {
            Ok(restored) => {
                restored.map_err(|source| ControlError::Block { block: block.to_owned(), source })
            }
            Err(message) => Err(ControlError::Panic { block: block.to_owned(), message }),
        }
    }

    /// Returns the name and schemas of a registered block, or `None` if it is not one of this builder's. Its outputs
    /// are known.
    pub fn info(&self, block: BlockId) -> Option<&BlockInfo> {
        self.directory.info(block).map(|info| &**info)
    }

    /// Lets a pool feed one pass of a block.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::PoolInUse`] if the pool is another runtime's, [`StartError::NameTwice`] if its name is taken, [`StartError::ForeignBlock`] if the block is not
    /// one of this builder's, and [`StartError::NoSuchPass`] if it does not have the pass.
    pub fn pool(
        &mut self,
        block: BlockId,
        pass: Pass,
        pool: Arc<dyn Pool<D::Tensor>>,
    ) -> Result<PoolId, StartError> {
        let rules = pool.failure_rules();
        self.directory.add_pool(block, (pass, pool, rules))
    }

    /// Checks the settings and creates the runtime, without starting it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Setting`] with the setting that is out of range, and [`StartError::OtherPolicy`] if a pool
    /// feeds other runtimes, too, and this one's policy is not theirs.
    pub fn build(mut self) -> Result<Runtime<D>, StartError> {
        self.settings.check()?;
        if self.is_clock_late {
            return Err(StartError::Setting {
                of: "runtime".to_owned(),
                setting: "clock",
                got: "set after a pool was made".to_owned(),
                expected: "set before blocks are served",
            });
        }
        if self.is_budget_late {
            return Err(StartError::Setting {
                of: "runtime".to_owned(),
                setting: "budget",
                got: "set after a block was served".to_owned(),
                expected: "set before blocks are served",
            });
        }
        self.directory.rank_by(self.directory.stations().iter(), &self.policy)?;
        let (ring, rings) = flume::unbounded();
        let (timer, timer_events) = flume::unbounded::<TimerEvent>();
        // What is left behind for `drop` has no pools.
        let directory = std::mem::replace(&mut self.directory, Directory::new());
        let timing = Timing { least: self.settings.hand_over, ..self.settings.timing };
        let residents = std::mem::replace(&mut self.residents, Residents::new(u64::MAX));
        let selector = Selector::new(Arc::clone(&self.policy), timing);
        let shared = Shared {
            settings: self.settings,
            outside: Outside {
                name: guarded(|| self.device.name()).unwrap_or_default(),
                device: Arc::clone(&self.device),
                clock: Arc::clone(&self.clock),
                observer: self.observer.take(),
            },
            bells: Arc::new(Bells::new(
                directory.runtime(),
                ring,
                timer,
                self.settings.spin,
                Arc::clone(&self.policy),
            )),
            stage: Mutex::new(Stage::new(directory, rings, selector, residents)),
            listens: self.policy.listens(),
            work: Work::new(),
            desk: self.desk.take(),
            watch: Watch::default(),
            status: Arc::new(Status::new()),
            in_question: AtomicBool::new(false),
            teller: Arc::new(Teller::new()),
        };
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new());
        let warm_ups = std::mem::take(&mut self.warm_ups);
        Ok(Runtime::new(Arc::new(shared), Freight { blocks, warm_ups }, timer_events))
    }

    /// Calls [`build`](Self::build) and [`start`](Runtime::start).
    ///
    /// # Errors
    ///
    /// Returns those of both.
    pub fn start(self) -> Result<RunningRuntime<D>, StartError> {
        self.build()?.start()
    }
}

/// A runtime that was never built answers the tasks that its pools have taken.
impl<D: Device> Drop for RuntimeBuilder<D> {
    fn drop(&mut self) {
        for station in self.directory.stations() {
            close_pool(&*station.pool, self.directory.runtime(), Shutdown::Abort);
        }
    }
}
