//! A soak: runtimes are started, loaded, harmed and stopped again and again, and every answer is checked.
//!
//! One [`life`](Soak::life) is one runtime with dozens of pools on a device that goes wrong by seed. Callers
//! hand tasks in, in every way there is, cancel some, are impatient with some, and doom some; in the middle
//! of it the runtime ends in one of the ways there are, or one of several devices does. Meanwhile guests, further blocks, come and go. Then the callers' notes, the ledger of what the
//! blocks did and the runtime's own accounts are held against each other.
//!
//! [`run`](Soak::run) goes on from life to life, and sees to it that nothing of a life is left after it.
//!
//! The seed decides what is done and what goes wrong; the machine decides when.
//!
//! ```
//! use skep_runtime_core::testing::FakeDevice;
//! use skep_tests::Subject;
//! use skep_tests::soak::Soak;
//!
//! struct Fake;
//! impl Subject for Fake {
//!     type Device = FakeDevice;
//!     fn device() -> FakeDevice {
//!         FakeDevice::new()
//!     }
//! }
//! let report = Soak { seed: 1, callers: 4, tasks_each: 20, fault_rate: 0.01 }.life::<Fake>(0);
//! assert!(report.is_clean(), "{report}");
//! ```

mod caller;
mod device;
mod ending;
mod faults;
mod guests;
mod ledger;
mod others;
mod report;
mod stuck;

pub use faults::{Fault, Faults};
pub use report::Report;

use crate::Subject;
use crate::kit::{HostileObserver, LIMIT, quiet_panics, threads, threads_left};
use caller::{Caller, Habits, Served};
use device::{Faulty, faulty_block};
use ending::Ending;
use guests::{Guests, host};
use ledger::{Answer, Census, Ledger};
use others::{Blocks, Others};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::pool::Policy;
use skep_runtime_core::{
    Aging, Classes, Device, EarliestDeadline, FailureRules, Fair, Flow, OldestFirst, Pass, Reload,
    RuntimeBuilder,
};
use skep_stats::{Fanout, PoolSnapshot, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The settings of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// The seed, which decides everything but the threads' timing.
    pub seed: u64,
    /// The number of threads that hand tasks in.
    pub callers: u32,
    /// The number of tasks that each of them hands in to each runtime.
    pub tasks_each: u32,
    /// The probability of each fault, each time that it could happen: `0.0..=0.1`.
    pub fault_rate: f64,
}

/// Lives before the first measurement: some things are allocated once in a process.
const WARM_UP: u64 = 10;

impl Soak {
    /// Runs one life after the other for as long as `goes_on`, called with the counts so far, returns true.
    ///
    /// `allocated` returns the bytes that the process has allocated now. The bytes and threads that are left at the
    /// end have leaked.
    pub fn run<S: Subject>(
        &self,
        allocated: fn() -> usize,
        mut goes_on: impl FnMut(&Report) -> bool,
    ) -> Report {
        let mut report = Report::default();
        let mut before = (threads(), allocated());
        for number in 0.. {
            report += self.life::<S>(number);
            if number < WARM_UP {
                before = (before.0, allocated());
            } else if !goes_on(&report) {
                break;
            }
        }
        report.threads_left += threads_left(before.0) as u64;
        report.bytes_left += allocated().saturating_sub(before.1) as u64;
        report
    }

    /// Runs one runtime from its start to its end.
    pub fn life<S: Subject>(&self, number: u64) -> Report {
        quiet_panics();
        let mut rng = StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let ending = Ending::random(&mut rng);
        let (tell, gone) = channel();
        let census = Census::new(tell);
        let counted = Arc::downgrade(&census);
        let ledger = Arc::new(Ledger::default());
        let mut device = |number| Faulty {
            number,
            inner: S::device(),
            faults: Faults::new(rng.random(), self.fault_rate),
            ledger: Arc::clone(&ledger),
            census: Arc::clone(&census),
            stuck: stuck::Stuck::new(),
            dead: AtomicBool::new(false),
            room: if rng.random_bool(0.5) { 24 } else { usize::MAX },
            remote: rng.random_bool(0.5),
            last_run: AtomicU32::new(0),
        };
        let first = device(0);
        let others = ending.is_one_of_several().then(|| [1, 2].map(&mut device));
        drop(census);
        let report = self.ends_with(ending, first, others, &mut rng);
        // The last of a device and its tensors tells; what holds on to one of them leaks it.
        let leaked = gone.recv_timeout(LIMIT).is_err();
        let living = counted.upgrade().map_or(0, |census| census.living() as u64);
        Report { tensors_left: u64::from(leaked).max(living), ..report }
    }

