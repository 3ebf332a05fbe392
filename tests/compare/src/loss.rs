//! One of two devices hangs under load, another takes its place and dies: what the rest gives beside one device alone.

use crate::Result;
use crate::args::Args;
use crate::contest::Contest;
use crate::drive::{Load, blocking};
use crate::processor::engines::{Engine, for_each_backend};
use crate::processor::{Shape, work};
use crate::report::Results;
use crate::systems::skep::Skep;
use crate::work::{Counted, Work};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served, TaskPool};
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, Chain, Device, DeviceError, Fit, Health, RunningRuntime,
    RuntimeBuilder, TensorOps, Unmatched,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CALLERS: u64 = 64;
/// Tasks of each caller at least while a device is lost, half of them before that.
const CALLS: u64 = 40;
/// Rows of a batch: few enough for all devices to have some at any time.
const ROWS: usize = 16;
/// Far above what a batch takes.
const MOST: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args, results: &mut Results) -> Result<()> {
    for_each_backend!(contest(args, results));
    Ok(())
}

fn contest<E: Engine>(args: &Args, results: &mut Results) -> Result<()> {
    let shape = Shape::ffn(64, 1024);
    let load = Load { outstanding: 64, pools: 1 };
    let workload = format!("ffn 1024-4096-1024, batches of {ROWS}, one thread a device, {}", E::NAME);
    let work = work::<E>(&shape, 1)?;
    let mut contest = Contest::new(&workload, load.outstanding);
    contest.enter("one device alone", blocking(Skep::on(&work, vec![E::device(1)?], ROWS)?, &work, load));
    let mut fates = Vec::new();
    for (system, dies_too) in
        [("the other, after one has hung", false), ("the other, after one has hung and one has died", true)]
    {
        let mut group = Group::<E>::new(&work)?;
        let hung = group.loses(&work, 0, HANGS)?;
        results.note(format!("{workload}: one of two devices hangs: {hung}"));
        if dies_too {
            let at = group.add(&work)?;
            let died = group.loses(&work, at, DIES)?;
            results.note(format!("{workload}: another one has taken its place, and dies: {died}"));
        }
        fates.extend(group.fates.iter().cloned());
        contest.enter(system, blocking(group.rest(), &work, load));
    }
    contest.run(args, args.long(), results)?;
    // Threads that hang are let go.
    for fate in fates {
        fate.store(LETS_GO, Ordering::SeqCst);
    }
    Ok(())
}

const LIVES: u8 = 0;
const HANGS: u8 = 1;
const DIES: u8 = 2;
const LETS_GO: u8 = 3;

/// A block that hangs, or kills its device, when it is told to.
struct Fated<D: Device> {
    inner: Counted<D>,
    device: String,
    fate: Arc<AtomicU8>,
}

impl<D: Device> Backend<D> for Fated<D> {
    fn info(&self) -> BlockInfo {
        self.inner.info()
    }

    fn load(&mut self, device: &D) -> std::result::Result<(), BoxError> {
        self.inner.load(device)
    }

    fn forward(&mut self, inputs: &[D::Tensor]) -> std::result::Result<Vec<D::Tensor>, BoxError> {
        while self.fate.load(Ordering::SeqCst) == HANGS {
            thread::sleep(Duration::from_millis(10));
        }
        if self.fate.load(Ordering::SeqCst) == DIES {
            let (device, message) = (self.device.clone(), "on purpose".to_owned());
            return Err(DeviceError::Fatal { device, message }.into());
        }
        self.inner.forward(inputs)
    }

    fn backward(
        &mut self,
        inputs: &[D::Tensor],
        gradients: &[D::Tensor],
    ) -> std::result::Result<Vec<D::Tensor>, BoxError> {
        self.inner.backward(inputs, gradients)
    }

    fn state(&self) -> std::result::Result<BlockState, BoxError> {
        self.inner.state()
    }

    fn restore(&mut self, state: &BlockState, fit: Fit) -> std::result::Result<Unmatched, BoxError> {
        self.inner.restore(state, fit)
    }
}

/// Devices of one thread each that feed from one pool.
struct Group<E: Engine> {
    served: Option<Served<E::Device>>,
    fates: Vec<Arc<AtomicU8>>,
    running: Vec<(RunningRuntime<E::Device>, Stats)>,
    submitted: u64,
    expected: Vec<f32>,
}

impl<E: Engine> Group<E> {
    fn new(work: &Work<E::Device>) -> Result<Self> {
        let mut group =
            Self { served: None, fates: Vec::new(), running: Vec::new(), submitted: 0, expected: Vec::new() };
        group.add(work)?;
        group.expected = ask(group.pool()?, &mut *work.tasks(), &work.device())?;
        group.submitted += 1;
        group.add(work)?;
        Ok(group)
    }

