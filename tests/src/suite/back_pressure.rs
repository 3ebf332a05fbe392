//! A full queue says so, or makes its callers wait.

use crate::Subject;
use crate::kit::{
    Columns, Rig, all_succeed, answer, block_on, columns, drain, new_builder, poll_once, poll_pending,
    pool_of, receive, rig, rows_block, spawn, values_of,
};
use skep_pool::PoolOptions;
use skep_runtime_core::{Device, Priority, Request, SubmitError, TaskError, Ticket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

/// A rig whose device is held and whose queue of two is full.
fn full<D: Device>(device: D) -> (Rig<D>, Vec<Ticket<D::Tensor>>) {
    let rig = rig(device, 0, PoolOptions::default().capacity(2).max_rows(1));
    let tickets = vec![rig.hold(), rig.submit(&[1.0]), rig.submit(&[2.0])];
    (rig, tickets)
}

/// `try_submit` gives the task back.
pub fn a_full_queue_gives_the_task_back<S: Subject>() {
    let (rig, mut tickets) = full(S::device());
    let refused = rig.pool.try_submit(columns(&*rig.device, &[3.0])).unwrap_err();
    assert!(
        matches!(refused.error, SubmitError::Full { tasks: 2, capacity: 2, rows: 2, capacity_rows: 2, .. }),
        "{refused}"
    );
    let request = refused.into_request();
    assert_eq!(Columns::read(&*rig.device, request.inputs.tensors().next().unwrap()), [3.0]);
    let counts = rig.pool.counts();
    assert_eq!((counts.submitted, counts.refused, counts.waiting), (4, 1, 2));
    rig.gate.open();
    assert_eq!(rig.gate.entered(), [1.0]);
    // The device has taken one: there is room.
    let retried = rig.pool.try_submit(request).unwrap();
    assert_eq!(rig.finish(tickets.remove(0)), [[2.0], [3.0]]);
    answer(retried).unwrap();
}

/// `submit` blocks until there is room.
pub fn submit_blocks_until_there_is_room<S: Subject>() {
    let (rig, mut tickets) = full(S::device());
    let (pool, input) = (rig.pool.clone(), columns(&*rig.device, &[3.0]));
    let told = spawn(move || pool.submit(input));
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)), "no room while the device is held");
    rig.gate.open();
    assert_eq!(rig.gate.entered(), [1.0]);
    let ticket = receive(&told).unwrap();
    let device = std::sync::Arc::clone(&rig.device);
    assert_eq!(rig.finish(tickets.remove(0)), [[2.0], [3.0]]);
    assert_eq!(values_of(&*device, ticket), [6.0]);
}

/// `submit_async` awaits room, and all who do get in, each once.
pub fn all_who_await_room_get_in<S: Subject>() {
    let (rig, mut tickets) = full(S::device());
    let device = std::sync::Arc::clone(&rig.device);
    let callers: Vec<_> = (3u8..11)
        .map(|v| {
            let (pool, input) = (rig.pool.clone(), columns(&*rig.device, &[f32::from(v)]));
            let (tell, told) = channel();
            let caller = spawn(move || {
                let mut submitting = pin!(pool.submit_async(input));
                tell.send(poll_once(&mut submitting).is_pending()).ok();
                block_on(async { submitting.await.unwrap().await })
            });
            assert!(receive(&told), "no room while the device is held");
            (caller, 2.0 * f32::from(v))
        })
        .collect();
    let pool = rig.pool.clone();
    let held = tickets.remove(0);
    let ran = rig.gate.open_for_good();
    answer(held).unwrap();
    for (caller, doubled) in callers {
        let outputs = receive(&caller).unwrap();
        assert_eq!(Columns::read(&*device, &outputs[0]), [doubled]);
    }
    assert_eq!(ran.try_iter().count(), 10);
    assert_eq!((pool.counts().submitted, pool.counts().refused), (11, 0));
    all_succeed(tickets);
}

