//! Skep with everything on: tasks are checked against the schema, can be cancelled and expire, have priorities,
//! and are counted.

use super::{CAPACITY, MAX_ROWS};
use crate::Result;
use crate::drive::{Awaited, Blocking};
use crate::work::Work;
use skep_pool::{PoolOptions, Serve, ServeOptions, Served, TaskPool};
use skep_runtime_core::{Device, Handle, RunningRuntime, RuntimeBuilder, Ticket};
use skep_stats::{Metrics, Publishing, Stats};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Skep<D: Device> {
    pools: Arc<[TaskPool<D>]>,
    /// Of each device.
    stats: Vec<Stats>,
    running: Arc<Running<D>>,
}

/// What stops when the last handle goes.
type Running<D> = (Vec<RunningRuntime<D>>, Option<Publishing>);

impl<D: Device> Clone for Skep<D> {
    fn clone(&self) -> Self {
        let Self { pools, stats, running } = self;
        Self { pools: Arc::clone(pools), stats: stats.clone(), running: Arc::clone(running) }
    }
}

/// Who is told of every batch: left out, or added, to see what it costs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Observed {
    No,
    Stats,
    /// Stats, which a thread brings to the recorder that is installed, several times in each round.
    StatsAndMetrics,
}

impl<D: Device + Clone> Skep<D> {
    pub(crate) fn start(work: &Work<D>, pools: usize, observed: Observed) -> Result<Self> {
        Self::new(work, pools, observed, MAX_ROWS)
    }

    /// One pool, whose batches have at most `max_rows` rows.
    pub(crate) fn with_rows(work: &Work<D>, max_rows: usize) -> Result<Self> {
        Self::new(work, 1, Observed::Stats, max_rows)
    }

    fn new(work: &Work<D>, pools: usize, observed: Observed, max_rows: usize) -> Result<Self> {
        Self::built(RuntimeBuilder::new(work.device()), work, pools, observed, max_rows)
    }

    /// With the settings of this builder.
    pub(crate) fn built(
        mut builder: RuntimeBuilder<D>,
        work: &Work<D>,
        pools: usize,
        observed: Observed,
        max_rows: usize,
    ) -> Result<Self> {
        let stats = Stats::new();
        if !matches!(observed, Observed::No) {
            builder = builder.observer(stats.observer());
        }
        let publishing = match observed {
            Observed::No | Observed::Stats => None,
            Observed::StatsAndMetrics => Some(Metrics::new(stats.clone()).every(Duration::from_millis(50))?),
        };
        let options = PoolOptions::default().max_rows(max_rows).capacity(CAPACITY);
        let pools = (0..pools)
            .map(|i| {
                let block = work.block(&format!("block.{i}"))?;
                Ok(builder.serve(block, ServeOptions::forward(options.clone()))?.forward)
            })
            .collect::<Result<_>>()?;
        Ok(Self { pools, stats: vec![stats], running: Arc::new((vec![builder.start()?], publishing)) })
    }

    /// One pool that others have set up, with the runtimes that feed from it.
    pub(crate) fn of(pool: TaskPool<D>, running: Vec<(RunningRuntime<D>, Stats)>) -> Self {
        let (running, stats) = running.into_iter().unzip();
        Self { pools: Arc::new([pool]), stats, running: Arc::new((running, None)) }
    }

    /// The handle of the first runtime.
    pub(crate) fn handle(&self) -> Option<Handle<D>> {
        self.running.0.first().map(|running| running.handle().clone())
    }

    /// One pool of batches of at most `max_rows` rows, which feeds all of these devices.
    pub(crate) fn on(work: &Work<D>, devices: Vec<D>, max_rows: usize) -> Result<Self> {
        let options = PoolOptions::default().max_rows(max_rows).capacity(CAPACITY);
        let (mut served, mut stats, mut running) = (None::<Served<D>>, Vec::new(), Vec::new());
        for (at, device) in devices.into_iter().enumerate() {
            let own = Stats::new();
            let mut builder = RuntimeBuilder::new(device).prefetch(0).observer(own.observer());
            let block = work.block(&format!("copy.{at}"))?;
            match &served {
                Some(served) => builder.join(block, served)?,
                None => served = Some(builder.serve(block, ServeOptions::forward(options.clone()))?),
            }
            running.push(builder.start()?);
            stats.push(own);
        }
        let pools = served.into_iter().map(|served| served.forward).collect();
        Ok(Self { pools, stats, running: Arc::new((running, None)) })
    }
}

impl<D: Device> Blocking<D::Tensor> for Skep<D> {
    type Pending = Ticket<D::Tensor>;

    fn submit(&self, pool: usize, task: Vec<D::Tensor>) -> Self::Pending {
        self.pools[pool].submit(task).expect("a task that fits the schema of a running block")
    }

    fn wait(&self, pending: Self::Pending) -> Vec<D::Tensor> {
        pending.wait().expect("a block that does not fail")
    }

    fn busy(&self) -> Option<Duration> {
        let busy: Duration = self.stats.iter().map(|stats| stats.snapshot().total.device.total).sum();
        Some(busy / u32::try_from(self.stats.len()).unwrap_or(1))
    }
}

impl<D: Device> Awaited<D::Tensor> for Skep<D> {
    async fn call(&self, pool: usize, task: Vec<D::Tensor>) -> Vec<D::Tensor> {
        let ticket = self.pools[pool].submit_async(task).await;
        ticket
            .expect("a task that fits the schema of a running block")
            .await
            .expect("a block that does not fail")
    }
}
