//! The order of work: policies, riders, answers in time, and why a batch was cut.

use crate::Subject;
use crate::kit::{Log, all_succeed, answer, columns, drain, gated, new_builder, pool_of, rows_block};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    Aging, Classes, Device, Fair, Flow, Priority, Request, RuntimeBuilder, SubmitError, Ticket,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// A pool whose block takes so long for each row, by the clock, and logs the rows of its batches.
fn slow<D: Device>(
    builder: &mut RuntimeBuilder<D>,
    clock: &Arc<ManualClock>,
    name: &str,
    per_row: Duration,
    log: &Log<Vec<f32>>,
    options: PoolOptions,
) -> TaskPool<D> {
    let (device, clock, log) = (Arc::clone(builder.device()), Arc::clone(clock), log.clone());
    let block = rows_block(&device, name, move |rows| {
        clock.advance(per_row * u32::try_from(rows.len()).unwrap());
        log.push(rows.clone());
        Ok(rows)
    });
    pool_of(builder, block, options)
}

/// A runtime that cuts as soon as there is room: clocks that tests move let nobody wait for company.
fn prompt<D: Device>(device: D) -> (RuntimeBuilder<D>, Arc<ManualClock>) {
    let (builder, clock) = new_builder(device, 0);
    (builder.just_in_time(false).linger(false), clock)
}

/// Lets a runtime learn what rows cost.
fn teach<D: Device>(device: &D, pool: &TaskPool<D>) {
    for rows in 1..=4 {
        answer(pool.try_submit(columns(device, &vec![0.0; rows])).unwrap()).unwrap();
    }
}

/// An urgent task is kept by others no more than they cost it.
pub fn an_urgent_task_takes_few_others_along<S: Subject>() {
    for (riders, expected) in [(0.1, vec![1, 16, 4]), (f64::INFINITY, vec![16, 5])] {
        let (builder, clock) = prompt(S::device());
        let mut builder = builder.riders(riders);
        let (device, log) = (Arc::clone(builder.device()), Log::new());
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, PoolOptions::default());
        let pool = slow(&mut builder, &clock, "slow", 10 * MS, &log, PoolOptions::default().max_rows(16));
        let runtime = builder.start().unwrap();
        teach(&*device, &pool);
        log.take();
        let mut tickets = vec![held.try_submit(columns(&*device, &[0.0])).unwrap()];
        gate.entered();
        let request = |value, priority| Request::new(columns(&*device, &[value])).priority(priority);
        tickets.extend((0..20).map(|_| pool.try_submit(request(1.0, Priority::BACKGROUND)).unwrap()));
        tickets.push(pool.try_submit(request(9.0, Priority::URGENT)).unwrap());
        gate.open();
        all_succeed(tickets);
        let batches = log.take();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), expected, "riders {riders}");
        assert_eq!(batches[0][0].to_bits(), 9.0_f32.to_bits());
        drain(runtime);
    }
}

/// Device time is shared among flows by weight, wherever their tasks wait and whatever a row costs.
pub fn flows_share_the_device_by_weight<S: Subject>() {
    let (builder, clock) = prompt(S::device());
    let mut builder = builder.policy(Arc::new(Classes::of(Fair::new().weight(Flow(2), 2.0))));
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let options = PoolOptions::default().max_rows(4);
    let [one, three] = [("one", MS), ("three", 3 * MS)]
        .map(|(name, per_row)| slow(&mut builder, &clock, name, per_row, &log, options.clone()));
    let runtime = builder.start().unwrap();
    let mut tickets = vec![held.try_submit(columns(&*device, &[0.0])).unwrap()];
    gate.entered();
    for _ in 0..60 {
        for (pool, flow, value) in [(&one, 1, 1.0), (&three, 2, 3.0)] {
            let request = Request::new(columns(&*device, &[value])).flow(Flow(flow));
            tickets.push(pool.try_submit(request).unwrap());
        }
    }
    gate.open();
    all_succeed(tickets);
    let (mut served, mut tasks) = ([0.0, 0.0], [0, 0]);
    for batch in log.take() {
        let flow = usize::from(batch[0] > 1.0);
        // A row's value is its milliseconds.
        served[flow] += batch.iter().sum::<f32>() / [1.0, 2.0][flow];
        tasks[flow] += batch.len();
        if tasks.contains(&60) {
            break;
        }
        // Two of the largest batches, of four rows of three milliseconds by the weight 2.
        assert!((served[0] - served[1]).abs() <= 12.0, "{served:?}");
    }
    assert!(tasks[1] > 20, "{tasks:?}");
    drain(runtime);
}

