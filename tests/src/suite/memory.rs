//! A batch for which the device has no room is halved, and the pool's next batches are no larger than fits.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, Log, On, Operation, answer, columns, drain, gated, new_builder, pool_of, receive,
    rows_block, schema, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{BoxError, Device, DeviceError, Request, TaskError, TensorOps};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

fn no_room(device: &str) -> DeviceError {
    DeviceError::OutOfMemory { device: device.to_owned(), message: "no room".to_owned() }
}

/// A block with room for `room` rows, that writes down the rows of each run.
fn small<D: Device>(device: &Arc<D>, room: usize, ran: &Log<usize>) -> FnBlock<D> {
    let (ran, name) = (Log::clone(ran), device.name());
    rows_block(device, "small", move |rows| {
        ran.push(rows.len());
        if rows.len() > room {
            return Err(no_room(&name).into());
        }
        Ok(rows.iter().map(|v| 2.0 * v).collect())
    })
}

/// Batches of `rows` rows as soon as there are as many.
fn batches_of(rows: usize) -> PoolOptions {
    let max_delay = (rows > 1).then_some(LIMIT);
    PoolOptions::default().max_rows(64).min_rows(rows).max_delay(max_delay)
}

/// A block with room for 24 rows, before a pool that makes batches of up to 64: all of 10,000 tasks succeed,
/// and three batches fail before the next thousands fit.
pub fn all_succeed_in_batches_that_fit<S: Subject>() {
    for prefetch in [0, 1] {
        let stats = Stats::new();
        let (builder, _) = new_builder(S::device(), prefetch);
        let mut builder = builder.observer(stats.observer());
        let device = Arc::clone(builder.device());
        let ran = Log::new();
        let block = small(&device, 24, &ran);
        let options = PoolOptions::default().capacity(10_000);
        let pool = pool_of(&mut builder, block, options);
        // Submitted before the start, so that the queue is never short of a full batch.
        let row = |i: usize| (i % 1000) as f32;
        let tickets: Vec<_> =
            (0..10_000).map(|i| pool.try_submit(columns(&*device, &[row(i)])).unwrap()).collect();
        let runtime = builder.start().unwrap();
        for (i, ticket) in tickets.into_iter().enumerate() {
            assert_eq!(values_of(&*device, ticket), [2.0 * row(i)]);
        }
        drain(runtime);
        let failed: Vec<_> = ran.take().into_iter().filter(|rows| *rows > 24).collect();
        assert_eq!(failed[..3], [64, 32, 28]);
        assert!(failed.len() <= 5, "{failed:?}");
        let total = stats.snapshot().total;
        assert!(total.batches <= 10_000 / 24 + 25, "{} batches", total.batches);
        assert_reconciled(&total);
    }
}

/// Tasks of four rows where there is room for six: no ceiling is ever filled exactly, and all succeed.
pub fn tasks_of_several_rows_find_their_ceiling<S: Subject>() {
    const TASKS: u16 = 400;
    for prefetch in [0, 1] {
        let (mut builder, _) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let ran = Log::new();
        let options = PoolOptions::default().max_rows(16).capacity(TASKS.into());
        let pool = pool_of(&mut builder, small(&device, 6, &ran), options);
        let rows = |i: u16| [0.0, 0.25, 0.5, 0.75].map(|part| f32::from(i) + part);
        let tickets: Vec<_> =
            (0..TASKS).map(|i| pool.try_submit(columns(&*device, &rows(i))).unwrap()).collect();
        let runtime = builder.start().unwrap();
        for (i, ticket) in (0..TASKS).zip(tickets) {
            assert_eq!(values_of(&*device, ticket), rows(i).map(|v| 2.0 * v));
        }
        drain(runtime);
        let ran = ran.take();
        let failed: Vec<_> = ran.iter().filter(|rows| **rows > 6).collect();
        assert_eq!(failed[..2], [&16, &8]);
        // More is tried after a few hundred full batches, once here.
        assert!(failed.len() <= 3, "{failed:?}");
        assert_eq!(ran.len() - failed.len(), usize::from(TASKS), "each task fits once, alone");
    }
}

/// A batch that was gathered ahead before its size was known to be too large goes in halves from the start.
pub fn what_was_gathered_too_large_is_not_run<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 2);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let pool = pool_of(&mut builder, small(&device, 32, &ran), batches_of(1));
    let tickets: Vec<_> =
        (0..256u16).map(|i| pool.try_submit(columns(&*device, &[f32::from(i)])).unwrap()).collect();
    let runtime = builder.start().unwrap();
    for (i, ticket) in (0..256u16).zip(tickets) {
        assert_eq!(values_of(&*device, ticket), [2.0 * f32::from(i)]);
    }
    drain(runtime);
    assert_eq!(ran.take().into_iter().filter(|rows| *rows >= 64).count(), 1);
}