    fn ends_with<D: Device>(
        &self,
        ending: Ending,
        device: Faulty<D>,
        others: Option<[Faulty<D>; 2]>,
        rng: &mut StdRng,
    ) -> Report {
        let stats = Stats::new();
        let hostile = Arc::new(HostileObserver(Faults::new(rng.random(), self.fault_rate)));
        let mut builder = RuntimeBuilder::new(device)
            .prefetch(rng.random_range(0..3))
            .senders(rng.random_range(1..4))
            .hand_over(if rng.random_bool(0.5) { Duration::ZERO } else { Duration::from_micros(50) })
            .observer(Arc::new(Fanout(vec![hostile, stats.observer()])));
        let order = order(rng, others.is_some());
        builder = ordered(ending.prepare(builder), &order, rng);
        let have_turns = rng.random_bool(0.3);
        if have_turns {
            builder = builder.budget(BUDGET);
        }
        let device = Arc::clone(builder.device());
        let (blocks, pools) = serve(&mut builder, have_turns, rng);
        let clock = builder.clock_handle();
        let mut others = others.map(|devices| Others::start(devices, &blocks, (&clock, &order), rng));
        let goes_on = ending.goes_on(others.as_ref().is_some_and(Others::are_there));
        let runtime = builder.build().expect("settings are in range");

        let new_caller = |number, open, rng: &mut StdRng| {
            let habits = Habits { doom: self.fault_rate, open, goes_on };
            let rng = StdRng::seed_from_u64(rng.random());
            Caller::new(number, rng, habits, Arc::clone(&device), Arc::clone(&pools))
        };
        let (tell, told) = channel();
        let callers: Vec<_> = (0..self.callers)
            .map(|number| {
                let caller = new_caller(number, rng.random_range(1..24), rng);
                let (tell, tasks) = (tell.clone(), self.tasks_each);
                working(caller, tasks, move || {
                    tell.send(()).ok();
                })
            })
            .collect();
        drop(tell);
        let hosting = {
            let (handle, rng) = (runtime.handle(), StdRng::seed_from_u64(rng.random()));
            let (number, most, doom) = (self.callers + 1, self.tasks_each.div_ceil(30), self.fault_rate);
            let guests = move |rng: &mut StdRng| ServeOptions::forward(options(rng)).backward(options(rng));
            OnThread::start("soak-host", move || host(&handle, number, most, doom, rng, guests))
        };
        let mut ender = new_caller(self.callers, usize::MAX, rng);
        let mut hangs = 0;
        ending.of(runtime, &mut ender, || {
            let waits = (0..self.callers / 2).map(|_| told.recv_timeout(2 * LIMIT));
            hangs = waits.filter(|told| *told == Err(RecvTimeoutError::Timeout)).count() as u64;
        });
        ender.finish();
        if let Some(others) = &mut others {
            others.replace(&blocks, rng);
        }

        let mut seen = Report { lives: 1, lost: ender.report.lost + hangs, ..ender.report };
        let mut answers = ender.answers;
        for caller in callers {
            match caller.end() {
                Some((report, more)) => {
                    seen += report;
                    answers.extend(more);
                }
                None => seen.lost += 1,
            }
        }
        let guests = if let Some(Guests { pools, report, answers: more }) = hosting.end() {
            seen += report;
            answers.extend(more);
            pools
        } else {
            seen.lost += 1;
            Vec::new()
        };
        let more = others.map(Others::end).unwrap_or_default();
        let pools: Vec<_> = pools.iter().chain(guests.iter().flat_map(|pools| pools.iter())).collect();
        let trains = |number| pools.iter().any(|p| p.number == number && p.pass == Pass::Backward);
        let verdict = device.ledger.judge(&answers, trains);
        seen.doubled += verdict.doubled;
        seen.mixed_up += verdict.mixed_up;
        seen.late += verdict.late;
        seen.harmed += verdict.harmed;
        reconcile(seen, &accounts(&stats, &pools, &more))
    }
}