    fn pool(&self) -> Result<&TaskPool<E::Device>> {
        Ok(&self.served.as_ref().ok_or("a first device is there")?.forward)
    }

    /// Adds a device, and returns its place.
    fn add(&mut self, work: &Work<E::Device>) -> Result<usize> {
        let (stats, fate) = (Stats::new(), Arc::new(AtomicU8::new(LIVES)));
        let builder = RuntimeBuilder::new(E::device(1)?).prefetch(0).batch_limit(MOST);
        let mut builder = builder.observer(stats.observer());
        let (device, at) = (builder.device().name(), self.running.len());
        let block = Fated { inner: work.block(&format!("copy.{at}"))?, device, fate: Arc::clone(&fate) };
        if let Some(served) = &self.served {
            builder.join(block, served)?;
        } else {
            let options = ServeOptions::forward(PoolOptions::default().max_rows(ROWS));
            self.served = Some(builder.serve(block, options)?);
        }
        self.running.push((builder.start()?, stats));
        self.fates.push(fate);
        Ok(at)
    }

    /// Has a device lost under the load of all callers. Returns what is to be said of it.
    fn loses(&mut self, work: &Work<E::Device>, at: usize, fate: u8) -> Result<String> {
        let (pool, device, expected) = (self.pool()?.clone(), work.device(), self.expected.clone());
        let (answered, is_lost) = (AtomicU64::new(0), AtomicBool::new(false));
        let callers: Vec<_> = (0..CALLERS).map(|_| work.tasks()).collect();
        let begun = Instant::now();
        let lost = thread::scope(|scope| {
            let (pool, device, expected) = (&pool, &device, &expected);
            let (answered, is_lost) = (&answered, &is_lost);
            let callers: Vec<_> = callers
                .into_iter()
                .map(|mut tasks| {
                    scope.spawn(move || {
                        let mut calls = 0;
                        while calls < CALLS || !is_lost.load(Ordering::SeqCst) {
                            calls += 1;
                            let got = ask(pool, &mut *tasks, device).map_err(|error| error.to_string())?;
                            let is_right = got.len() == expected.len()
                                && got
                                    .iter()
                                    .zip(expected)
                                    .all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs().max(1.0));
                            if !is_right {
                                return Err("an answer is not right".to_owned());
                            }
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(())
                    })
                })
                .collect();
            while answered.load(Ordering::SeqCst) < CALLERS * CALLS / 2 {
                if callers.iter().all(thread::ScopedJoinHandle::is_finished) {
                    break;
                }
                thread::yield_now();
            }
            self.fates[at].store(fate, Ordering::SeqCst);
            let told = Instant::now();
            let health = || self.running[at].0.handle().health();
            while !matches!(health(), Health::Lost(_)) && told.elapsed() < 10 * MOST {
                thread::sleep(Duration::from_millis(1));
            }
            let lost = told.elapsed();
            is_lost.store(true, Ordering::SeqCst);
            for caller in callers {
                caller.join().map_err(|_| "a caller panicked".to_owned())??;
            }
            Ok::<_, String>(lost)
        })?;
        if !matches!(self.running[at].0.handle().health(), Health::Lost(_)) {
            return Err("the device should have been lost".into());
        }
        let answered = answered.load(Ordering::SeqCst);
        self.submitted += answered;
        let succeeded: u64 = self.running.iter().map(|(_, stats)| stats.snapshot().total.succeeded).sum();
        if succeeded != self.submitted {
            return Err(format!("{} tasks were handed in, and {succeeded} counted", self.submitted).into());
        }
        Ok(format!(
            "{answered} tasks of {CALLERS} callers in {:.1?}, none lost or doubled, every answer right; it was given up after {lost:.1?}.",
            begun.elapsed()
        ))
    }

    /// The system that is left.
    fn rest(self) -> Skep<E::Device> {
        let pool = self.served.map(|served| served.forward).expect("a first device is there");
        Skep::of(pool, self.running)
    }
}

fn ask<D: Device>(
    pool: &TaskPool<D>,
    tasks: &mut dyn FnMut() -> Vec<D::Tensor>,
    device: &impl TensorOps<Tensor = D::Tensor>,
) -> Result<Vec<f32>> {
    let ticket = pool.submit(tasks()).map_err(|refused| refused.error.to_string())?;
    let outputs = ticket.wait().map_err(|error| Chain(&error).to_string())?;
    let output = outputs.first().ok_or("a block gives an output")?;
    Ok(device.to_host(output)?.to_f32().ok_or("an output is f32")?)
}
