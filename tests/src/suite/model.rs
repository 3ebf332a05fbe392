//! Random callers against a plain model of one pool: which batches there are, to the row.

use crate::Subject;
use crate::kit::{answer, columns, drain, gated, new_builder, pool_of};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_pool::PoolOptions;
use skep_runtime_core::{Priority, Request};
use std::sync::Arc;
use std::time::Duration;

const MAX_ROWS: usize = 4;
const DELAY: u64 = 10;

#[derive(Clone, Copy, Debug)]
enum Step {
    Submit { rows: usize, priority: i32 },
    Cancel(usize),
    Advance(u64),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..=MAX_ROWS, -1i32..2).prop_map(|(rows, priority)| Step::Submit { rows, priority }),
        1 => (0usize..8).prop_map(Step::Cancel),
        2 => (1u64..=DELAY).prop_map(Step::Advance),
        3 => Just(Step::Release),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: i32,
    number: u8,
    rows: usize,
    since: u64,
}

/// What should happen.
struct Model {
    min_rows: usize,
    now: u64,
    queue: Vec<Waiting>,
    busy: bool,
}

impl Model {
    /// The batch that the device takes now, if it is free and there is one.
    fn cut(&mut self) -> Option<Vec<Waiting>> {
        let rows: usize = self.queue.iter().map(|task| task.rows).sum();
        let oldest = self.queue.iter().map(|task| task.since).min()?;
        if self.busy || (rows < self.min_rows && oldest + DELAY > self.now) {
            return None;
        }
        self.busy = true;
        self.queue.sort();
        let mut room = MAX_ROWS;
        let fits = self.queue.iter().take_while(|task| {
            let fits = task.rows <= room;
            room = room.saturating_sub(task.rows);
            fits
        });
        let fits = fits.count();
        Some(self.queue.drain(..fits).collect())
    }
}

fn run<S: Subject>(min_rows: usize, steps: &[Step]) -> Result<(), TestCaseError> {
    let (builder, clock) = new_builder(S::device(), 0);
    // What is learned while it runs is not among the rules.
    let mut builder = builder.just_in_time(false).linger(false).riders(f64::INFINITY);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let delay = (min_rows > 1).then(|| Duration::from_millis(DELAY));
    let options = PoolOptions::default().max_rows(MAX_ROWS).min_rows(min_rows).max_delay(delay);
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    let mut model = Model { min_rows, now: 0, queue: Vec::new(), busy: false };
    let mut tickets = Vec::new();
    let mut running = Vec::new();

    for (&step, number) in steps.iter().zip(0u8..) {
        match step {
            Step::Submit { rows, priority } => {
                let input = columns(&*device, &vec![f32::from(number); rows]);
                let ticket = pool.try_submit(Request::new(input).priority(Priority(priority))).unwrap();
                tickets.push((number, ticket));
                model.queue.push(Waiting { priority, number, rows, since: model.now });
            }
            Step::Cancel(nth) if nth < model.queue.len() => {
                let Waiting { number, .. } = model.queue.remove(nth);
                tickets.retain(|(task, _)| *task != number);
            }
            Step::Advance(millis) => {
                model.now += millis;
                clock.advance(Duration::from_millis(millis));
            }
            Step::Release if model.busy => {
                model.busy = false;
                gate.open();
                let mut done = Vec::new();
                for task in running.drain(..) {
                    let at = tickets.iter().position(|(number, _)| *number == task).unwrap();
                    done.push(answer(tickets.swap_remove(at).1));
                }
                prop_assert!(done.iter().all(Result::is_ok));
            }
            Step::Cancel(_) | Step::Release => {}
        }
        if let Some(batch) = model.cut() {
            let rows: Vec<f32> =
                batch.iter().flat_map(|task| vec![f32::from(task.number); task.rows]).collect();
            prop_assert_eq!(gate.entered(), rows);
            running = batch.iter().map(|task| task.number).collect();
        }
        let waiting: usize = model.queue.iter().map(|task| task.rows).sum();
        prop_assert_eq!(pool.counts().waiting_rows, waiting as u64);
    }
    prop_assert!(gate.is_quiet());
    drop(gate);
    drain(runtime);
    prop_assert!(tickets.into_iter().all(|(_, ticket)| answer(ticket).is_ok()));
    Ok(())
}

/// Whatever callers do, each batch is the one that a reading of the rules gives.
pub fn batches_are_those_of_the_rules<S: Subject>() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(64) });
    let cases = (1..=MAX_ROWS, prop::collection::vec(step(), 1..60));
    runner.run(&cases, |(min_rows, steps)| run::<S>(min_rows, &steps)).unwrap();
}