/// One order of work or another. A policy that listens hears of one device only.
fn order(rng: &mut StdRng, are_several: bool) -> Arc<dyn Policy> {
    let fair = || Fair::new().weight(Flow(1), 3.0);
    match rng.random_range(0..if are_several { 4 } else { 6 }) {
        0 | 1 => Arc::new(OldestFirst),
        2 => Arc::new(Aging::new(Duration::from_micros(50))),
        3 => Arc::new(EarliestDeadline::new()),
        4 => Arc::new(fair()),
        _ => Arc::new(Classes::of(fair())),
    }
}

/// Work in this order, timed in one way or another.
fn ordered<D: Device>(
    builder: RuntimeBuilder<D>,
    order: &Arc<dyn Policy>,
    rng: &mut StdRng,
) -> RuntimeBuilder<D> {
    let timed = builder.just_in_time(rng.random_bool(0.8)).linger(rng.random_bool(0.8));
    timed.policy(Arc::clone(order))
}

/// The bytes of a block that may leave the device, and of those that have room there together.
const BYTES: u64 = 10;
const BUDGET: u64 = 8 * BYTES;

/// Serves blocks with pools of all kinds, dozens in all. If they `have_turns`, not all of them have room at a time.
fn serve<D: Device>(
    builder: &mut RuntimeBuilder<Faulty<D>>,
    have_turns: bool,
    rng: &mut StdRng,
) -> (Blocks<D>, Arc<[Served<D>]>) {
    let device = Arc::clone(builder.device());
    let (mut blocks, mut pools) = (Vec::new(), Vec::new());
    for block in 0..rng.random_range(12..24) {
        let options = ServeOptions::forward(options(rng)).backward(options(rng));
        let (name, first, trains) = (format!("block.{block}"), pools.len(), rng.random_bool(0.5));
        let on = Arc::clone(&device);
        let block = move || faulty_block(&on, &name, first, trains);
        let block = if have_turns {
            builder.serve_reloadable(Reload::new(move || Ok(block())).bytes(BYTES), options)
        } else {
            builder.serve(block(), options)
        };
        let block = block.expect("names and options are right");
        blocks.push((block.clone(), first));
        let mut add = |pool: TaskPool<_>, pass| {
            let number = u32::try_from(pools.len()).unwrap();
            pools.push(Served { pool, number, pass });
        };
        add(block.forward, Pass::Forward);
        block.backward.into_iter().for_each(|pool| add(pool, Pass::Backward));
    }
    (blocks, pools.into())
}

fn options(rng: &mut StdRng) -> PoolOptions {
    let max_rows = [1, 4, 16, 32][rng.random_range(0..4)];
    let patient = max_rows > 1 && rng.random_bool(0.3);
    let capacity = [1, 8, 64][rng.random_range(0..3)];
    PoolOptions::default()
        .max_rows(max_rows)
        .min_rows(if patient { rng.random_range(2..=max_rows) } else { 1 })
        .max_delay(patient.then(|| Duration::from_micros(rng.random_range(0..500))))
        .capacity(capacity)
        .reserve(if rng.random_bool(0.2) { capacity / 8 } else { 0 })
        .eviction(rng.random_bool(0.2))
        .answer_in_time(rng.random_bool(0.2))
        .split_large_tasks(rng.random_bool(0.5))
        .split_backward(rng.random_bool(0.5))
        .failures(FailureRules::default().rerun(rng.random_bool(0.8)).check_finite(rng.random_bool(0.5)))
}

