//! A batch that failed is run again in halves, until only the tasks that make it fail get the error.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Columns, Hooked, LIMIT, Log, On, Operation, answer, columns, drain, new_builder, pool_of, quiet_panics,
    receive, rows_block, schema, spawn, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FnBlock, ManualClock};
use skep_runtime_core::{
    BoxError, Chain, Device, DeviceError, FailureRules, Handle, Priority, Request, RunningRuntime, Shutdown,
    TaskError, TensorOps, Ticket,
};
use skep_stats::Stats;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const RULES: FailureRules = FailureRules::new();

/// Doubles rows, and fails whenever a row is negative.
fn double(rows: &[f32]) -> Result<Vec<f32>, BoxError> {
    if rows.iter().any(|v| *v < 0.0) {
        return Err("no negative rows".into());
    }
    Ok(rows.iter().map(|v| 2.0 * v).collect())
}

/// A runtime whose pool waits until `tasks` tasks make a batch, and whose block writes down the rows of every
/// run before it does what `work` says.
struct Trial<D: Device> {
    device: Arc<D>,
    pool: TaskPool<D>,
    /// A pool of another block that writes to the same list, for tasks that need no company.
    other: TaskPool<D>,
    runtime: RunningRuntime<D>,
    clock: Arc<ManualClock>,
    ran: Log<Vec<f32>>,
    stats: Stats,
}

fn trial<D: Device>(
    device: D,
    prefetch: usize,
    tasks: usize,
    failures: FailureRules,
    mut work: impl FnMut(&[f32]) -> Result<Vec<f32>, BoxError> + Send + 'static,
) -> Trial<D> {
    quiet_panics();
    let stats = Stats::new();
    let (builder, clock) = new_builder(device, prefetch);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let (seen, others) = (Log::clone(&ran), Log::clone(&ran));
    let picky = rows_block(&device, "picky", move |rows| {
        seen.push(rows.clone());
        work(&rows)
    });
    let other = rows_block(&device, "other", move |rows| {
        others.push(rows.clone());
        double(&rows)
    });
    let max_rows = tasks.max(64);
    let options =
        PoolOptions::default().max_rows(max_rows).min_rows(tasks).max_delay(Some(LIMIT)).failures(failures);
    let pool = pool_of(&mut builder, picky, options);
    let other = pool_of(&mut builder, other, PoolOptions::default());
    Trial { device, pool, other, runtime: builder.start().unwrap(), clock, ran, stats }
}

impl<D: Device> Trial<D> {
    /// Submits these rows as a task each: they make one batch.
    fn submit(&self, rows: impl IntoIterator<Item = f32>) -> Vec<Ticket<D::Tensor>> {
        rows.into_iter().map(|row| self.pool.try_submit(columns(&*self.device, &[row])).unwrap()).collect()
    }

    /// Waits for every task, and gives the rows of each run and whose tasks failed.
    fn finish(self, tickets: Vec<Ticket<D::Tensor>>) -> (Vec<Vec<f32>>, Vec<Result<f32, String>>) {
        let results = tickets.into_iter().map(|ticket| match answer(ticket) {
            Ok(outputs) => Ok(Columns::read(&*self.device, &outputs[0])[0]),
            Err(error) => {
                Err(error.batch_error().map_or(error.to_string(), |error| Chain(error).to_string()))
            }
        });
        let results = results.collect();
        drain(self.runtime);
        assert_reconciled(&self.stats.snapshot().total);
        (self.ran.take(), results)
    }
}

fn numbers(count: u16) -> impl Iterator<Item = f32> {
    (1..=count).map(f32::from)
}

/// Of 64 tasks in one batch exactly the one that makes it fail gets the error, after at most 2 log2(64)
/// further runs, wherever it stands and however it fails.
pub fn only_the_culprit_fails<S: Subject>() {
    for (culprit, prefetch) in [(1u16, 0), (32, 1), (33, 0), (64, 1)] {
        for kind in 0..3 {
            let trial = trial(S::device(), prefetch, 64, RULES, move |rows| {
                match (rows.contains(&f32::from(culprit)), kind) {
                    (false, _) => double(rows),
                    (true, 0) => Err("bad row".into()),
                    (true, 1) => panic!("on purpose: bad row"),
                    (true, _) => Ok(vec![0.0; rows.len() + 1]),
                }
            });
            let tickets = trial.submit(numbers(64));
            let (stats, (ran, results)) = (trial.stats.clone(), trial.finish(tickets));
            assert_eq!(ran[0].len(), 64);
            assert!(ran.len() - 1 <= 12, "{} further runs", ran.len() - 1);
            for (row, result) in (1u16..=64).zip(results) {
                if row == culprit {
                    let expected = [
                        "block `picky` failed: bad row",
                        "panic in block `picky`: on purpose: bad row",
                        "output `y` of the block has 2 rows, expected 1",
                    ];
                    assert_eq!(result, Err(expected[kind].to_owned()));
                } else {
                    assert_eq!(result, Ok(2.0 * f32::from(row)));
                }
            }
            let total = stats.snapshot().total;
            assert_eq!((total.succeeded, total.failed), (63, 1), "{}", total.accounts());
            assert_eq!((total.failed_batches, total.taken_apart), (7, 6));
            assert_eq!(total.end_to_end.count, 64, "each task is told of once");
        }
    }
}