/// The device may be out of room as soon as the inputs come, for both passes: the block was not called yet.
pub fn a_gather_that_does_not_fit_is_halved<S: Subject>() {
    for prefetch in [0, 1] {
        let full = AtomicUsize::new(2);
        let name = S::device().name();
        let device: On<S> = Hooked::new(S::device()).hook(move |at| {
            let next = |left: usize| left.checked_sub(1);
            let fails = at == Operation::Gather
                && full.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok();
            if fails { Err(no_room(&name)) } else { Ok(()) }
        });
        let (mut builder, _) = new_builder(device, prefetch);
        let device = Arc::clone(builder.device());
        let on = Arc::clone(&device);
        let block =
            FnBlock::new("learner", schema("x"), Some(schema("y")), |_: &[_]| Err("not asked".into()))
                .with_backward(move |inputs: &[_], _: &[_]| {
                    Ok(vec![on.gather(&[on.from_host(&on.to_host(&inputs[0])?)?])?])
                });
        let options = ServeOptions::default().backward(batches_of(8));
        let pool = builder.serve(block, options).unwrap().backward.unwrap();
        let runtime = builder.start().unwrap();
        let inputs = |row| vec![columns(&*device, &[row]).remove(0), columns(&*device, &[1.0]).remove(0)];
        let tickets: Vec<_> = (0..8u8).map(|i| pool.submit(inputs(f32::from(i))).unwrap()).collect();
        for (i, ticket) in (0..8u8).zip(tickets) {
            assert_eq!(values_of(&*device, ticket), [f32::from(i)]);
        }
        drain(runtime);
    }
}

/// Halves of a batch that was never run have not started: their deadlines hold while the device is busy.
pub fn halves_that_never_ran_expire<S: Subject>() {
    const SHORT: Duration = Duration::from_millis(50);
    let gathers = AtomicUsize::new(0);
    let name = S::device().name();
    let (tell, told) = channel();
    let tell = skep_runtime_core::sync::Mutex::new(tell);
    let device: On<S> = Hooked::new(S::device()).hook(move |at| {
        if at != Operation::Gather {
            return Ok(());
        }
        // The second one, while the first batch is at the gate.
        match gathers.fetch_add(1, Ordering::SeqCst) {
            1 => Err(no_room(&name)),
            gather => {
                tell.lock().send(gather).ok();
                Ok(())
            }
        }
    });
    let (mut builder, clock) = new_builder(device, 1);
    let device = Arc::clone(builder.device());
    let (block, first_gate) = gated(&device, "first");
    let first_pool = pool_of(&mut builder, block, PoolOptions::default());
    let (block, gate) = gated(&device, "gated");
    // Both are in one batch, whenever the loader looks.
    let pool = pool_of(&mut builder, block, batches_of(2));
    let runtime = builder.start().unwrap();
    let held = first_pool.submit(columns(&*device, &[0.0])).unwrap();
    first_gate.entered();
    let request = |row: f32| Request::new(columns(&*device, &[row])).deadline(SHORT);
    let tickets: Vec<_> = [1.0, 2.0].map(|row| pool.try_submit(request(row)).unwrap()).into();
    // The loader has failed with both, and gathered the first half.
    assert_eq!((receive(&told), receive(&told)), (0, 2));
    clock.advance(SHORT);
    for ticket in tickets {
        assert!(matches!(answer(ticket).map(drop), Err(TaskError::Expired { .. })));
    }
    first_gate.open();
    answer(held).unwrap();
    drain(runtime);
    assert!(gate.is_gone() || gate.is_quiet(), "neither of them ran");
}

