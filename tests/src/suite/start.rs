//! Starting, and being told why not.

use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, On, Operation, answer, block_on, columns, drain, gated, new_builder, poll_pending,
    pool_of, quiet_panics, receive, rows_block, spawn, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::{FnBlock, ManualClock};
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, Chain, ControlError, Device, DeviceError, Fit, Pass, Shutdown,
    StartError, TaskError, Unmatched,
};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Who waits, or awaits, to hear that the runtime is ready hears it, before the start and after.
pub fn ready_is_told<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let runtime = builder.build().unwrap();
    let handle = runtime.handle().clone();
    assert!(!handle.is_running());
    let mut early = [handle.ready(), handle.ready()];
    let told = early.each_mut().map(poll_pending);
    let blocked = handle.ready();
    let blocked = spawn(move || blocked.wait());
    let runtime = runtime.start().unwrap();
    receive(&blocked).unwrap();
    for (ready, told) in early.into_iter().zip(told) {
        receive(&told);
        block_on(ready).unwrap();
    }
    runtime.handle().ready().wait().unwrap();
    block_on(runtime.handle().ready()).unwrap();
    assert!(handle.is_running());
    drain(runtime);
    assert!(matches!(handle.ready().wait(), Err(StartError::ShutDown)));
}

/// Tasks that were submitted before the start run after it.
pub fn tasks_may_come_before_the_start<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let tickets = [1.0, 2.0].map(|v| pool.submit(columns(&*device, &[v])).unwrap());
    let runtime = builder.start().unwrap();
    assert_eq!(gate.entered(), [1.0, 2.0]);
    gate.open();
    let values = tickets.map(|ticket| values_of(&*device, ticket));
    assert_eq!(values, [[2.0], [4.0]]);
    drain(runtime);
}

/// `run` uses the thread that calls it.
pub fn a_runtime_can_use_its_callers_thread<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (tell, told) = channel();
    let block = rows_block(&device, "thread", move |rows| {
        tell.send(std::thread::current().id()).ok();
        Ok(rows)
    });
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.build().unwrap();
    let handle = runtime.handle().clone();
    let own = runtime.handle();
    let caller = spawn(move || {
        runtime.run().unwrap();
        // It is the caller's again: no wait of it is taken for the runtime's own.
        assert!(matches!(own.state("thread"), Err(ControlError::ShutDown)));
        std::thread::current().id()
    });
    handle.ready().wait().unwrap();
    answer(pool.submit(columns(&*device, &[1.0])).unwrap()).unwrap();
    handle.shutdown(Shutdown::Drain, LIMIT).unwrap();
    assert_eq!(receive(&caller), receive(&told));
}

/// A device that cannot be used from its thread is told by `start` and by `run`, and tasks are answered.
pub fn a_device_that_cannot_be_bound_is_told<S: Subject>() {
    quiet_panics();
    for (panics, on_own_thread) in [(false, false), (true, false), (false, true), (true, true)] {
        let device: On<S> = Hooked::new(S::device()).hook(move |operation| {
            assert!(!(panics && operation == Operation::Bind), "on purpose: bind");
            if operation == Operation::Bind { Err(DeviceError::operation("driver is gone")) } else { Ok(()) }
        });
        let (mut builder, _) = new_builder(device, 1);
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let ticket = pool.submit(columns(&*device, &[1.0])).unwrap();
        let runtime = builder.build().unwrap();
        let handle = runtime.handle().clone();
        let result = if on_own_thread { runtime.run() } else { runtime.start().map(|_| ()) };
        let error = result.unwrap_err();
        let reason = if panics { "on purpose: bind" } else { "driver is gone" };
        assert!(matches!(error, StartError::Device(_)), "{error}");
        assert!(Chain(&error).to_string().contains(reason), "{error}");
        assert!(matches!(answer(ticket), Err(TaskError::ShutDown)));
        assert!(matches!(handle.ready().wait(), Err(StartError::ShutDown)));
    }
}

/// A block that cannot be loaded.
struct Unloadable<D: Device> {
    block: FnBlock<D>,
    panics: bool,
}

impl<D: Device> Backend<D> for Unloadable<D> {
    fn info(&self) -> BlockInfo {
        self.block.info()
    }
    fn load(&mut self, _: &D) -> Result<(), BoxError> {
        assert!(!self.panics, "on purpose: load");
        Err("weights are missing".into())
    }
    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        self.block.forward(inputs)
    }
    fn backward(&mut self, inputs: &[D::Tensor], grads: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        self.block.backward(inputs, grads)
    }
    fn state(&self) -> Result<BlockState, BoxError> {
        self.block.state()
    }
    fn restore(&mut self, state: &BlockState, fit: Fit) -> Result<Unmatched, BoxError> {
        self.block.restore(state, fit)
    }
}