/// A caller who gives up awaiting room passes its turn on.
pub fn a_caller_who_gives_up_passes_its_turn_on<S: Subject>() {
    let (rig, mut tickets) = full(S::device());
    let mut impatient = Box::pin(rig.pool.submit_async(columns(&*rig.device, &[3.0])));
    assert!(poll_once(&mut impatient).is_pending());
    let mut patient = Box::pin(rig.pool.submit_async(columns(&*rig.device, &[4.0])));
    assert!(poll_once(&mut patient).is_pending());
    rig.gate.open();
    assert_eq!(rig.gate.entered(), [1.0]);
    // The first in line may have been told of the room already.
    drop(impatient);
    let ticket = block_on(patient).unwrap();
    assert_eq!(rig.finish(tickets.remove(0)), [[2.0], [4.0]]);
    answer(ticket).unwrap();
}

/// A part of a split task that need not run any more, because another part has failed, gives the task's place
/// to the caller who waits for it.
pub fn a_part_that_need_not_run_gives_its_place_back<S: Subject>() {
    for prefetch in [0, 1] {
        let (mut builder, _clock) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let (enter, entered) = channel();
        let (open, opened) = channel::<()>();
        let block = rows_block(&device, "moody", move |rows| {
            enter.send(rows.clone()).ok();
            opened.recv().ok();
            if rows[0] < 0.0 { Err("no mood".into()) } else { Ok(rows) }
        });
        let options =
            PoolOptions::default().capacity(1).capacity_rows(Some(3)).max_rows(1).split_large_tasks(true);
        let pool = pool_of(&mut builder, block, options);
        let runtime = builder.start().unwrap();

        let split = pool.submit(columns(&*device, &[-1.0, 2.0, 3.0])).unwrap();
        assert_eq!(receive(&entered), [-1.0]);
        let mut submitting = Box::pin(pool.submit_async(columns(&*device, &[4.0])));
        let told = poll_pending(&mut submitting);
        drop(open);
        assert!(answer(split).is_err());
        receive(&told);
        let ticket = block_on(submitting).unwrap();
        assert_eq!(values_of(&*device, ticket), [4.0]);
        drain(runtime);
    }
}

/// Room that comes free goes to the most urgent of those who wait for it, and of equals to the first.
pub fn room_goes_to_the_most_urgent_caller<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, PoolOptions::default().capacity(1).max_rows(1));
        let held = rig.hold();
        // With prefetch the loader takes one out.
        let before: Vec<_> =
            (0..=prefetch).map(|i| rig.pool.submit(columns(&*rig.device, &[i as f32])).unwrap()).collect();
        let wanted = [(10.0, 5), (11.0, 0), (12.0, -5), (13.0, 0)];
        let mut waiting: Vec<_> = wanted
            .map(|(value, priority)| {
                let request = Request::new(columns(&*rig.device, &[value])).priority(Priority(priority));
                Box::pin(rig.pool.submit_async(request))
            })
            .into();
        assert!(waiting.iter_mut().all(|submitting| poll_once(submitting).is_pending()));
        let refused = rig.pool.try_submit(columns(&*rig.device, &[14.0])).unwrap_err();
        assert!(matches!(refused.error, SubmitError::Full { .. }), "nobody goes before those who wait");
        let pool = rig.pool.clone();
        let ran = rig.gate.open_for_good();
        answer(held).unwrap();
        let tickets: Vec<_> = waiting.into_iter().map(|submitting| block_on(submitting).unwrap()).collect();
        all_succeed(before);
        all_succeed(tickets);
        let ran: Vec<f32> = ran.try_iter().flatten().collect();
        assert_eq!(ran[1 + prefetch..], [12.0, 11.0, 13.0, 10.0]);
        assert_eq!(pool.counts().refused, 1);
        drain(rig.runtime);
    }
}