/// What is less urgent is overtaken by what came soon after it, and by nothing that came later.
pub fn waiting_makes_urgent_under_aging<S: Subject>() {
    let (builder, clock) = prompt(S::device());
    let mut builder = builder.policy(Arc::new(Aging::new(MS)));
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let pool = slow(&mut builder, &clock, "slow", MS, &log, PoolOptions::default().max_rows(1));
    let runtime = builder.start().unwrap();
    let mut tickets = vec![held.try_submit(columns(&*device, &[0.0])).unwrap()];
    gate.entered();
    let request = |value, priority| Request::new(columns(&*device, &[value])).priority(priority);
    tickets.push(pool.try_submit(request(100.0, Priority::BACKGROUND)).unwrap());
    for number in 1u8..=20 {
        clock.advance(9 * MS);
        tickets.push(pool.try_submit(request(f32::from(number), Priority::NORMAL)).unwrap());
    }
    gate.open();
    all_succeed(tickets);
    let order: Vec<f32> = log.take().concat();
    // A hundred levels of a millisecond: eleven came within 100 ms.
    assert_eq!(order.iter().position(|value| *value > 99.0), Some(11), "{order:?}");
    drain(runtime);
}

/// What cannot be answered in time is refused, and a full queue says how long it takes.
pub fn answers_come_in_time_or_not_at_all<S: Subject>() {
    let (mut builder, clock) = prompt(S::device());
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let options = PoolOptions::default().max_rows(4).capacity(3).answer_in_time(true);
    let pool = slow(&mut builder, &clock, "slow", 10 * MS, &log, options);
    let runtime = builder.start().unwrap();
    assert!(runtime.handle().costs(pool.name()).is_empty());
    teach(&*device, &pool);
    let costs = runtime.handle().costs(pool.name());
    assert_eq!((costs.len(), costs[0].elements, costs[0].price.of(3)), (1, 1, 30 * MS));
    let request = |rows| Request::new(columns(&*device, &vec![1.0; rows]));
    let refused = pool.try_submit(request(3).deadline(20 * MS)).unwrap_err();
    let SubmitError::TooLate { takes, left } = refused.error else { panic!("{refused}") };
    assert_eq!((takes, left), (30 * MS, 20 * MS));
    let blocking: Ticket<_> = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let tickets: Vec<_> = (0..3).map(|_| pool.try_submit(request(2)).unwrap()).collect();
    let refused = pool.try_submit(request(1)).unwrap_err();
    let SubmitError::Full { wait, .. } = refused.error else { panic!("{refused}") };
    assert_eq!(wait, Some(60 * MS));
    gate.open();
    answer(blocking).unwrap();
    all_succeed(tickets);
    drain(runtime);
}

/// Each batch says why it was cut when it was.
pub fn batches_say_why_they_were_cut<S: Subject>() {
    let stats = Stats::new();
    let (builder, clock) = prompt(S::device());
    let mut builder = builder.observer(stats.observer());
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let options = PoolOptions::default().max_rows(4).min_rows(3).max_delay(5 * MS);
    let pool = slow(&mut builder, &clock, "slow", MS, &log, options);
    let runtime = builder.start().unwrap();
    let submit = |rows| pool.try_submit(columns(&*device, &vec![1.0; rows])).unwrap();
    let blocking = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let full = submit(4);
    gate.open();
    all_succeed([blocking, full]);
    answer(submit(3)).unwrap();
    let late = submit(1);
    clock.advance(5 * MS);
    answer(late).unwrap();
    let last = submit(2);
    drain(runtime);
    answer(last).unwrap();
    let snapshot = stats.snapshot();
    let slow = snapshot.pools.iter().find(|pool| pool.name.contains("slow")).unwrap();
    let cuts: Vec<_> = slow.cuts.iter().map(|(reason, batches)| (reason.as_str(), *batches)).collect();
    assert_eq!(cuts, [("delay", 1), ("drain", 1), ("empty", 1), ("full", 1)]);
}