/// A block that cannot be loaded, and a dummy run that fails, are told where the block is named.
pub fn a_block_that_cannot_be_loaded_is_told<S: Subject>() {
    quiet_panics();
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    for (panics, message) in [
        (false, "block `late` cannot be loaded: weights are missing"),
        (true, "block `late` cannot be loaded: on purpose: load"),
    ] {
        let block = Unloadable { block: rows_block(&device, "late", Ok), panics };
        let mut builder = new_builder(S::device(), 1).0;
        assert_eq!(Chain(&builder.block(block).unwrap_err()).to_string(), message);
    }
    let block =
        FnBlock::new("dummy", crate::kit::schema("x"), None, |_: &[_]| Err("no zeros, please".into()));
    let error = builder.block(block).unwrap_err();
    let message = Chain(&error).to_string();
    assert!(message.starts_with("block `dummy` cannot be loaded: dummy run of 3 rows failed; "), "{message}");
    assert!(message.ends_with(": no zeros, please"), "{message}");
}

/// Whatever goes wrong while a block is served, its name is free afterwards, and no pool feeds it.
pub fn a_block_that_cannot_be_served_leaves_nothing_behind<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let taken = rows_block(&device, "a_forward", Ok);
    let first = builder.block(taken).unwrap();
    let schema = || crate::kit::schema("x");
    let pool = |name: &str, builder: &skep_runtime_core::RuntimeBuilder<S::Device>| {
        let (device, clock) = (Arc::clone(builder.device()), builder.clock_handle());
        TaskPool::new(name.to_owned(), Pass::Forward, device, schema(), PoolOptions::default(), clock)
            .unwrap()
            .as_pool()
    };
    // The name of the pool that `serve` is about to make.
    let other = pool("a_forward", &builder);
    builder.pool(first, Pass::Forward, other).unwrap();
    let error = builder.serve(rows_block(&device, "a", Ok), ServeOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "pool name `a_forward` is given twice");
    let bad = ServeOptions::forward(PoolOptions::default().capacity(0));
    assert!(builder.serve(rows_block(&device, "b", Ok), bad).is_err());
    builder.block(rows_block(&device, "a", Ok)).unwrap();
    builder.serve(rows_block(&device, "b", Ok), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let blocks: Vec<_> = runtime.handle().blocks().into_iter().map(|block| block.name).collect();
    assert_eq!(blocks, ["a_forward", "a", "b"]);
    let pools: Vec<_> = runtime.handle().pools().iter().map(|pool| pool.name().to_owned()).collect();
    assert_eq!(pools, ["a_forward", "b_forward"]);
    drain(runtime);
}

/// A pool feeds blocks of its own builder only, and passes that they have.
pub fn blocks_and_passes_of_others_are_refused<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let (mut other, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let own = builder.block(rows_block(&device, "own", Ok)).unwrap();
    let foreign = other.block(rows_block(&device, "foreign", Ok)).unwrap();
    let gone = builder.block(rows_block(&device, "gone", Ok)).unwrap();
    builder.remove_block(gone);
    // Not one's own block, at the same place.
    builder.remove_block(foreign);
    assert!(builder.info(own).is_some() && builder.info(foreign).is_none());
    let clock = builder.clock_handle();
    let pool = |name: &str| {
        let (schema, clock) = (crate::kit::schema("x"), Arc::clone(&clock));
        TaskPool::new(
            name.to_owned(),
            Pass::Forward,
            Arc::clone(&device),
            schema,
            PoolOptions::default(),
            clock,
        )
        .unwrap()
        .as_pool()
    };
    for block in [foreign, gone] {
        let error = builder.pool(block, Pass::Forward, pool("p")).unwrap_err();
        assert_eq!(error.to_string(), "block is not one of this builder's");
    }
    let error = builder.pool(own, Pass::Backward, pool("p")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pool `p` is to feed the backward pass of block `own`, which does not have it"
    );
    builder.pool(own, Pass::Forward, pool("p")).unwrap();
}

/// A name is given once, and settings are in range.
pub fn names_and_settings_are_checked<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let serve = |builder: &mut skep_runtime_core::RuntimeBuilder<S::Device>, name: &str, options| {
        let block = rows_block(&device, name, Ok);
        builder
            .serve(block, ServeOptions::forward(options))
            .map(|_| ())
            .map_err(|error| Chain(&error).to_string())
    };
    serve(&mut builder, "same", PoolOptions::default()).unwrap();
    let twice = serve(&mut builder, "same", PoolOptions::default());
    assert_eq!(twice.unwrap_err(), "block name `same` is given twice");
    let none = serve(&mut builder, "none", PoolOptions::default().max_rows(0));
    assert_eq!(none.unwrap_err(), "pool `none_forward`: max_rows is 0, expected at least 1");
    let (builder, _) = new_builder(S::device(), 65);
    assert_eq!(
        builder.start().map(|_| ()).unwrap_err().to_string(),
        "runtime: prefetch is 65, expected 0 to 64 batches"
    );
    let (mut builder, _) = new_builder(S::device(), 1);
    serve(&mut builder, "early", PoolOptions::default()).unwrap();
    assert_eq!(
        builder.clock(ManualClock::new()).start().map(|_| ()).unwrap_err().to_string(),
        "runtime: clock is set after a pool was made, expected set before blocks are served"
    );
    let builder = new_builder(S::device(), 1).0.senders(0);
    assert_eq!(
        builder.start().map(|_| ()).unwrap_err().to_string(),
        "runtime: senders is 0, expected 1 to 64 threads"
    );
}
