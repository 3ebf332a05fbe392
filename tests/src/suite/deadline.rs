//! A task that has waited too long is told so at that moment, and never runs.

use crate::Subject;
use crate::kit::{
    Columns, Hooked, LIMIT, On, Operation, Overheard, Rig, answer, block_on, columns, drain, gated,
    new_builder, poll_once, pool_of, receive, rig, spawn, values_of,
};
use skep_pool::PoolOptions;
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{Clock, Device, Request, RuntimeBuilder, SubmitError, TaskError, TaskResult, Ticket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(10);
const TICK: Duration = Duration::from_nanos(1);

fn submit<D: Device>(rig: &Rig<D>, row: f32, deadline: Duration) -> Ticket<D::Tensor> {
    rig.pool.try_submit(Request::new(columns(&*rig.device, &[row])).deadline(deadline)).unwrap()
}

fn assert_expired<T>(result: TaskResult<T>, after: Duration) {
    match result.map(|_| ()) {
        Err(TaskError::Expired { waited }) => assert_eq!(waited, after),
        other => panic!("expected an expired task, got {other:?}"),
    }
}

/// A device that tells when the loader gathers a batch.
pub(super) fn telling<S: Subject>() -> (On<S>, Receiver<()>) {
    let (tell, told) = channel();
    let device = Hooked::new(S::device()).hook(move |operation| {
        if operation == Operation::Gather && std::thread::current().name() == Some("skep-loader") {
            tell.send(()).ok();
        }
        Ok(())
    });
    (device, told)
}

/// While the device is busy, a waiting task expires at its deadline, not before, and never runs.
pub fn waiting_tasks_expire_while_the_device_is_busy<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default());
    let held = rig.hold();
    let short = submit(&rig, 1.0, SHORT);
    let long = submit(&rig, 2.0, 2 * SHORT);
    let forever = rig.submit(&[3.0]);
    rig.clock.advance(SHORT.saturating_sub(TICK));
    assert!(!short.is_done());
    rig.clock.advance(TICK);
    assert_expired(answer(short), SHORT);
    assert_eq!(rig.pool.counts().expired, 1);
    assert_eq!(rig.finish(held), [[2.0, 3.0]]);
    answer(long).unwrap();
    answer(forever).unwrap();
}

/// The later deadline is kept as well as the earlier one, whichever task came first.
pub fn each_deadline_counts_in_any_order<S: Subject>() {
    for deadlines in [[SHORT, 2 * SHORT], [2 * SHORT, SHORT]] {
        let rig = rig(S::device(), 0, PoolOptions::default());
        let held = rig.hold();
        let mut tickets: Vec<_> = deadlines.map(|at| (at, submit(&rig, 1.0, at))).into();
        tickets.sort_by_key(|(at, _)| *at);
        for (at, ticket) in tickets {
            rig.clock.advance(SHORT);
            assert_expired(answer(ticket), at);
        }
        assert!(rig.finish(held).is_empty());
    }
}

/// Also when its batch had been gathered ahead of the one that runs.
pub fn prefetched_tasks_expire_while_the_device_is_busy<S: Subject>() {
    let (device, gathered) = telling::<S>();
    let rig = rig(device, 1, PoolOptions::default());
    let held = rig.hold();
    let ticket = submit(&rig, 1.0, SHORT);
    receive(&gathered);
    rig.clock.advance(SHORT);
    assert_expired(answer(ticket), SHORT);
    assert!(rig.finish(held).is_empty());
}