/// A batch so large that more parts fail on the way to the culprit than tasks may fail before a block counts as broken.
pub fn a_culprit_is_found_in_a_large_batch<S: Subject>() {
    for prefetch in [0, 1] {
        let trial = trial(S::device(), prefetch, 512, RULES, |rows| {
            if rows.contains(&1.0) { Err("bad row".into()) } else { double(rows) }
        });
        let tickets = trial.submit(numbers(512));
        let (ran, results) = trial.finish(tickets);
        assert!(ran.len() - 1 <= 18, "{} further runs", ran.len() - 1);
        for (row, result) in (1u16..=512).zip(results) {
            let expected = if row == 1 {
                Err("block `picky` failed: bad row".to_owned())
            } else {
                Ok(2.0 * f32::from(row))
            };
            assert_eq!(result, expected);
        }
    }
}

/// Several culprits in one batch, neighbours among them.
pub fn several_culprits_are_found<S: Subject>() {
    for prefetch in [0, 1] {
        let bad = [3.0, 4.0, 20.0, 50.0];
        let trial = trial(S::device(), prefetch, 64, RULES, move |rows| {
            if rows.iter().any(|row| bad.contains(row)) { Err("bad row".into()) } else { double(rows) }
        });
        let tickets = trial.submit(numbers(64));
        let (_, results) = trial.finish(tickets);
        let failed: Vec<_> =
            numbers(64).zip(&results).filter(|(_, r)| r.is_err()).map(|(row, _)| row).collect();
        assert_eq!(failed, bad);
    }
}

/// Many culprits, and before any good task: the first nine of 64, and two where halves begin. Only they fail.
pub fn many_culprits_harm_nobody_else<S: Subject>() {
    for prefetch in [0, 1] {
        let bad = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 17.0, 33.0];
        let is_bad = move |row: &f32| bad.contains(row);
        let trial = trial(S::device(), prefetch, 64, RULES, move |rows| {
            if rows.iter().any(is_bad) { Err("bad row".into()) } else { double(rows) }
        });
        let tickets = trial.submit(numbers(64));
        let (_, results) = trial.finish(tickets);
        for (row, result) in numbers(64).zip(results) {
            assert_eq!(result.is_err(), is_bad(&row), "row {row}: {result:?}");
        }
    }
}

/// A block that fails whatever it is given: each task of one batch is tried, and of the next ones a few.
pub fn a_broken_block_is_given_up_soon<S: Subject>() {
    let broken = Arc::new(AtomicBool::new(true));
    let (is_broken, log) = (Arc::clone(&broken), Log::new());
    let ran = Log::clone(&log);
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "picky", move |rows| {
        ran.push(rows.len());
        if is_broken.load(Ordering::SeqCst) { Err("broken".into()) } else { double(&rows) }
    });
    let options = PoolOptions::default().max_rows(64).min_rows(64).max_delay(Some(LIMIT));
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    let all = |pool: &TaskPool<S::Device>| -> Vec<_> {
        let tickets: Vec<_> =
            numbers(64).map(|row| pool.try_submit(columns(&*device, &[row])).unwrap()).collect();
        tickets.into_iter().map(|ticket| answer(ticket).is_ok()).collect()
    };
    assert!(!all(&pool).contains(&true));
    assert_eq!(log.take().len(), 127);
    for _ in 0..3 {
        assert!(!all(&pool).contains(&true));
        assert_eq!(log.take(), [64, 1, 1, 1, 1, 1, 1, 1, 1, 56]);
    }
    broken.store(false, Ordering::SeqCst);
    assert!(!all(&pool).contains(&false));
    broken.store(true, Ordering::SeqCst);
    log.take();
    assert!(!all(&pool).contains(&true));
    assert_eq!(log.take().len(), 127, "it has worked since");
    drain(runtime);
}

