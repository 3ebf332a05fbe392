//! Panics outside of blocks: in a pool of somebody else, at submit, in the device thread itself.

use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, Method, Moody, On, Operation, answer, columns, drain, gated, new_builder, pool_of,
    quiet_panics, receive, rows_block, schema, spawn, values_of,
};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::{Chain, Pass, Request, Shutdown, SubmitError, TaskError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A pool that panics, in whatever method: its tasks are answered, it takes no more, and the others go on.
pub fn a_pool_that_panics_is_closed<S: Subject>() {
    quiet_panics();
    for method in [Method::Attach, Method::Look, Method::Cut, Method::AfterCut, Method::Expire] {
        for prefetch in [0, 1] {
            let (mut builder, clock) = new_builder(S::device(), prefetch);
            let device = Arc::clone(builder.device());
            let good = pool_of(&mut builder, rows_block(&device, "good", Ok), PoolOptions::default());
            let (block, gate) = gated(&device, "gated");
            let held = pool_of(&mut builder, block, PoolOptions::default());
            let id = builder.block(rows_block(&device, "moody", Ok)).unwrap();
            let options = PoolOptions::default().capacity(2).max_rows(1);
            let pool = TaskPool::new(
                "moody".to_owned(),
                Pass::Forward,
                Arc::clone(&device),
                schema("x"),
                options,
                Arc::clone(&clock) as Arc<_>,
            );
            let pool = pool.unwrap();
            let (moody, armed) = Moody::armable(&pool, method);
            builder.pool(id, Pass::Forward, moody).unwrap();
            let early = (method == Method::Attach).then(|| pool.submit(columns(&*device, &[1.0])).unwrap());
            armed.store(method == Method::Attach, Ordering::SeqCst);
            let runtime = builder.start().unwrap();

            // The device is busy, so that the tasks wait when the pool panics.
            let busy = held.submit(columns(&*device, &[1.0])).unwrap();
            gate.entered();
            armed.store(true, Ordering::SeqCst);
            let request = || Request::new(columns(&*device, &[1.0])).deadline(LIMIT);
            let tickets: Vec<_> = (0..2).filter_map(|_| pool.try_submit(request()).ok()).collect();
            if method == Method::Expire {
                clock.advance(LIMIT);
            }
            gate.open();
            answer(busy).unwrap();
            for ticket in tickets.into_iter().chain(early) {
                // A task that had been cut before the panic runs.
                let result = answer(ticket).map(|_| ());
                let told = matches!(result, Ok(()) | Err(TaskError::ShutDown | TaskError::Expired { .. }));
                assert!(told, "{method:?}: {result:?}");
            }
            // Until the timer has closed it, what gets in is answered.
            let refused = loop {
                match pool.submit(columns(&*device, &[1.0])) {
                    Ok(ticket) => drop(answer(ticket)),
                    Err(refused) => break refused,
                }
            };
            assert!(matches!(refused.error, SubmitError::ShutDown), "{method:?}: {refused}");
            assert_eq!(values_of(&*device, good.submit(columns(&*device, &[5.0])).unwrap()), [5.0]);
            drain(runtime);
        }
    }
}

/// A pool that panics when it is closed does not keep the runtime from ending, nor the others' tasks from
/// their answers.
pub fn a_pool_that_panics_at_the_end_harms_nobody<S: Subject>() {
    quiet_panics();
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let (mut builder, clock) = new_builder(S::device(), 1);
        let device = Arc::clone(builder.device());
        let id = builder.block(rows_block(&device, "moody", Ok)).unwrap();
        let clock = Arc::clone(&clock) as Arc<_>;
        let options = PoolOptions::default();
        let pool = TaskPool::new(
            "moody".to_owned(),
            Pass::Forward,
            Arc::clone(&device),
            schema("x"),
            options,
            clock,
        );
        let (moody, armed) = Moody::armable(&pool.unwrap(), Method::Close);
        builder.pool(id, Pass::Forward, moody).unwrap();
        let (block, gate) = gated(&device, "gated");
        let good = pool_of(&mut builder, block, PoolOptions::default().max_rows(1));
        let runtime = builder.start().unwrap();
        let held = good.submit(columns(&*device, &[1.0])).unwrap();
        gate.entered();
        let waiting = [2.0, 3.0].map(|row| good.submit(columns(&*device, &[row])).unwrap());
        armed.store(true, Ordering::SeqCst);
        let handle = runtime.handle().clone();
        let stopping = spawn(move || handle.shutdown(how, LIMIT));
        drop(gate);
        answer(held).unwrap();
        for ticket in waiting {
            let result = answer(ticket).map(|_| ());
            assert!(matches!(result, Ok(()) | Err(TaskError::ShutDown)), "{result:?}");
        }
        receive(&stopping).unwrap();
    }
}

/// A device that panics while it looks at a caller's tensors: that task is refused, with its inputs.
pub fn a_device_that_panics_at_submit_refuses_that_task<S: Subject>() {
    quiet_panics();
    let armed = Arc::new(AtomicBool::new(false));
    let panics = Arc::clone(&armed);
    let device: On<S> = Hooked::new(S::device()).hook(move |at| {
        assert!(!(at == Operation::Describe && panics.load(Ordering::SeqCst)), "on purpose");
        Ok(())
    });
    let (mut builder, _) = new_builder(device, 1);
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    armed.store(true, Ordering::SeqCst);
    let refused = pool.try_submit(columns(&*device, &[3.0])).unwrap_err();
    assert_eq!(Chain(&refused.error).to_string(), "inputs cannot be read: panic: on purpose");
    armed.store(false, Ordering::SeqCst);
    assert_eq!(values_of(&*device, pool.submit(refused.into_request()).unwrap()), [6.0]);
    drain(runtime);
}

/// A device thread that panics where nothing can be caught for one batch alone: every task is answered, and
/// the runtime ends.
pub fn a_device_thread_that_panics_answers_everybody<S: Subject>() {
    quiet_panics();
    for prefetch in [0, 1] {
        let device: On<S> = Hooked::new(S::device()).hook(move |at| {
            assert!(at != Operation::IsHost, "on purpose");
            Ok(())
        });
        let (mut builder, _) = new_builder(device, prefetch);
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let options = PoolOptions::default().max_rows(1);
        let pool = pool_of(&mut builder, block, options);
        let runtime = builder.start().unwrap();
        let held = pool.submit(columns(&*device, &[1.0])).unwrap();
        gate.entered();
        let waiting = [2.0, 3.0].map(|row| pool.submit(columns(&*device, &[row])).unwrap());
        gate.open();
        for ticket in [held].into_iter().chain(waiting) {
            let result = answer(ticket).map(|_| ());
            assert!(matches!(result, Err(TaskError::ShutDown)), "{result:?}");
        }
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
    }
}