/// A part of a split task for which there is no room is cut in smaller ones, and those after it fit from the start; what
/// was gathered ahead and is too large by then is not run.
pub fn a_part_that_does_not_fit_is_cut_again<S: Subject>() {
    for prefetch in [0, 1] {
        let stats = Stats::new();
        let (builder, _) = new_builder(S::device(), prefetch);
        let mut builder = builder.observer(stats.observer());
        let device = Arc::clone(builder.device());
        let ran = Log::new();
        let options = PoolOptions::default().max_rows(64).split_large_tasks(true);
        let pool = pool_of(&mut builder, small(&device, 24, &ran), options);
        let rows: Vec<f32> = (0..200u8).map(f32::from).collect();
        let ticket = pool.try_submit(columns(&*device, &rows)).unwrap();
        let runtime = builder.start().unwrap();
        assert_eq!(values_of(&*device, ticket), rows.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
        drain(runtime);
        let failed: Vec<_> = ran.take().into_iter().filter(|rows| *rows > 24).collect();
        assert_eq!(failed[..2], [64, 32]);
        assert!(failed.len() <= 4, "{failed:?}");
        let total = stats.snapshot().total;
        assert_eq!((total.succeeded, total.failed), (1, 0));
        assert_eq!((total.queue_wait.count, total.end_to_end.count), (1, 1), "it is one task");
        assert_reconciled(&total);
    }
}

/// Where not even one row of a part fits, its task fails, and nothing is left of it.
pub fn a_row_that_does_not_fit_fails_its_task<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let options = PoolOptions::default().max_rows(4).split_large_tasks(true);
    let pool = pool_of(&mut builder, small(&device, 0, &ran), options);
    let ticket = pool.try_submit(columns(&*device, &[0.0; 12])).unwrap();
    let runtime = builder.start().unwrap();
    let error = answer(ticket).map(drop).unwrap_err();
    assert!(error.batch_error().is_some_and(|error| error.is_out_of_memory(&device.name())), "{error}");
    assert_eq!(pool.counts().waiting_rows, 0);
    drain(runtime);
    // Some others may have run before its caller was told.
    assert_eq!(ran.take()[..3], [4, 2, 1]);
}

/// A single task that does not fit gets its error, which says so, and lowers nobody's ceiling.
pub fn a_task_that_does_not_fit_gets_its_error<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let pool = pool_of(&mut builder, small(&device, 24, &ran), batches_of(24));
    let runtime = builder.start().unwrap();
    let large = pool.submit(columns(&*device, &[0.0; 25])).unwrap();
    let error = answer(large).map(drop).unwrap_err();
    assert!(error.batch_error().is_some_and(|error| error.is_out_of_memory(&device.name())), "{error}");
    let others: Vec<_> = (0..24).map(|_| pool.submit(columns(&*device, &[1.0])).unwrap()).collect();
    for other in others {
        assert_eq!(values_of(&*device, other), [2.0]);
    }
    drain(runtime);
    assert_eq!(ran.take(), [25, 24], "the others' batches are no smaller for it");
}

/// A training step that was begun is not begun again, but the next ones are smaller.
pub fn a_backward_pass_that_does_not_fit_fails_once<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let seen = Log::clone(&ran);
    let (on, name) = (Arc::clone(&device), device.name());
    let step = move |inputs: &[_], _: &[_]| -> Result<Vec<_>, BoxError> {
        let rows = on.to_host(&inputs[0])?;
        seen.push(rows.dims()[0]);
        if rows.dims()[0] > 4 {
            return Err(no_room(&name).into());
        }
        Ok(vec![on.gather(&[on.from_host(&rows)?])?])
    };
    let block = FnBlock::new("learner", schema("x"), Some(schema("y")), |_: &[_]| Err("not asked".into()))
        .with_backward(step);
    let backward = PoolOptions::default().max_rows(8);
    let pool = builder.serve(block, ServeOptions::default().backward(backward));
    let pool = pool.unwrap().backward.unwrap();
    let inputs = || vec![columns(&*device, &[1.0]).remove(0), columns(&*device, &[1.0]).remove(0)];
    let tickets: Vec<_> = (0..16).map(|_| pool.try_submit(inputs()).unwrap()).collect();
    let runtime = builder.start().unwrap();
    let succeeded: Vec<_> = tickets.into_iter().map(|ticket| answer(ticket).is_ok()).collect();
    assert_eq!(succeeded, [[false; 8], [true; 8]].concat());
    drain(runtime);
    assert_eq!(ran.take(), [8, 4, 4]);
}

/// A pool that waits for more rows than the device turns out to have room for does not go on waiting.
pub fn nobody_waits_for_more_rows_than_there_is_room_for<S: Subject>() {
    for prefetch in [0, 1] {
        let (mut builder, _) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let ran = Log::new();
        let pool = pool_of(&mut builder, small(&device, 24, &ran), batches_of(64));
        let runtime = builder.start().unwrap();
        let submit = |i: usize| pool.try_submit(columns(&*device, &[i as f32])).unwrap();
        // The clock stands still, so nothing but company ends the wait.
        let first: Vec<_> = (0..64).map(submit).collect();
        for ticket in first {
            answer(ticket).unwrap();
        }
        let later: Vec<_> = (0..24).map(submit).collect();
        for ticket in later {
            answer(ticket).unwrap();
        }
        drain(runtime);
    }
}
