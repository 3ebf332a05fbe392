//! Warm-ups: batches that run before a block takes tasks.

use super::come_and_go::submit;
use crate::Subject;
use crate::kit::{answer, drain, new_builder, rows_block};
use skep_pool::{Serve, ServeMore, ServeOptions};
use skep_runtime_core::{Chain, StartError, TaskError};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Batches of a warm-up run on the device thread, before the runtime is ready or the block takes a task.
pub fn a_warm_up_comes_before_the_first_task<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (tell, ran) = channel();
    let noting = |name: &str| {
        let tell = tell.clone();
        rows_block(&device, name, move |rows| {
            let thread = thread::current().name().map(ToOwned::to_owned);
            tell.send((thread, rows.clone())).ok();
            Ok(rows)
        })
    };
    let on_device = |rows: &[f32]| (Some("skep-device".to_owned()), rows.to_vec());
    let options = || ServeOptions::default().warm_up([1, 3]);
    let early = builder.serve(noting("early"), options()).unwrap();
    // It takes tasks before the start, and runs them after that.
    let waiting = submit(&*device, &early.forward, 5.0);
    assert!(ran.try_recv().is_err());
    let runtime = builder.start().unwrap();
    answer(waiting).unwrap();
    let late = runtime.handle().serve(noting("late"), options()).unwrap();
    answer(submit(&*device, &late.forward, 6.0)).unwrap();
    let ran: Vec<_> = ran.try_iter().collect();
    assert_eq!(ran, [&[0.0][..], &[0.0; 3], &[5.0], &[0.0], &[0.0; 3], &[6.0]].map(on_device));
    drain(runtime);
}

/// A block that cannot run its warm-up is not served, and a runtime does not start with it.
pub fn a_warm_up_that_fails_is_told<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let fails = |name: &str| {
        rows_block(&device, name, |rows| if rows.len() > 2 { Err("too cold".into()) } else { Ok(rows) })
    };
    let options = || ServeOptions::default().warm_up([1, 3]);
    let error = builder.serve(fails("none"), ServeOptions::default().warm_up([1, 0])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "block `none`: warm_up is a batch of 0 rows, expected batches of at least 1 row"
    );
    let early = builder.serve(fails("early"), options()).unwrap();
    let waiting = submit(&*device, &early.forward, 5.0);
    let message = |error: &StartError| Chain(error).to_string();
    let expected = |name| format!("warm-up of block `{name}` with a batch of 3 rows failed: too cold");
    assert_eq!(message(&builder.start().map(drop).unwrap_err()), expected("early"));
    assert!(matches!(answer(waiting), Err(TaskError::ShutDown)));

    let (builder, _) = new_builder(S::device(), 1);
    let runtime = builder.start().unwrap();
    let late = runtime.handle().serve(fails("late"), options()).map(drop);
    assert_eq!(message(&late.unwrap_err()), expected("late"));
    assert!(runtime.handle().blocks().is_empty());
    runtime.handle().serve(fails("late"), ServeOptions::default()).unwrap();
    drain(runtime);
}

/// The times of its batches are known before the first task, but for those of the first one, which finds nothing warm.
pub fn a_warm_up_teaches_what_batches_take<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.hand_over(Duration::from_micros(50));
    let device = Arc::clone(builder.device());
    let slow = |name: &str| {
        let (clock, mut cold) = (Arc::clone(&clock), 100);
        rows_block(&device, name, move |rows| {
            clock.advance(MS * (u32::try_from(rows.len()).unwrap() + std::mem::take(&mut cold)));
            Ok(rows)
        })
    };
    let options = || ServeOptions::default().warm_up([1, 1, 2, 8]);
    let early = builder.serve(slow("early"), options()).unwrap();
    let cold = builder.serve(slow("cold"), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let late = runtime.handle().serve(slow("late"), options()).unwrap();
    for served in [&early, &late] {
        let costs = runtime.handle().costs(served.forward.name());
        assert_eq!(costs.len(), 1, "{}", served.info.name);
        assert_eq!((costs[0].elements, costs[0].price.of(3)), (1, 3 * MS), "{}", served.info.name);
    }
    assert!(runtime.handle().costs(cold.forward.name()).is_empty());
    drain(runtime);
}
