//! A full queue says so, or makes its callers wait.

use crate::Subject;
use crate::kit::{
    Columns, Rig, all_succeed, answer, block_on, columns, drain, new_builder, poll_once, poll_pending,
    pool_of, receive, rig, rows_block, spawn, values_of,
};
use skep_pool::PoolOptions;
use skep_runtime_core::{Device, SubmitError, Ticket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};

/// A rig whose device is held and whose queue of two is full.
fn full<D: Device>(device: D) -> (Rig<D>, Vec<Ticket<D::Tensor>>) {
    let rig = rig(device, 0, PoolOptions { capacity: 2, max_rows: 1, ..PoolOptions::default() });
    let tickets = vec![rig.hold(), rig.submit(&[1.0]), rig.submit(&[2.0])];
    (rig, tickets)
}

/// `try_submit` gives the task back.
pub fn a_full_queue_gives_the_task_back<S: Subject>() {
    let (rig, mut tickets) = full(S::device());
    let refused = rig.pool.try_submit(columns(&*rig.device, &[3.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::Full { capacity: 2 }), "{refused}");
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
            PoolOptions { capacity: 1, max_rows: 1, split_large_tasks: true, ..PoolOptions::default() };
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
