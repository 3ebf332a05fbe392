//! Blocks that take the place of others.

use super::come_and_go::{submit, times};
use crate::Subject;
use crate::kit::{
    Columns, LIMIT, columns, drain, new_builder, pool_of, receive, rig, schema, spawn, values_of,
};
use skep_pool::{PoolOptions, ServeMore, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, Chain, ControlError, Device, Fit, Pass, Shutdown, StartError,
    Unmatched,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Callers of a block that is replaced see no gap, and nothing of the old one once it is replaced.
pub fn a_replacement_leaves_no_gap<S: Subject>() {
    const CALLERS: usize = 16;
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let options = PoolOptions::default().max_rows(2);
    let pool = pool_of(&mut builder, times(&device, "version", 1.0), options);
    let runtime = builder.start().unwrap();
    // The oldest version that a task which is submitted now may be answered by, and the newest.
    let oldest = Arc::new(AtomicU16::new(1));
    let newest = Arc::new(AtomicU16::new(1));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (pool, device, stop) = (pool.clone(), Arc::clone(&device), Arc::clone(&stop));
            let (oldest, newest) = (Arc::clone(&oldest), Arc::clone(&newest));
            spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let from = oldest.load(Ordering::SeqCst);
                    let ticket = pool.submit(columns(&*device, &[10.0, 100.0])).unwrap();
                    let got = values_of(&*device, ticket);
                    let to = newest.load(Ordering::SeqCst);
                    let of = |version: u16| [10.0, 100.0].map(|v| v * f32::from(version));
                    assert!((from..=to).any(|version| got == of(version)), "{got:?} of {from} to {to}");
                }
            })
        })
        .collect();
    for version in 2..20_u16 {
        newest.store(version, Ordering::SeqCst);
        runtime.handle().replace("version", times(&device, "any", f32::from(version))).unwrap();
        oldest.store(version, Ordering::SeqCst);
        assert_eq!(values_of(&*device, submit(&*device, &pool, 1.0)), [f32::from(version)]);
    }
    stop.store(true, Ordering::SeqCst);
    for caller in &callers {
        receive(caller);
    }
    drain(runtime);
}

/// Once `replace` has returned, nobody is answered by the old block: what it ran has been answered before.
pub fn nothing_of_the_old_block_is_answered_later<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default().max_rows(1));
    let held = rig.hold();
    let waiting = [1.0, 2.0].map(|value| rig.submit(&[value]));
    let (handle, device) = (rig.runtime.handle().clone(), Arc::clone(&rig.device));
    let (tell, loaded) = channel();
    let replacing = spawn(move || {
        let block = times(&device, "new", 3.0);
        handle.replace("gated", Loading { block, tell })
    });
    receive(&loaded);
    // The old one has this batch, and perhaps the next, if the replacement has not been asked for yet.
    let old = rig.gate.open_for_good();
    receive(&replacing).unwrap();
    let held = held.wait_timeout(Duration::ZERO).expect("should have been answered before").unwrap();
    assert_eq!(Columns::read(&*rig.device, &held[0]), [-2.0]);
    let ran = old.try_iter().flatten().collect::<Vec<_>>();
    assert!(old.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected), "it has been dropped");
    for (ticket, value) in waiting.into_iter().zip([1.0, 2.0]) {
        let by = if ran.contains(&value) { 2.0 } else { 3.0 };
        assert_eq!(values_of(&*rig.device, ticket), [by * value]);
    }
    assert_eq!(values_of(&*rig.device, submit(&*rig.device, &rig.pool, 5.0)), [15.0]);
    drain(rig.runtime);
}

/// A block that tells that it is being loaded.
struct Loading<D: Device> {
    block: FnBlock<D>,
    tell: Sender<()>,
}

impl<D: Device> Backend<D> for Loading<D> {
    fn info(&self) -> BlockInfo {
        self.block.info()
    }

