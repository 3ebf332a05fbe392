//! A policy that listens hears of every task that leaves its pool, and once of what came of it. Devices that share a pool
//! agree on the order of its tasks.

use super::deadline::telling;
use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, On, Operation, all_succeed, answer, columns, drain, gated, new_builder, pool_of, receive,
    rows_block, spawn,
};
use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions};
use skep_runtime_core::pool::{Facts, Policy, Ran, Rank};
use skep_runtime_core::{
    Aging, Device, DeviceError, EarliestDeadline, Fair, OldestFirst, PoolId, Request, RuntimeBuilder,
    Shutdown, StartError, TaskError, TaskHeader,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(10);

/// Oldest first, and counts what it hears.
#[derive(Default)]
struct Clerk {
    took: AtomicUsize,
    ran: AtomicUsize,
    again: AtomicUsize,
}

impl Policy for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn facts(&self) -> Facts {
        OldestFirst.facts()
    }

    fn rank(&self, pool: PoolId, task: &TaskHeader) -> Rank {
        OldestFirst.rank(pool, task)
    }

    fn listens(&self) -> bool {
        true
    }

    fn took(&self, _: PoolId, _: &TaskHeader, _: Duration, _: bool) {
        self.took.fetch_add(1, Ordering::SeqCst);
    }

    fn ran(&self, ran: &Ran<'_>) {
        let counter = if ran.again { &self.again } else { &self.ran };
        counter.fetch_add(ran.tasks.len(), Ordering::SeqCst);
    }
}

impl Clerk {
    /// The tasks that were taken and those of which it heard the end.
    fn counts(&self) -> (usize, usize) {
        (self.took.load(Ordering::SeqCst), self.ran.load(Ordering::SeqCst))
    }
}

fn heard_by<D: Device>(device: D, prefetch: usize, clerk: &Arc<Clerk>) -> RuntimeBuilder<D> {
    new_builder(device, prefetch).0.policy(Arc::clone(clerk) as Arc<_>)
}

/// Whether they expire between the gather and the device's turn, or are found expired when it is theirs.
pub fn a_policy_hears_of_tasks_that_expire_in_their_batch<S: Subject>() {
    let (clerk, (device, gathered)) = (Arc::new(Clerk::default()), telling::<S>());
    let (builder, clock) = new_builder(device, 1);
    let mut builder = builder.policy(Arc::clone(&clerk) as Arc<_>);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    let submit = |row| Request::new(columns(&*device, &[row]));
    let held = pool.try_submit(submit(0.0)).unwrap();
    gate.entered();
    let waiting = pool.try_submit(submit(1.0).deadline(SHORT)).unwrap();
    receive(&gathered);
    clock.advance(SHORT);
    assert!(matches!(answer(waiting).map(drop), Err(TaskError::Expired { .. })));
    drop(gate);
    answer(held).unwrap();
    drain(runtime);
    assert_eq!(clerk.counts(), (2, 2));
}

/// Each task of a batch that fails is told of once, however often it runs; so is one that could not be gathered.
pub fn a_policy_hears_of_tasks_whose_batch_is_taken_apart<S: Subject>() {
    for fails_to_gather in [false, true] {
        let (clerk, fails) = (Arc::new(Clerk::default()), Arc::new(AtomicUsize::new(0)));
        let fail = Arc::clone(&fails);
        let device: On<S> = Hooked::new(S::device()).hook(move |operation| match operation {
            Operation::Gather
                if fail.load(Ordering::SeqCst) > 0 && fail.fetch_sub(1, Ordering::SeqCst) == 1 =>
            {
                Err(DeviceError::operation("no hand"))
            }
            _ => Ok(()),
        });
        let mut builder = heard_by(device, 0, &clerk);
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, PoolOptions::default());
        let picky = rows_block(&device, "picky", |rows| {
            if rows.contains(&3.0) { Err("not three".into()) } else { Ok(rows) }
        });
        let pool = pool_of(&mut builder, picky, PoolOptions::default());
        let runtime = builder.start().unwrap();
        let held = held.try_submit(columns(&*device, &[0.0])).unwrap();
        gate.entered();
        let tickets = [1.0, 2.0, 3.0, 4.0].map(|row| pool.try_submit(columns(&*device, &[row])).unwrap());
        // The block at the gate gathers its output first.
        fails.store(if fails_to_gather { 2 } else { 0 }, Ordering::SeqCst);
        drop(gate);
        answer(held).unwrap();
        let failed = tickets.into_iter().map(|ticket| answer(ticket).is_err()).collect::<Vec<_>>();
        assert_eq!(failed, [false, false, true, false]);
        drain(runtime);
        assert_eq!(clerk.counts(), (5, 5), "fails to gather: {fails_to_gather}");
        assert!(clerk.again.load(Ordering::SeqCst) > 0, "they ran again");
        assert_eq!(fails.load(Ordering::SeqCst), 0);
    }
}