/// Ordinary tasks fill the queue up to its reserve, and urgent ones get in.
pub fn a_reserve_keeps_room_for_the_urgent<S: Subject>() {
    let options = PoolOptions::default().capacity(3).reserve(1).max_rows(2);
    let rig = rig(S::device(), 0, options);
    let held = rig.hold();
    let request =
        |value, priority| Request::new(columns(&*rig.device, &[value])).priority(Priority(priority));
    let ordinary = [1.0, 2.0].map(|value| rig.pool.try_submit(request(value, 0)).unwrap());
    for priority in [0, 5] {
        let refused = rig.pool.try_submit(request(3.0, priority)).unwrap_err();
        let full = SubmitError::Full { tasks: 2, capacity: 2, rows: 2, capacity_rows: 4, wait: None };
        assert_eq!(refused.error.to_string(), full.to_string());
    }
    let mut ordinary_caller = Box::pin(rig.pool.submit_async(request(4.0, 0)));
    assert!(poll_once(&mut ordinary_caller).is_pending());
    let urgent = rig.pool.try_submit(request(5.0, -1)).expect("there is a place for the urgent");
    assert!(rig.pool.try_submit(request(6.0, -1)).is_err());
    drop(ordinary_caller);
    assert_eq!(rig.finish(held), [vec![5.0, 1.0], vec![2.0]]);
    all_succeed(ordinary);
    answer(urgent).unwrap();
}

/// A queue that has room for more tasks may have none for their rows.
pub fn rows_are_bounded_as_well_as_tasks<S: Subject>() {
    let options = PoolOptions::default().max_rows(4).capacity_rows(Some(6)).split_large_tasks(true);
    let rig = rig(S::device(), 0, options);
    let held = rig.hold();
    let refused = rig.pool.try_submit(columns(&*rig.device, &[0.0; 7])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::TooManyRows { rows: 7, max: 6 }), "{refused}");
    let large = rig.submit(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let refused = rig.pool.try_submit(columns(&*rig.device, &[6.0, 7.0])).unwrap_err();
    assert!(
        matches!(refused.error, SubmitError::Full { tasks: 1, rows: 5, capacity_rows: 6, .. }),
        "{refused}"
    );
    let small = rig.submit(&[8.0]);
    assert_eq!(rig.finish(held), [vec![1.0, 2.0, 3.0, 4.0], vec![8.0, 5.0]]);
    answer(large).unwrap();
    answer(small).unwrap();
}

/// A pool that evicts answers the newest of its least urgent tasks for a more urgent one.
pub fn an_urgent_task_takes_the_place_of_the_least_urgent<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default().capacity(3).eviction(true));
    let held = rig.hold();
    let request =
        |value, priority| Request::new(columns(&*rig.device, &[value])).priority(Priority(priority));
    let submit = |value, priority| rig.pool.try_submit(request(value, priority));
    let [first, normal, last] =
        [(1.0, 100), (2.0, 0), (3.0, 100)].map(|(value, priority)| submit(value, priority).unwrap());
    assert!(
        matches!(submit(4.0, 100).unwrap_err().error, SubmitError::Full { .. }),
        "an equal takes no place"
    );
    rig.clock.advance(Duration::from_millis(3));
    let urgent = submit(5.0, -100).unwrap();
    match answer(last).map(|_| ()) {
        Err(TaskError::Evicted { waited }) => assert_eq!(waited, Duration::from_millis(3)),
        other => panic!("expected an evicted task, got {other:?}"),
    }
    let another = rig.pool.submit(request(6.0, -100)).unwrap();
    assert!(matches!(answer(first), Err(TaskError::Evicted { .. })));
    let counts = rig.pool.counts();
    assert_eq!((counts.submitted, counts.evicted, counts.refused, counts.waiting), (7, 2, 1, 3));
    assert_eq!(rig.finish(held), [[5.0, 6.0, 2.0]]);
    all_succeed([urgent, another, normal]);
}