/// Where a pool does not want it, nothing runs twice.
pub fn running_again_can_be_switched_off<S: Subject>() {
    let rules = RULES.rerun(false);
    let trial = trial(S::device(), 1, 3, rules, double);
    let tickets = trial.submit([1.0, -1.0, 2.0]);
    let (ran, results) = trial.finish(tickets);
    assert_eq!(ran, [[1.0, -1.0, 2.0]]);
    assert!(results.iter().all(Result::is_err));
}

/// A backward pass may have changed the block: it fails as a whole, once.
pub fn a_backward_pass_is_never_run_again<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let steps = Log::new();
    let seen = Log::clone(&steps);
    let on = Arc::clone(&device);
    let block = FnBlock::new("learner", schema("x"), Some(schema("y")), |_: &[_]| Err("not asked".into()))
        .with_backward(move |inputs: &[_], _: &[_]| {
            seen.push(on.to_host(&inputs[0])?.dims()[0]);
            Err("no step".into())
        });
    let backward = PoolOptions::default().min_rows(8).max_delay(Some(LIMIT));
    let options = ServeOptions::default().backward(backward);
    let backward = builder.serve(block, options).unwrap().backward.unwrap();
    let runtime = builder.start().unwrap();
    let tasks = numbers(8).map(|row| [row, 1.0].map(|v| columns(&*device, &[v]).remove(0)));
    let tickets: Vec<_> = tasks.map(|task| backward.submit(Vec::from(task)).unwrap()).collect();
    for ticket in tickets {
        assert!(answer(ticket).is_err());
    }
    assert_eq!(steps.take(), [8]);
    drain(runtime);
}

/// A device that fails so many times, one after the other, at one operation.
fn failing<S: Subject>(operation: Operation, times: usize) -> On<S> {
    let left = AtomicUsize::new(times);
    Hooked::new(S::device()).remote().hook(move |at| {
        let next = |left: usize| left.checked_sub(1);
        let fails = at == operation && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok();
        if fails { Err(DeviceError::operation("no connection")) } else { Ok(()) }
    })
}

/// Inputs that do not get onto the device, or outputs that are lost on their way back, are tried again in
/// parts.
pub fn what_a_device_loses_is_made_again<S: Subject>() {
    for operation in [Operation::Gather, Operation::Scatter, Operation::Synchronize] {
        for prefetch in [0, 1] {
            let trial = trial(failing::<S>(operation, 2), prefetch, 8, RULES, double);
            let tickets = trial.submit(numbers(8));
            let (_, results) = trial.finish(tickets);
            assert_eq!(results, numbers(8).map(|row| Ok(2.0 * row)).collect::<Vec<_>>());
        }
    }
}

/// A pool that checks its outputs gives no infinity to anybody, and takes it for the failure of its task.
pub fn outputs_that_are_not_finite_fail_their_tasks<S: Subject>() {
    for check_finite in [false, true] {
        let trial = trial(S::device(), 1, 4, RULES.check_finite(check_finite), |rows| {
            Ok(rows.iter().map(|v| if *v > 2.5 && *v < 3.5 { f32::NAN } else { 2.0 * v }).collect())
        });
        let tickets = trial.submit(numbers(4));
        let (_, results) = trial.finish(tickets);
        let third = results[2].clone();
        if check_finite {
            assert_eq!(third, Err("output `y` of the block has elements that are not finite".to_owned()));
        } else {
            assert!(third.unwrap().is_nan());
        }
        assert_eq!([&results[0], &results[1], &results[3]], [&Ok(2.0), &Ok(4.0), &Ok(8.0)]);
    }
}

/// `double`, which stops at every run of `rows` rows until it is let go.
#[expect(clippy::type_complexity, reason = "a closure and the two ends of its gate")]
fn stopping(
    rows: usize,
) -> (impl FnMut(&[f32]) -> Result<Vec<f32>, BoxError> + Send + 'static, Receiver<()>, Sender<()>) {
    let (enter, entered) = channel();
    let (go, gone) = channel::<()>();
    let work = move |batch: &[f32]| {
        if batch.len() == rows {
            enter.send(()).ok();
            gone.recv().ok();
        }
        double(batch)
    };
    (work, entered, go)
}