/// A part that cannot be cut does not run, and the others of its task help nobody.
pub fn a_policy_hears_of_parts_that_do_not_run<S: Subject>() {
    let (clerk, cuts) = (Arc::new(Clerk::default()), Arc::new(AtomicBool::new(true)));
    let may = Arc::clone(&cuts);
    let device: On<S> = Hooked::new(S::device()).hook(move |operation| match operation {
        Operation::Slice if !may.load(Ordering::SeqCst) => Err(DeviceError::operation("no knife")),
        _ => Ok(()),
    });
    let mut builder = heard_by(device, 2, &clerk);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(4).split_large_tasks(true));
    let runtime = builder.start().unwrap();
    let submit = |rows: &[f32]| pool.try_submit(columns(&*device, rows)).unwrap();
    let held = submit(&[0.0]);
    gate.entered();
    cuts.store(false, Ordering::SeqCst);
    let (before, split, after) = (submit(&[1.0]), submit(&[2.0; 20]), submit(&[3.0]));
    drop(gate);
    assert!(matches!(answer(split).map(drop), Err(TaskError::Failed(_))));
    all_succeed([held, before, after]);
    drain(runtime);
    let (took, ran) = clerk.counts();
    assert!(took > 3, "the parts were taken");
    assert_eq!(took, ran);
}

/// What was gathered for a block that leaves does not run.
pub fn a_policy_hears_of_tasks_whose_block_leaves<S: Subject>() {
    let (clerk, (device, gathered)) = (Arc::new(Clerk::default()), telling::<S>());
    let mut builder = heard_by(device, 2, &clerk);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(1));
    let runtime = builder.start().unwrap();
    let held = pool.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let [waiting, next] = [1.0, 2.0].map(|row| {
        let ticket = pool.try_submit(columns(&*device, &[row])).unwrap();
        receive(&gathered);
        ticket
    });
    let handle = runtime.handle().clone();
    let removed = spawn(move || handle.remove("gated", Shutdown::Abort, LIMIT));
    assert!(matches!(answer(waiting).map(drop), Err(TaskError::Removed)));
    drop(gate);
    answer(held).unwrap();
    // The loader may be at it still: then it runs.
    answer(next).ok();
    receive(&removed).unwrap();
    drain(runtime);
    assert_eq!(clerk.counts(), (3, 3));
}

/// One queue has one order: that of the default policy, or of one object that all of its runtimes have, if it need not hear
/// what ran.
pub fn devices_that_share_a_pool_agree_on_its_order<S: Subject>() {
    type Order = Option<Arc<dyn Policy>>;
    let aging: Order = Some(Arc::new(Aging::new(SHORT)));
    let fair: Order = Some(Arc::new(Fair::new()));
    let same = |order: &Order| [order.clone(), order.clone()];
    let cases: [(&str, [Order; 2], Option<&str>); 7] = [
        ("the default", [None, None], None),
        ("the default, by name", [None, Some(Arc::new(OldestFirst))], None),
        ("the same", same(&aging), None),
        (
            "equal ones, for all anybody knows",
            [aging.clone(), Some(Arc::new(Aging::new(SHORT)))],
            Some("aging"),
        ),
        ("two", [aging, Some(Arc::new(EarliestDeadline::new()))], Some("earliest deadline")),
        ("one that listens", same(&fair), Some("fair")),
        ("the first listens", [fair, None], Some("oldest first")),
    ];
    for (name, orders, refused) in cases {
        for is_running in [false, true] {
            let [mut first, mut second] = orders.clone().map(|order| {
                let builder = new_builder(S::device(), 0).0;
                if let Some(order) = order { builder.policy(order) } else { builder }
            });
            let on = Arc::clone(first.device());
            let block = |name| rows_block(&on, name, Ok);
            let served = first.serve(block("block"), ServeOptions::default()).unwrap();
            let first = first.start().unwrap();
            let joined = if is_running {
                let second = second.start().unwrap();
                let joined = second.handle().join(block("copy"), &served);
                if joined.is_err() {
                    assert!(second.handle().blocks().is_empty(), "nothing is left behind");
                }
                joined.map(|()| second)
            } else {
                second.join(block("copy"), &served).and_then(|()| second.start())
            };
            match (&joined, refused) {
                (Ok(_), None) => {}
                (Err(StartError::OtherPolicy { pool, policy, .. }), Some(refused)) => {
                    assert_eq!((pool.as_str(), *policy), (served.forward.name(), refused), "{name}");
                }
                (Err(error), _) => panic!("{name}, running: {is_running}: {error}"),
                (Ok(_), Some(_)) => panic!("{name}, running: {is_running}: should be refused"),
            }
            // The first one goes on as if nobody had come.
            drop(joined);
            answer(served.forward.submit(columns(&*on, &[1.0])).unwrap()).unwrap();
            drain(first);
        }
    }
}
