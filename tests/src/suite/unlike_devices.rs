//! Devices of different speeds feed from one pool.

use super::many_devices::builder_of;
use crate::Subject;
use crate::kit::{LIMIT, all_succeed, answer, columns, receive, rows_block};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served};
use skep_runtime_core::Shutdown;
use skep_runtime_core::testing::ManualClock;
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// A slow device takes what a fast one would not have done sooner, and nothing else: not what that one takes next, and not
/// for long if that one does not come.
pub fn a_slow_device_leaves_to_a_fast_one_what_that_does_sooner<S: Subject>() {
    const FAST: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_millis(100);
    let (clock, stats) = (ManualClock::new(), [(); 2].map(|()| Stats::new()));
    let (enter, entered) = channel();
    let block = |device: &Arc<S::Device>, name: &'static str, time: Duration| {
        let (clock, enter, (open, opened)) = (Arc::clone(&clock), enter.clone(), channel::<()>());
        let block = rows_block(device, name, move |rows| {
            enter.send((name, rows.clone())).ok();
            opened.recv().ok();
            clock.advance(time);
            Ok(rows)
        });
        (block, open)
    };
    let options = || ServeOptions::forward(PoolOptions::default().max_rows(1));
    let mut fast = builder_of(S::device(), &clock, 0, &stats[0]);
    let device = Arc::clone(fast.device());
    let (copy, open_fast) = block(&device, "fast", FAST);
    let served = fast.serve(copy, options()).unwrap();
    let (copy, open_other) = block(&device, "other", FAST);
    let other = fast.serve(copy, options()).unwrap();
    let fast = fast.start().unwrap();
    let submit = |served: &Served<S::Device>, value: f32| {
        served.forward.try_submit(columns(&*device, &[value])).unwrap()
    };
    let run_by = |name, open: &Sender<()>| {
        assert_eq!(receive(&entered).0, name);
        open.send(()).unwrap();
    };
    for _ in 0..4 {
        let ticket = submit(&served, 1.0);
        run_by("fast", &open_fast);
        answer(ticket).unwrap();
    }
    // The other one is learned while the first is busy with something else.
    let mut slow = builder_of(S::device(), &clock, 0, &stats[1]);
    let (copy, open_slow) = block(&device, "slow", SLOW);
    slow.join(copy, &served).unwrap();
    let slow = slow.start().unwrap();
    let held = submit(&other, 0.0);
    assert_eq!(receive(&entered).0, "other");
    for _ in 0..3 {
        let ticket = submit(&served, 1.0);
        run_by("slow", &open_slow);
        answer(ticket).unwrap();
    }
    // The fast one does not come, and is waited for only so long.
    let ticket = submit(&served, 1.0);
    assert!(slow.handle().settled(LIMIT));
    assert!(entered.try_recv().is_err(), "the fast one would have it done before");
    clock.advance(SLOW.saturating_sub(FAST) / 10);
    run_by("slow", &open_slow);
    answer(ticket).unwrap();
    open_other.send(()).unwrap();
    answer(held).unwrap();

    // Both are free.
    for _ in 0..20 {
        let ticket = submit(&served, 1.0);
        run_by("fast", &open_fast);
        answer(ticket).unwrap();
    }
    // It is busy, and will have run this one sooner all the same.
    let held = submit(&served, 1.0);
    // No two tasks are equally old.
    clock.advance(Duration::from_nanos(1));
    let next = submit(&served, 2.0);
    assert_eq!(receive(&entered), ("fast", vec![1.0]));
    assert!(slow.handle().settled(LIMIT));
    assert!(entered.try_recv().is_err(), "the fast one would have it done before");
    for ticket in [held, next] {
        open_fast.send(()).unwrap();
        answer(ticket).unwrap();
    }
    assert_eq!(receive(&entered), ("fast", vec![2.0]));
    // There is more than it can do in that time.
    let tickets: Vec<_> = (0..30).map(|_| submit(&served, 3.0)).collect();
    let mut both = [receive(&entered).0, receive(&entered).0];
    both.sort_unstable();
    assert_eq!(both, ["fast", "slow"]);
    drop((open_fast, open_slow));
    all_succeed(tickets);
    for runtime in [fast, slow] {
        runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
    }
}