/// What is left of a failed batch keeps its urgency, and no more.
pub fn an_urgent_task_goes_before_the_parts<S: Subject>() {
    let (work, entered, go) = stopping(4);
    let trial = trial(S::device(), 0, 4, RULES, work);
    let tickets = trial.submit([1.0, -1.0, 2.0, 3.0]);
    receive(&entered);
    let later = trial.other.submit(columns(&*trial.device, &[8.0])).unwrap();
    let urgent = Request::new(columns(&*trial.device, &[9.0])).priority(Priority::URGENT);
    let urgent = trial.other.submit(urgent).unwrap();
    go.send(()).unwrap();
    assert_eq!(values_of(&*trial.device, urgent), [18.0]);
    assert_eq!(values_of(&*trial.device, later), [16.0]);
    let (ran, _) = trial.finish(tickets);
    let expected: [&[f32]; 6] =
        [&[1.0, -1.0, 2.0, 3.0], &[9.0, 8.0], &[1.0, -1.0], &[1.0], &[-1.0], &[2.0, 3.0]];
    assert_eq!(ran, expected);
}

/// A drain ends when the last part of a failed batch has been answered.
pub fn a_drain_runs_the_parts<S: Subject>() {
    for prefetch in [0, 1] {
        let handle = Arc::new(OnceLock::<Handle<On<S>>>::new());
        let runtime = Arc::clone(&handle);
        let trial = trial(failing::<S>(Operation::Scatter, 1), prefetch, 4, RULES, move |rows| {
            // A thread of the runtime cannot wait for the end, but it can begin the drain.
            runtime.wait().shutdown(Shutdown::Drain, LIMIT).unwrap_err();
            double(rows)
        });
        handle.set(trial.runtime.handle().clone()).ok();
        let tickets = trial.submit([1.0, 2.0, 3.0, 4.0]);
        let (ran, results) = trial.finish(tickets);
        assert_eq!(ran.len(), 3);
        assert_eq!(results, [Ok(2.0), Ok(4.0), Ok(6.0), Ok(8.0)]);
    }
}

/// An abort does not wait for a failed batch to be taken apart. Whose fault it was is then not known, so nobody
/// is told that it was theirs.
pub fn an_abort_answers_the_parts<S: Subject>() {
    let (work, entered, go) = stopping(2);
    let trial = trial(S::device(), 0, 4, RULES, work);
    let tickets = trial.submit([1.0, -1.0, 2.0, 3.0]);
    receive(&entered);
    let handle = trial.runtime.handle().clone();
    let stopped = spawn(move || handle.shutdown(Shutdown::Abort, LIMIT));
    let [first, second, third, fourth] = <[_; 4]>::try_from(tickets).ok().unwrap();
    for waiting in [third, fourth] {
        assert!(matches!(answer(waiting), Err(TaskError::ShutDown)));
    }
    go.send(()).unwrap();
    for running in [first, second] {
        assert!(matches!(answer(running), Err(TaskError::ShutDown)));
    }
    receive(&stopped).unwrap();
    let total = trial.stats.snapshot().total;
    assert_reconciled(&total);
    assert_eq!((total.failed, total.failed_batches, total.taken_apart), (4, 2, 2), "{}", total.accounts());
}

/// A deadline is for the start. A task that has been run once does not expire while it waits for its next.
pub fn tasks_do_not_expire_between_two_runs<S: Subject>() {
    const SHORT: Duration = Duration::from_millis(10);
    let (work, entered, go) = stopping(2);
    let trial = trial(S::device(), 0, 2, RULES, work);
    let tickets = [1.0, -1.0].map(|row| {
        let request = Request::new(columns(&*trial.device, &[row])).deadline(SHORT);
        trial.pool.try_submit(request).unwrap()
    });
    receive(&entered);
    trial.clock.advance(2 * SHORT);
    go.send(()).unwrap();
    let (ran, results) = trial.finish(tickets.into());
    assert_eq!(ran.len(), 3);
    assert_eq!(results, [Ok(2.0), Err("block `picky` failed: no negative rows".to_owned())]);
}

/// The parts of a large task are tasks of their batch like any other.
pub fn a_split_task_survives_its_neighbour<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let seen = Log::clone(&ran);
    let block = rows_block(&device, "picky", move |rows| {
        seen.push(rows.clone());
        double(&rows)
    });
    let delay = Some(LIMIT);
    let options = PoolOptions::default().min_rows(4).max_rows(4).max_delay(delay).split_large_tasks(true);
    let pool = pool_of(&mut builder, block, options);
    let submit = |rows: &[f32]| pool.submit(columns(&*device, rows)).unwrap();
    // Before the start, so that the second waits when the first part of the first is cut.
    let large = submit(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bad = submit(&[-1.0, 7.0]);
    let runtime = builder.start().unwrap();
    assert_eq!(values_of(&*device, large), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    assert!(answer(bad).is_err());
    drain(runtime);
    assert_eq!(
        ran.take(),
        [vec![1.0, 2.0, 3.0, 4.0], vec![-1.0, 7.0, 5.0, 6.0], vec![-1.0, 7.0], vec![5.0, 6.0]]
    );
}