/// The others of a prefetched batch run without the expired one, and get their own rows.
pub fn the_rest_of_a_prefetched_batch_runs<S: Subject>() {
    let (device, gathered) = telling::<S>();
    let patience = PoolOptions::default().min_rows(3).max_delay(Some(LIMIT));
    let (mut builder, clock) = new_builder(device, 1);
    let device = Arc::clone(builder.device());
    let (block, first_gate) = gated(&device, "first");
    let first_pool = pool_of(&mut builder, block, PoolOptions::default());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, patience);
    let runtime = builder.start().unwrap();
    let held = first_pool.submit(columns(&*device, &[0.0])).unwrap();
    first_gate.entered();

    let first = pool.submit(columns(&*device, &[1.0])).unwrap();
    let expiring = pool.submit(Request::new(columns(&*device, &[2.0])).deadline(SHORT)).unwrap();
    let last = pool.submit(columns(&*device, &[3.0])).unwrap();
    receive(&gathered);
    clock.advance(SHORT);
    assert_expired(answer(expiring), SHORT);
    first_gate.open();
    assert_eq!(gate.entered(), [1.0, 3.0]);
    gate.open();
    answer(held).unwrap();
    assert_eq!(values_of(&*device, first), [2.0]);
    assert_eq!(values_of(&*device, last), [6.0]);
    drain(runtime);
}

/// A task that has started is not interrupted.
pub fn a_task_that_runs_does_not_expire<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let running = submit(&rig, 1.0, SHORT);
    rig.gate.entered();
    // This one expires after the timer has looked at the running one.
    let witness = submit(&rig, 2.0, SHORT);
    rig.clock.advance(2 * SHORT);
    assert_expired(answer(witness), 2 * SHORT);
    rig.gate.open();
    assert_eq!(values_of(&*rig.device, running), [2.0]);
    drain(rig.runtime);
}

/// Two stages of one request share a deadline, whenever each is handed in; one that has passed is refused.
pub fn a_deadline_can_be_a_time<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default());
    let held = rig.hold();
    let at = rig.clock.now() + SHORT;
    let stage = |row: f32| Request::new(columns(&*rig.device, &[row])).deadline_at(at);
    let first = rig.pool.try_submit(stage(1.0)).unwrap();
    rig.clock.advance(SHORT / 2);
    let second = rig.pool.try_submit(stage(2.0)).unwrap();
    rig.clock.advance(SHORT / 2);
    assert_expired(answer(first), SHORT);
    assert_expired(answer(second), SHORT / 2);
    assert!(matches!(rig.pool.try_submit(stage(3.0)).unwrap_err().error, SubmitError::DeadlinePassed));
    assert!(rig.finish(held).is_empty());
}

/// No time at all is refused at once; more time than there is means none.
pub fn extreme_deadlines<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let request = Request::new(columns(&*rig.device, &[1.0])).deadline(Duration::ZERO);
    let refused = rig.pool.try_submit(request).unwrap_err();
    assert!(matches!(refused.error, SubmitError::DeadlinePassed));
    assert_eq!(Columns::read(&*rig.device, refused.into_request().inputs.tensors().next().unwrap()), [1.0]);
    let held = rig.hold();
    let ticket = submit(&rig, 1.0, Duration::MAX);
    rig.clock.advance(Duration::from_secs(1 << 20));
    assert_eq!(rig.finish(held), [[1.0]]);
    answer(ticket).unwrap();
}

/// A deadline that passes before the start counts too.
pub fn tasks_that_waited_for_the_start_expire<S: Subject>() {
    for prefetch in [0, 1] {
        let (mut builder, clock) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let pool = pool_of(&mut builder, block, PoolOptions::default());
        let expiring = pool.try_submit(Request::new(columns(&*device, &[1.0])).deadline(SHORT)).unwrap();
        let other = pool.try_submit(columns(&*device, &[2.0])).unwrap();
        clock.advance(SHORT);
        let runtime = builder.start().unwrap();
        assert_eq!(gate.entered(), [2.0]);
        gate.open();
        assert_expired(answer(expiring), SHORT);
        answer(other).unwrap();
        drain(runtime);
    }
}

