//! A task of more rows than a batch holds is one task, in however many batches it runs.

use super::accounts::assert_reconciled;
use crate::Subject;
use crate::kit::{
    Hooked, Log, On, Operation, all_succeed, answer, columns, drain, gated, new_builder, pool_of, receive,
    rig, rows_block, schema, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{BatchError, DeviceError, Request, SubmitError, TaskError, TensorOps};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

fn parts_of(max_rows: usize) -> PoolOptions {
    PoolOptions::default().max_rows(max_rows).split_large_tasks(true)
}

/// A pool that opts in runs a large task in several batches and joins the outputs in order.
pub fn large_tasks_are_split_and_joined<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, parts_of(4));
        let device = Arc::clone(&rig.device);
        let held = rig.hold();
        let rows: Vec<f32> = (0u8..10).map(f32::from).collect();
        let large = rig.submit(&rows);
        let batches = rig.finish(held);
        assert_eq!(batches, [&rows[..4], &rows[4..8], &rows[8..]]);
        let doubled: Vec<f32> = rows.iter().map(|v| 2.0 * v).collect();
        assert_eq!(values_of(&*device, large), doubled);
    }
}

/// Others of the same priority run between the parts, more urgent ones before the next, and less urgent ones after all.
pub fn parts_let_others_in_between<S: Subject>() {
    let rig = rig(S::device(), 0, parts_of(4));
    let device = Arc::clone(&rig.device);
    let held = rig.hold();
    let large = rig.submit(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let others = [(10.0, 0), (20.0, 5), (30.0, -5)].map(|(value, priority)| {
        let request =
            Request::new(columns(&*device, &[value])).priority(skep_runtime_core::Priority(priority));
        rig.pool.try_submit(request).unwrap()
    });
    let batches = rig.finish(held);
    assert_eq!(
        batches,
        [vec![30.0, 0.0, 1.0, 2.0], vec![10.0, 3.0, 4.0, 5.0], vec![6.0, 7.0, 8.0, 9.0], vec![20.0]]
    );
    assert_eq!(values_of(&*device, large), (0u8..10).map(|v| 2.0 * f32::from(v)).collect::<Vec<_>>());
    all_succeed(others);
}

/// A split task waits until its first part is cut; when a part fails it has failed, and leaves the queue.
pub fn a_split_task_has_one_place_and_one_end<S: Subject>() {
    let stats = Stats::new();
    let (builder, _clock) = new_builder(S::device(), 0);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let (enter, entered) = channel();
    let (open, opened) = channel::<()>();
    let block = rows_block(&device, "moody", move |rows| {
        enter.send(rows.clone()).ok();
        opened.recv().ok();
        if rows[0] < 0.0 { Err("no mood".into()) } else { Ok(rows) }
    });
    let pool = pool_of(&mut builder, block, parts_of(1).capacity(2).capacity_rows(Some(8)));
    let runtime = builder.start().unwrap();
    let split = pool.submit(columns(&*device, &[-1.0, 2.0, 3.0])).unwrap();
    assert_eq!(receive(&entered), [-1.0]);
    let other = pool.submit(columns(&*device, &[4.0])).unwrap();
    let counts = pool.counts();
    assert_eq!((counts.waiting, counts.waiting_rows), (1, 3), "it runs, and its rest has rows");
    assert!(pool.try_submit(columns(&*device, &[5.0])).is_err(), "its rest has its place");
    open.send(()).unwrap();
    assert!(matches!(answer(split), Err(TaskError::Failed(_))));
    let now = stats.snapshot().total;
    assert_eq!((now.failed, now.waiting + now.in_flight), (1, 1), "{}", now.accounts());
    let more = pool.try_submit(columns(&*device, &[6.0])).expect("its place is free at once");
    drop(open);
    answer(other).unwrap();
    answer(more).unwrap();
    // The second part may have been cut before the first one had failed.
    assert!(entered.try_iter().all(|rows| rows != [3.0]));
    drain(runtime);
    let total = stats.snapshot().total;
    assert_eq!((total.submitted, total.succeeded, total.failed, total.refused), (4, 2, 1, 1));
    assert_eq!(
        (total.queue_wait.count, total.end_to_end.count),
        (3, 2),
        "the failed task never came to its end"
    );
    assert_reconciled(&total);
}

/// After its first part has begun it runs to its end, whatever its deadline.
pub fn a_split_task_that_has_begun_does_not_expire<S: Subject>() {
    for prefetch in [0, 1] {
        let rig = rig(S::device(), prefetch, parts_of(1));
        let late = Duration::from_millis(10);
        let request = Request::new(columns(&*rig.device, &[1.0, 2.0, 3.0])).deadline(late);
        let ticket = rig.pool.try_submit(request).unwrap();
        assert_eq!(rig.gate.entered(), [1.0]);
        rig.clock.advance(2 * late);
        let device = Arc::clone(&rig.device);
        let ran = rig.gate.open_for_good();
        assert_eq!(values_of(&*device, ticket), [2.0, 4.0, 6.0]);
        drain(rig.runtime);
        assert_eq!(ran.try_iter().collect::<Vec<_>>(), [[2.0], [3.0]]);
    }
}

/// Whoever drops the ticket while a part runs has the others back.
pub fn a_split_task_is_cancelled_between_its_parts<S: Subject>() {
    let rig = rig(S::device(), 0, parts_of(1));
    let split = rig.submit(&[1.0, 2.0, 3.0]);
    assert_eq!(rig.gate.entered(), [1.0]);
    drop(split);
    let counts = rig.pool.counts();
    assert_eq!((counts.cancelled, counts.waiting, counts.waiting_rows), (1, 0, 0));
    let other = rig.submit(&[4.0]);
    let ran = rig.gate.open_for_good();
    answer(other).unwrap();
    drain(rig.runtime);
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [[4.0]]);
}

