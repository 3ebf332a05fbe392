//! Putting a runtime together: settings, blocks, pools.

use super::bell::{Bells, TimerEvent};
use super::core::{Core, Settings, Station};
use super::jobs::{Blocks, Jobs};
use super::probe::probe_outputs;
use super::running::{RunningRuntime, Runtime};
use super::stage::Stage;
use super::status::Status;
use crate::backend::{Backend, BlockInfo};
use crate::clock::{Clock, SystemClock};
use crate::device::{Device, Pass};
use crate::error::StartError;
use crate::event::Observer;
use crate::pool::{Pool, PoolId, Shutdown};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sync::{Mutex, flume, guarded};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Which block of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId(usize);

/// Puts a [`Runtime`] together.
///
/// Blocks are loaded onto the device as they are registered, so a block that cannot be loaded is told at
/// the line that names it. With `skep-pool`, one call registers a block and its pools.
pub struct RuntimeBuilder<D: Device> {
    device: Arc<D>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn Observer>>,
    blocks: Blocks<D>,
    infos: Vec<BlockInfo>,
    stations: Vec<Station<D>>,
    names: HashSet<(&'static str, String)>,
}

impl<D: Device> RuntimeBuilder<D> {
    /// Starts with no blocks and the default settings.
    pub fn new(device: D) -> Self {
        Self {
            device: Arc::new(device),
            settings: Settings {
                prefetch: 1,
                senders: 1,
                hand_over: Duration::from_micros(50),
                spin: Duration::from_micros(50),
                batch_limit: None,
            },
            clock: Arc::new(SystemClock),
            observer: None,
            blocks: Vec::new(),
            infos: Vec::new(),
            stations: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// How many batches are gathered ahead of the one that runs. Default 1; at most 64.
    ///
    /// 1 hides the gathering behind the device's work. More helps only where the time to gather varies a
    /// lot, and costs urgency: a batch that is gathered is not overtaken, so an urgent task waits behind up
    /// to `batches + 1` others. 0 spares the loader's thread and gathers between batches.
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.settings.prefetch = batches;
        self
    }

    /// How many threads bring outputs back. Default 1; 1 to 64. More help where outputs are large, or where
    /// callers' wakers take long.
    pub fn senders(mut self, threads: usize) -> Self {
        self.settings.senders = threads;
        self
    }

    /// The time on the device under which a batch is not worth another thread's help. Default 50 µs, some
    /// times what it costs to wake a thread. Zero always asks for help; tests of overlap want that.
    pub fn hand_over(mut self, device_time: Duration) -> Self {
        self.settings.hand_over = device_time;
        self
    }

    /// How long the device thread looks for a new task before it sleeps, and a thread that waits for its task's answer
    /// for that. Default 50 µs, about what it takes to wake a thread on a processor at rest; at most 10 ms. Zero: they
    /// sleep at once.
    ///
    /// It helps a caller who hands in one quick task after the other, and is next to nothing for others: a thread that
    /// has looked in vain looks ever more seldom, soon only one time in 256; of several callers whose tasks wait
    /// together only the first looks; and nobody does where the process has one processor.
    pub fn spin(mut self, limit: Duration) -> Self {
        self.settings.spin = limit;
        self
    }

    /// The longest that the device may work on one batch at a stretch: gather it, run it, or bring its outputs
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

    /// Where the runtime takes the time from. Default: the system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who is told of each batch. Default: nobody.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The device.
    pub fn device(&self) -> &Arc<D> {
        &self.device
    }

    /// The clock, for pools of one's own.
    pub fn clock_handle(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Loads a block onto the device. An output schema that it does not name is found by a dummy run of
    /// three rows of zeros.
    ///
    /// # Errors
    ///
    /// When the name is taken, the block cannot be loaded, or the dummy run fails.
    pub fn block(&mut self, block: impl Backend<D>) -> Result<BlockId, StartError> {
        let mut block = block;
        let mut info = block.info();
        self.claim("block", &info.name)?;
        let device = &*self.device;
        let name = info.name.clone();
        guarded(|| {
            block.load(device)?;
            if info.outputs.is_none() {
                info.outputs = Some(probe_outputs(device, &mut block, &info.inputs)?);
            }
            Ok(())
        })
        .unwrap_or_else(|message| Err(message.into()))
        .map_err(|source| StartError::Load { block: name, source })?;
        self.blocks.push(Box::new(block));
        self.infos.push(info);
        Ok(BlockId(self.blocks.len() - 1))
    }

    /// What a registered block takes and gives. Its outputs are known.
    pub fn info(&self, block: BlockId) -> &BlockInfo {
        &self.infos[block.0]
    }

    /// Lets a pool feed one pass of a block.
    ///
    /// # Errors
    ///
    /// When the pool's name is taken.
    pub fn pool(&mut self, block: BlockId, pass: Pass, pool: Arc<dyn Pool<D>>) -> Result<PoolId, StartError> {
        self.claim("pool", pool.name())?;
        let id = u32::try_from(self.stations.len()).map_err(|_| StartError::Setting {
            setting: "pools",
            got: "more".to_owned(),
            expected: "at most 4294967295",
        })?;
        let rules = pool.failure_rules();
        self.stations.push(Station { pool, block: block.0, pass, rules });
        Ok(PoolId(id))
    }

    fn claim(&mut self, what: &'static str, name: &str) -> Result<(), StartError> {
        if self.names.insert((what, name.to_owned())) {
            Ok(())
        } else {
            Err(StartError::NameTwice { what, name: name.to_owned() })
        }
    }

    /// Checks the settings and makes the runtime, without starting it.
    ///
    /// # Errors
    ///
    /// Names the setting that is out of range.
    pub fn build(mut self) -> Result<Runtime<D>, StartError> {
        let range = |setting, got: usize, least: usize, expected| {
            if (least..=64).contains(&got) {
                Ok(())
            } else {
                Err(StartError::Setting { setting, got: got.to_string(), expected })
            }
        };
        range("prefetch", self.settings.prefetch, 0, "0 to 64 batches")?;
        range("senders", self.settings.senders, 1, "1 to 64 threads")?;
        if let Some(limit) = self.settings.batch_limit.filter(Duration::is_zero) {
            let got = format!("{limit:?}");
            return Err(StartError::Setting { setting: "batch_limit", got, expected: "more than no time" });
        }

        if self.settings.spin > Duration::from_millis(10) {
            let got = format!("{:?}", self.settings.spin);
            return Err(StartError::Setting { setting: "spin", got, expected: "0 to 10 ms" });
        }

        let (ring, rings) = flume::unbounded();
        let (timer, timer_events) = flume::unbounded::<TimerEvent>();
        let stations = std::mem::take(&mut self.stations);
        let core = Core {
            device: Arc::clone(&self.device),
            settings: self.settings,
            clock: Arc::clone(&self.clock),
            observer: self.observer.take(),
            stage: Mutex::new(Stage::new(stations.len())),
            stations,
            infos: std::mem::take(&mut self.infos),
            bells: Arc::new(Bells::new(ring, timer, self.settings.spin)),
            rings,
            jobs: Jobs::new(),
            status: Arc::new(Status::new()),
            given_up: AtomicUsize::new(0),
            watching: AtomicBool::new(false),
        };
        Ok(Runtime::new(Arc::new(core), std::mem::take(&mut self.blocks), timer_events))
    }

    /// [`build`](Self::build) and [`start`](Runtime::start) in one.
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn start(self) -> Result<RunningRuntime<D>, StartError> {
        self.build()?.start()
    }
}

/// A runtime that was never built answers the tasks that its pools have taken.
impl<D: Device> Drop for RuntimeBuilder<D> {
    fn drop(&mut self) {
        for station in &self.stations {
            station.pool.close(Shutdown::Abort);
        }
    }
}