    fn load(&mut self, device: &D) -> Result<(), BoxError> {
        self.tell.send(()).ok();
        self.block.load(device)
    }

    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        self.block.forward(inputs)
    }

    fn backward(
        &mut self,
        inputs: &[D::Tensor],
        gradients: &[D::Tensor],
    ) -> Result<Vec<D::Tensor>, BoxError> {
        self.block.backward(inputs, gradients)
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        self.block.state()
    }

    fn restore(&mut self, state: &BlockState, fit: Fit) -> Result<Unmatched, BoxError> {
        self.block.restore(state, fit)
    }
}

/// What cannot take a block's place, or a place at all, changes nothing.
pub fn a_block_that_cannot_come_leaves_nothing_behind<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let pool = pool_of(&mut builder, times(&device, "one", 2.0), PoolOptions::default());
    let runtime = builder.build().unwrap();
    let handle = runtime.handle();
    let early = handle.serve(times(&device, "early", 1.0), ServeOptions::default()).map(drop);
    assert!(matches!(early, Err(StartError::NotStarted)), "{early:?}");
    let early = handle.remove("one", Shutdown::Drain, LIMIT);
    assert!(matches!(early, Err(ControlError::NotStarted)), "{early:?}");

    let runtime = runtime.start().unwrap();
    let serve = |block| handle.serve(block, ServeOptions::default()).map(drop);
    let message = |result: Result<(), StartError>| Chain(&result.unwrap_err()).to_string();
    assert_eq!(message(serve(times(&device, "one", 1.0))), "block name `one` is given twice");
    let bad = ServeOptions::forward(PoolOptions::default().capacity(0));
    let bad = handle.serve(times(&device, "two", 1.0), bad).map(drop);
    assert_eq!(message(bad), "pool `two_forward`: capacity is 0, expected at least 1");
    let broken = || FnBlock::new("two", schema("x"), None, |_| Err("broken".into()));
    assert!(message(serve(broken())).ends_with(": broken"));
    serve(times(&device, "two", 1.0)).unwrap();
    // The pool's name is that of another block's pool.
    let taken = handle.load(times(&device, "three", 1.0)).unwrap();
    let pools = vec![(Pass::Forward, pool.as_pool())];
    let taken = handle.add(taken, pools).map(drop);
    assert_eq!(message(taken), "pool name `one_forward` is given twice");
    serve(times(&device, "three", 1.0)).unwrap();

    let replace = |name, block| handle.replace(name, block);
    assert_eq!(message(replace("none", times(&device, "one", 1.0))), "no block is named `none`");
    assert!(message(replace("one", broken())).ends_with(": broken"));
    let other = FnBlock::new("other", schema("z"), Some(schema("y")), |_| Err("never called".into()));
    assert_eq!(
        message(replace("one", other)),
        "block `other` cannot take over the pools of `one`: their inputs differ"
    );
    assert_eq!(values_of(&*device, submit(&*device, &pool, 1.0)), [2.0], "the old one goes on");

    // On a thread of the runtime.
    let (own, on) = (handle.clone(), Arc::clone(&device));
    let results = handle
        .with_block("one", move |_| {
            let served = own.serve(times(&on, "late", 1.0), ServeOptions::default()).map(drop);
            let removed = own.remove("one", Shutdown::Drain, LIMIT);
            (served, own.replace("one", times(&on, "one", 1.0)), removed)
        })
        .unwrap();
    assert!(
        matches!(
            results,
            (
                Err(StartError::WouldDeadlock),
                Err(StartError::WouldDeadlock),
                Err(ControlError::WouldDeadlock)
            )
        ),
        "{results:?}"
    );
    let names: Vec<_> = handle.blocks().into_iter().map(|block| block.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(handle.pools().len(), 3);

    handle.drain(LIMIT).unwrap();
    let late = handle.serve(times(&device, "late", 1.0), ServeOptions::default()).map(drop);
    assert!(matches!(late, Err(StartError::ShutDown)), "{late:?}");
    let handle = handle.clone();
    drain(runtime);
    let late = handle.serve(times(&device, "late", 1.0), ServeOptions::default()).map(drop);
    assert!(matches!(late, Err(StartError::ShutDown)), "{late:?}");
    let late = handle.remove("one", Shutdown::Drain, LIMIT);
    assert!(matches!(late, Err(ControlError::ShutDown)), "{late:?}");
}
