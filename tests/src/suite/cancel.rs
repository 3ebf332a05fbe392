//! Dropping a ticket takes its task back.

use crate::Subject;
use crate::kit::{Hooked, On, Operation, all_succeed, answer, block_on, columns, poll_once, receive, rig};
use skep_pool::PoolOptions;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::channel;

/// A task whose ticket was dropped while it waited never runs.
pub fn a_cancelled_task_never_runs<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default());
    let held = rig.hold();
    let before = rig.submit(&[1.0]);
    drop(rig.submit(&[2.0, 2.5]));
    let after = rig.submit(&[3.0]);
    let pool = rig.pool.clone();
    assert_eq!((pool.counts().cancelled, pool.counts().waiting, pool.counts().waiting_rows), (1, 2, 2));
    assert_eq!(rig.finish(held), [[1.0, 3.0]]);
    answer(before).unwrap();
    answer(after).unwrap();
    assert_eq!(Arc::strong_count(&pool.as_pool()), 2, "nothing but this handle keeps the pool");
}

/// Its place in the queue is free at once.
pub fn a_cancelled_task_gives_its_capacity_back<S: Subject>() {
    for prefetch in [0, 1] {
        let device: On<S> = Hooked::new(S::device());
        let rig = rig(device, prefetch, PoolOptions::default().capacity(3).max_rows(1));
        let held = rig.hold();
        let full = |rig: &crate::kit::Rig<On<S>>| {
            std::iter::from_fn(|| rig.pool.try_submit(columns(&*rig.device, &[1.0])).ok()).collect::<Vec<_>>()
        };
        // With prefetch, the loader takes one out at a moment of its own.
        let mut waiting = full(&rig);
        if prefetch == 1 {
            while waiting.len() < 4 {
                let ticket = rig.pool.submit(columns(&*rig.device, &[1.0]));
                waiting.push(ticket.unwrap());
            }
        }
        assert!(rig.pool.try_submit(columns(&*rig.device, &[9.0])).is_err());
        drop(waiting.pop());
        let last = rig.pool.try_submit(columns(&*rig.device, &[2.0])).expect("room for one");
        assert!(rig.pool.try_submit(columns(&*rig.device, &[9.0])).is_err());
        let batches = rig.finish(held).concat();
        assert_eq!(batches, [&vec![1.0; 2 + prefetch][..], &[2.0]].concat());
        answer(last).unwrap();
        all_succeed(waiting);
    }
}

/// A caller who waits for room gets the place of a task that is cancelled.
pub fn a_cancelled_task_lets_the_next_caller_in<S: Subject>() {
    let rig = rig(S::device(), 0, PoolOptions::default().capacity(1));
    let held = rig.hold();
    let waiting = rig.submit(&[1.0]);
    let pool = rig.pool.clone();
    let mut next = pin!(pool.submit_async(columns(&*rig.device, &[2.0])));
    assert!(poll_once(&mut next).is_pending());
    drop(waiting);
    let ticket = block_on(next).expect("there is room although the device is held");
    assert_eq!(rig.finish(held), [[2.0]]);
    answer(ticket).unwrap();
}

/// A task that was cut already runs, and its outputs reach nobody.
pub fn a_task_that_was_cut_runs<S: Subject>() {
    let (tell, cut) = channel();
    let device: On<S> = Hooked::new(S::device()).hook(move |operation| {
        if operation == Operation::Gather && std::thread::current().name() == Some("skep-loader") {
            tell.send(()).ok();
        }
        Ok(())
    });
    let rig = rig(device, 1, PoolOptions::default());
    let held = rig.hold();
    let ticket = rig.submit(&[1.0]);
    receive(&cut);
    drop(ticket);
    let pool = rig.pool.clone();
    assert_eq!(pool.counts().cancelled, 0);
    assert_eq!(rig.finish(held), [[1.0]]);
}

/// All parts of a split task go, and only those.
pub fn a_split_task_is_cancelled_whole<S: Subject>() {
    let options = PoolOptions::default().max_rows(2).split_large_tasks(true);
    let rig = rig(S::device(), 0, options);
    let held = rig.hold();
    let before = rig.submit(&[1.0]);
    drop(rig.submit(&[2.0, 3.0, 4.0, 5.0, 6.0]));
    let after = rig.submit(&[7.0]);
    let pool = rig.pool.clone();
    let counts = pool.counts();
    assert_eq!((counts.cancelled, counts.waiting, counts.waiting_rows), (1, 2, 2));
    assert_eq!(rig.finish(held), [[1.0, 7.0]]);
    answer(before).unwrap();
    answer(after).unwrap();
    assert_eq!(Arc::strong_count(&pool.as_pool()), 2, "nothing but this handle keeps the pool");
}