/// A runtime that stops does not call a task shut down that had expired before.
pub fn what_had_expired_is_not_called_shut_down<S: Subject>() {
    let (mut builder, clock) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (block, _gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let expired = pool.try_submit(Request::new(columns(&*device, &[1.0])).deadline(SHORT)).unwrap();
    let waiting = pool.try_submit(columns(&*device, &[2.0])).unwrap();
    clock.advance(SHORT);
    drop(builder);
    assert_expired(answer(expired), SHORT);
    assert!(matches!(answer(waiting), Err(TaskError::ShutDown)));
}

/// Who waits for room longer than the task may wait gets it back: awaiting and blocking.
pub fn callers_who_wait_for_room_have_deadlines<S: Subject>() {
    let clock = ManualClock::new();
    let (overheard, told) = Overheard::new(Arc::clone(&clock));
    let mut builder = RuntimeBuilder::new(S::device()).prefetch(0).clock(overheard);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default().capacity(1));
    let runtime = builder.start().unwrap();
    let held = pool.submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let waiting = pool.submit(columns(&*device, &[1.0])).unwrap();

    let late = |row| Request::new(columns(&*device, &[row])).deadline(SHORT);
    let mut awaiting = pin!(pool.submit_async(late(2.0)));
    assert!(poll_once(&mut awaiting).is_pending());
    let (caller, request) = (pool.clone(), late(3.0));
    let blocked = spawn(move || caller.submit(request).map(|_| ()));
    receive(&told);
    clock.advance(SHORT);
    let refused = [block_on(awaiting).map(|_| ()).unwrap_err(), receive(&blocked).unwrap_err()];
    for (refused, row) in refused.into_iter().zip([2.0, 3.0]) {
        assert!(matches!(refused.error, SubmitError::DeadlinePassed), "{refused}");
        assert_eq!(Columns::read(&*device, refused.into_request().inputs.tensors().next().unwrap()), [row]);
    }
    gate.open();
    gate.open();
    answer(held).unwrap();
    answer(waiting).unwrap();
    drain(runtime);
}

/// A task that is split expires whole.
pub fn a_split_task_expires_whole<S: Subject>() {
    let options = PoolOptions::default().max_rows(2).split_large_tasks(true);
    let rig = rig(S::device(), 0, options);
    let held = rig.hold();
    let request = Request::new(columns(&*rig.device, &[1.0, 2.0, 3.0])).deadline(SHORT);
    let ticket = rig.pool.try_submit(request).unwrap();
    rig.clock.advance(SHORT);
    assert_expired(answer(ticket), SHORT);
    let counts = rig.pool.counts();
    assert_eq!((counts.expired, counts.waiting, counts.waiting_rows), (1, 0, 0));
    assert!(rig.finish(held).is_empty());
}

/// A task with a deadline waits for company for half of its time at most, and runs.
pub fn a_lone_task_runs_before_its_deadline<S: Subject>() {
    for prefetch in [0, 1] {
        let patience = PoolOptions::default().min_rows(3).max_delay(Some(10 * SHORT));
        let rig = rig(S::device(), prefetch, patience);
        let ticket = submit(&rig, 1.0, SHORT);
        rig.clock.advance((SHORT / 2).saturating_sub(TICK));
        assert!(rig.gate.is_quiet());
        rig.clock.advance(TICK);
        assert_eq!(rig.gate.entered(), [1.0]);
        rig.gate.open();
        assert_eq!(values_of(&*rig.device, ticket), [2.0]);
        drain(rig.runtime);
    }
}

/// A pool's own deadline is for tasks that name none, and its latest one for all.
pub fn a_pool_has_a_deadline_and_a_latest_one<S: Subject>() {
    let [own, latest, far] = [10, 20, 1000].map(Duration::from_millis);
    let options = PoolOptions::default().deadline(own).max_deadline(latest);
    let rig = rig(S::device(), 0, options);
    let held = rig.hold();
    let task = || Request::new(columns(&*rig.device, &[1.0]));
    let tickets = [task(), task().deadline(far)].map(|task| rig.pool.try_submit(task).unwrap());
    for (ticket, expected) in tickets.into_iter().zip([own, latest]) {
        rig.clock.advance(own);
        match answer(ticket).map(|_| ()) {
            Err(TaskError::Expired { waited }) => assert_eq!(waited, expected),
            other => panic!("expected an expired task, got {other:?}"),
        }
    }
    assert!(rig.finish(held).is_empty());
}
