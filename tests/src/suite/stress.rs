//! Everything at once: 100,000 tasks of 8 callers, some of them dropped, late or doomed, and a shutdown in
//! the middle.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{Columns, LIMIT, answer, columns, quiet_panics, receive, rows_block};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::{
    Device, Priority, Request, RuntimeBuilder, Shutdown, SubmitError, TaskError, TaskResult, Ticket,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const CALLERS: u64 = 8;
const TASKS_EACH: u16 = 12_500;

/// Rows from here on make the block fail, each in another way.
const DOOMED: f32 = 1_000_000.0;

/// What one caller saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    submitted: u64,
    refused: u64,
    dropped: u64,
    succeeded: u64,
    failed: u64,
    expired: u64,
    shut_down: u64,
}

impl Seen {
    fn add(self, other: Self) -> Self {
        Self {
            submitted: self.submitted + other.submitted,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            expired: self.expired + other.expired,
            shut_down: self.shut_down + other.shut_down,
        }
    }

    fn count<D: Device>(&mut self, device: &D, rows: &[f32], result: TaskResult<D::Tensor>) {
        match result {
            Ok(outputs) => {
                let expected: Vec<f32> = rows.iter().map(|v| v + 1.0).collect();
                assert_eq!(Columns::read(device, &outputs[0]), expected, "outputs belong to their inputs");
                self.succeeded += 1;
            }
            Err(TaskError::Failed(_)) => self.failed += 1,
            Err(TaskError::Expired { .. }) => self.expired += 1,
            Err(TaskError::ShutDown) => self.shut_down += 1,
            Err(other) => panic!("no task should end like this: {other}"),
        }
    }
}

fn work(rows: &[f32]) -> Result<Vec<f32>, skep_runtime_core::BoxError> {
    match rows.iter().find(|v| **v >= DOOMED).map(|v| v % 3.0) {
        None => Ok(rows.iter().map(|v| v + 1.0).collect()),
        Some(0.0) => panic!("on purpose"),
        Some(1.0) => Err("doomed".into()),
        Some(_) => Ok(rows[1..].to_vec()),
    }
}

fn request<D: Device>(device: &D, rng: &mut StdRng, value: f32) -> (Request<D::Tensor>, Vec<f32>) {
    let mut rows = vec![value; rng.random_range(1..6)];
    if rng.random_bool(0.002) {
        rows[0] += DOOMED;
    }
    let mut request = Request::new(columns(device, &rows)).priority(Priority(rng.random_range(-1..2)));
    if rng.random_bool(0.05) {
        request = request.deadline(Duration::from_micros(rng.random_range(0..2000)));
    }
    (request, rows)
}

fn caller<D: Device>(device: &D, pools: &[TaskPool<D>], stream: u64, halfway: &Sender<()>) -> Seen {
    let mut rng = StdRng::seed_from_u64(stream);
    let mut seen = Seen::default();
    let mut open: Vec<(Ticket<D::Tensor>, Vec<f32>)> = Vec::new();
    for i in 0..TASKS_EACH {
        if i == TASKS_EACH / 2 {
            halfway.send(()).unwrap();
        }
        let pool = &pools[rng.random_range(0..pools.len())];
        let (request, rows) = request(device, &mut rng, f32::from(i));
        seen.submitted += 1;
        let submitted = if rng.random_bool(0.5) { pool.submit(request) } else { pool.try_submit(request) };
        match submitted {
            Ok(ticket) if rng.random_bool(0.05) => {
                drop(ticket);
                seen.dropped += 1;
            }
            Ok(ticket) => open.push((ticket, rows)),
            Err(refused) => {
                let (error, request) = refused.into_parts();
                let back = Columns::read(device, request.inputs.tensors().next().unwrap());
                assert_eq!(back, rows, "inputs come back");
                assert!(matches!(
                    error,
                    SubmitError::Full { .. } | SubmitError::DeadlinePassed | SubmitError::ShutDown
                ));
                seen.refused += 1;
            }
        }
        if open.len() >= 32 {
            let (ticket, rows) = open.swap_remove(rng.random_range(0..open.len()));
            seen.count(device, &rows, answer(ticket));
        }
    }
    for (ticket, rows) in open {
        seen.count(device, &rows, answer(ticket));
    }
    seen
}

fn run<S: Subject>(how: Shutdown) {
    quiet_panics();
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(S::device()).senders(2).observer(stats.observer());
    let device = Arc::clone(builder.device());
    let options = PoolOptions::default().max_rows(16).capacity(64);
    let patient = options.clone().min_rows(4).max_delay(Some(Duration::from_micros(200)));
    let split = options.clone().max_rows(3).split_large_tasks(true);
    let pools: Vec<_> = [("plain", options), ("patient", patient), ("split", split)]
        .into_iter()
        .map(|(name, options)| {
            let block = rows_block(&device, name, |rows| work(&rows));
            builder.serve(block, ServeOptions::forward(options)).unwrap().forward
        })
        .collect();
    let runtime = builder.start().unwrap();
    let (tell, told) = channel();
    let seen = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|stream| {
                let (device, pools, halfway) = (&*device, &pools, tell.clone());
                scope.spawn(move || caller(device, pools, stream, &halfway))
            })
            .collect();
        (0..CALLERS / 2).for_each(|_| receive(&told));
        runtime.shutdown(how, LIMIT).unwrap();
        callers.into_iter().map(|caller| caller.join().unwrap()).fold(Seen::default(), Seen::add)
    });

    let total = stats.snapshot().total;
    assert_reconciled(&total);
    stats.snapshot().pools.iter().for_each(assert_reconciled);
    let all = CALLERS * u64::from(TASKS_EACH);
    assert_eq!((seen.submitted, total.submitted), (all, all));
    assert_eq!(total.refused, seen.refused);
    // A dropped ticket's task may have been cut before, and then ended in any way.
    let unseen = [
        total.cancelled,
        total.succeeded - seen.succeeded,
        total.expired - seen.expired,
        total.failed - seen.failed - seen.shut_down,
    ];
    assert_eq!(unseen.iter().sum::<u64>(), seen.dropped, "{seen:?} {}", total.accounts());
    assert!(seen.succeeded > 0 && seen.failed > 0 && total.cancelled > 0, "{seen:?}");
    if how == Shutdown::Drain {
        assert_eq!((seen.shut_down, total.shut_down), (0, 0), "a drain runs what was accepted");
    }
}

/// With a drain in the middle.
pub fn nothing_is_lost_with_a_drain<S: Subject>() {
    run::<S>(Shutdown::Drain);
}

/// With an abort in the middle.
pub fn nothing_is_lost_with_an_abort<S: Subject>() {
    run::<S>(Shutdown::Abort);
}