/// A device that cannot cut a part fails that task, and the others of the batch run.
pub fn a_part_that_cannot_be_cut_fails_its_task_only<S: Subject>() {
    for panics in [false, true] {
        let stats = Stats::new();
        let cuts = Arc::new(AtomicBool::new(true));
        let may = Arc::clone(&cuts);
        let device: On<S> = Hooked::new(S::device()).hook(move |operation| match operation {
            Operation::Slice if !may.load(Ordering::SeqCst) => {
                assert!(!panics, "on purpose: slice");
                Err(DeviceError::operation("no knife"))
            }
            _ => Ok(()),
        });
        let (builder, _) = new_builder(device, 0);
        let mut builder = builder.observer(stats.observer());
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let pool = pool_of(&mut builder, block, parts_of(4));
        let runtime = builder.start().unwrap();
        let submit = |rows: &[f32]| pool.try_submit(columns(&*device, rows)).unwrap();
        let held = submit(&[0.0]);
        gate.entered();
        cuts.store(false, Ordering::SeqCst);
        let (before, split, after) = (submit(&[1.0]), submit(&[2.0; 9]), submit(&[3.0]));
        gate.open();
        answer(held).unwrap();
        assert_eq!(gate.entered(), [1.0]);
        match answer(split).map(|_| ()) {
            Err(TaskError::Failed(error)) => assert!(
                matches!(&*error, BatchError::Device { operation: "slice", .. } | BatchError::Panic { .. }),
                "{error}"
            ),
            other => panic!("expected a failed task, got {other:?}"),
        }
        drop(gate);
        all_succeed([before, after]);
        drain(runtime);
        let total = stats.snapshot().total;
        assert_eq!((total.succeeded, total.failed, total.rows), (3, 1, 3), "{}", total.accounts());
        assert_reconciled(&total);
    }
}

/// Parts are no larger than what the device has room for.
pub fn parts_fit_the_ceiling<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let (ran, name) = (Log::new(), skep_runtime_core::Device::name(&*device));
    let log = ran.clone();
    let block = rows_block(&device, "small", move |rows| {
        log.push(rows.len());
        if rows.len() > 6 {
            let (device, message) = (name.clone(), "no room".to_owned());
            return Err(DeviceError::OutOfMemory { device, message }.into());
        }
        Ok(rows)
    });
    let pool = pool_of(&mut builder, block, parts_of(16));
    let runtime = builder.start().unwrap();
    // The ceiling is found by tasks that can be told apart.
    let small: Vec<_> = (0..400).map(|i| pool.try_submit(columns(&*device, &[i as f32])).unwrap()).collect();
    all_succeed(small);
    ran.take();
    let rows: Vec<f32> = (0u8..64).map(f32::from).collect();
    assert_eq!(values_of(&*device, pool.submit(columns(&*device, &rows)).unwrap()), rows);
    assert!(ran.take().iter().all(|rows| *rows <= 6));
    drain(runtime);
}

/// Several steps of an optimizer are not one: a backward task is refused, unless the pool says that it is wanted.
pub fn a_backward_task_is_split_only_if_that_is_wanted<S: Subject>() {
    for wanted in [false, true] {
        let (mut builder, _) = new_builder(S::device(), 0);
        let device = Arc::clone(builder.device());
        let ran = Log::new();
        let (log, on) = (ran.clone(), Arc::clone(&device));
        let forward =
            |inputs: &[<S::Device as TensorOps>::Tensor]| Err(format!("{} inputs", inputs.len()).into());
        let block = FnBlock::new("block", schema("x"), Some(schema("y")), forward).with_backward(
            move |inputs: &[<S::Device as TensorOps>::Tensor], _: &[<S::Device as TensorOps>::Tensor]| {
                let rows = on.describe(&inputs[0])?.rows().unwrap_or(0);
                log.push(rows);
                Ok(columns(&*on, &vec![0.5; rows]))
            },
        );
        let options = parts_of(4).split_backward(wanted);
        let pool = builder.serve(block, ServeOptions::both(options)).unwrap().backward.unwrap();
        let runtime = builder.start().unwrap();
        let task = || {
            [columns(&*device, &[0.0; 10]), columns(&*device, &[0.0; 10])]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let submitted = pool.submit(task());
        if wanted {
            assert_eq!(values_of(&*device, submitted.unwrap()), [0.5; 10]);
            assert_eq!(ran.take(), [4, 4, 2]);
        } else {
            let refused = submitted.unwrap_err();
            assert!(matches!(refused.error, SubmitError::TooManyRows { rows: 10, max: 4 }), "{refused}");
        }
        drain(runtime);
    }
}