/// Work on a thread of its own.
struct OnThread<R> {
    thread: JoinHandle<()>,
    result: Receiver<R>,
}

impl<R: Send + 'static> OnThread<R> {
    fn start(name: &str, work: impl FnOnce() -> R + Send + 'static) -> Self {
        let (tell, result) = channel();
        let work = move || {
            tell.send(work()).ok();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work).unwrap();
        Self { thread, result }
    }

    /// Returns the result, or `None` if it hangs, or has seen what must not be and has panicked.
    fn end(self) -> Option<R> {
        let result = self.result.recv_timeout(2 * LIMIT);
        if !matches!(result, Err(RecvTimeoutError::Timeout)) {
            self.thread.join().ok();
        }
        result.ok()
    }
}

/// Lets a caller work on a thread of its own, and returns its notes.
fn working<D: Device>(
    mut caller: Caller<D>,
    tasks: u32,
    halfway: impl FnOnce() + Send + 'static,
) -> OnThread<(Report, Vec<Answer>)> {
    OnThread::start("soak-caller", move || {
        let goes_on = (0..tasks / 2).all(|_| caller.act());
        halfway();
        if goes_on {
            (tasks / 2..tasks).all(|_| caller.act());
        }
        caller.finish();
        (caller.report, caller.answers)
    })
}

/// Returns the runtime's own accounts, and those of others that feed from its pools. Until it has started, pools that only
/// it feeds from keep theirs for themselves.
fn accounts<D: Device>(stats: &Stats, pools: &[&Served<D>], others: &[PoolSnapshot]) -> PoolSnapshot {
    let snapshot = stats.snapshot();
    let mut total = snapshot.total;
    for other in others {
        total.submitted += other.submitted;
        total.refused += other.refused;
        total.succeeded += other.succeeded;
        total.failed += other.failed;
        total.cancelled += other.cancelled;
        total.expired += other.expired;
        total.evicted += other.evicted;
    }
    let unfed = |served: &&&Served<D>| others.is_empty() || served.pass == Pass::Backward;
    for served in pools.iter().filter(unfed).filter(|_| snapshot.pools.is_empty()) {
        let counts = served.pool.counts();
        total.submitted += counts.submitted;
        total.refused += counts.refused;
        total.cancelled += counts.cancelled;
        total.expired += counts.expired;
        total.evicted += counts.evicted;
        total.failed += counts.failed + counts.shut_down;
        total.waiting += counts.waiting;
    }
    // Stats end where the device is lost or the pool is removed; pools go on to count whom they turn away.
    let refused: u64 = pools.iter().map(|served| served.pool.counts().refused).sum();
    let since = refused.saturating_sub(total.refused);
    (total.submitted, total.refused) = (total.submitted + since, refused);
    total
}

/// Holds the callers' notes against the runtime's accounts.
fn reconcile(mut seen: Report, accounts: &PoolSnapshot) -> Report {
    let answered = accounts.answered();
    seen.lost += accounts.submitted.saturating_sub(answered);
    seen.doubled += answered.saturating_sub(accounts.submitted);
    // What became of a task whose ticket was dropped, or whose call was given up, only the runtime knows.
    let dropped = seen.dropped + seen.given_up;
    let unseen = [
        (accounts.submitted, seen.submitted, seen.given_up),
        (accounts.refused, seen.refused, 0),
        (accounts.succeeded, seen.succeeded, dropped),
        (accounts.expired, seen.expired, dropped),
        (accounts.evicted, seen.evicted, dropped),
        (accounts.failed, seen.failed + seen.shut_down + seen.device_lost, dropped),
        (accounts.cancelled, 0, dropped),
    ];
    for (counted, seen_by_callers, unseen) in unseen {
        seen.unbalanced += counted.abs_diff(counted.clamp(seen_by_callers, seen_by_callers + unseen));
    }
    seen.unbalanced += seen.submitted.abs_diff(seen.ended() + seen.lost);
    seen
}
