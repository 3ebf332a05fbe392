//! A batch that fails, wherever that is, is told to its own tasks; the next one succeeds.

use crate::Subject;
use crate::kit::{
    Hooked, LIMIT, Log, On, Operation, answer, columns, drain, new_builder, pool_of, quiet_panics,
    rows_block, values_of,
};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BatchEvent, Chain, Device, DeviceError, HostTensor, Meter, Observer, PoolId, Shutdown, TensorOps, Unrun,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

/// Submits the row and gives the message of its failure.
fn failure<D: Device>(device: &D, pool: &TaskPool<D>, row: f32) -> String {
    let error = answer(pool.submit(columns(device, &[row])).unwrap()).map(|_| ()).unwrap_err();
    let batch = error.batch_error().unwrap_or_else(|| panic!("expected a failed batch, got {error}"));
    Chain(batch).to_string()
}

fn succeeds<D: Device>(device: &D, pool: &TaskPool<D>) {
    let ticket = pool.submit(columns(device, &[1.0, 2.0])).unwrap();
    assert_eq!(values_of(device, ticket), [2.0, 4.0]);
}

/// A block that panics, returns an error, or returns too few or too many rows.
pub fn blocks_that_fail_harm_their_batch_only<S: Subject>() {
    quiet_panics();
    for prefetch in [0, 1] {
        let (mut builder, _) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let block = rows_block(&device, "moody", |mut rows| {
            match rows[0] {
                10.0 => panic!("on purpose: {}", rows[0]),
                11.0 => return Err("no mood for 11".into()),
                12.0 => rows.clear(),
                13.0 => rows.push(0.0),
                14.0 => std::panic::panic_any(14u8),
                _ => rows.iter_mut().for_each(|v| *v *= 2.0),
            }
            Ok(rows)
        });
        let pool = pool_of(&mut builder, block, PoolOptions::default().max_rows(2));
        let runtime = builder.start().unwrap();
        let expected = [
            (10.0, "panic in block `moody`: on purpose: 10"),
            (11.0, "block `moody` failed: no mood for 11"),
            (12.0, "output `y` of the block has 0 rows, expected 1"),
            (13.0, "output `y` of the block has 2 rows, expected 1"),
            (14.0, "panic in block `moody`: panic without a message"),
        ];
        for (row, message) in expected {
            assert_eq!(failure(&*device, &pool, row), message);
            succeeds(&*device, &pool);
        }
        drain(runtime);
    }
}

/// A block that returns another number of outputs than it said.
pub fn a_wrong_number_of_outputs_is_an_error<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let on = Arc::clone(&device);
    let block = FnBlock::new(
        "count",
        crate::kit::schema("x"),
        Some(crate::kit::schema("y")),
        move |inputs: &[_]| {
            let rows = on.to_host(&inputs[0])?.to_f32().ok_or("input should hold f32")?;
            let doubled: Vec<f32> = rows.iter().map(|v| 2.0 * v).collect();
            let outputs = match rows[0] {
                10.0 => 0,
                11.0 => 2,
                _ => 1,
            };
            Ok((0..outputs).map(|_| on.gather(&columns(&*on, &doubled))).collect::<Result<_, _>>()?)
        },
    );
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    for (row, message) in
        [(10.0, "block gave 0 outputs, expected 1"), (11.0, "block gave 2 outputs, expected 1")]
    {
        assert_eq!(failure(&*device, &pool, row), message);
        succeeds(&*device, &pool);
    }
    drain(runtime);
}

/// A block that returns other dims, another element type or other rows than it said fails its batch, by name, instead of
/// surprising its callers.
pub fn outputs_that_break_their_schema_are_errors<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let on = Arc::clone(&device);
    let block = FnBlock::new(
        "shapes",
        crate::kit::schema("x"),
        Some(crate::kit::schema("y")),
        move |inputs: &[_]| {
            let rows = on.to_host(&inputs[0])?.to_f32().ok_or("input should hold f32")?;
            let count = rows.len();
            let output = match rows[0] {
                10.0 => HostTensor::from_f32(&[count, 2], &rows.repeat(2))?,
                11.0 => HostTensor::from_f32(&[count, 1, 1], &rows)?,
                12.0 => HostTensor::from_elements(&[count, 1], &vec![7_u32; count])?,
                13.0 => HostTensor::from_f32(&[2 * count, 1], &rows.repeat(2))?,
                14.0 => HostTensor::from_f32(&[], &[0.0])?,
                _ => HostTensor::from_f32(&[count, 1], &rows.iter().map(|v| 2.0 * v).collect::<Vec<_>>())?,
            };
            Ok(vec![on.gather(&[on.from_host(&output)?])?])
        },
    );
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    for (row, message) in [
        (10.0, "output `y` of the block is f32 [1, 2], expected f32 [batch, 1]"),
        (11.0, "output `y` of the block is f32 [1, 1, 1], expected f32 [batch, 1]"),
        (12.0, "output `y` of the block is u32 [1, 1], expected f32 [batch, 1]"),
        (13.0, "output `y` of the block has 2 rows, expected 1"),
        (14.0, "output `y` of the block has 0 rows, expected 1"),
    ] {
        assert_eq!(failure(&*device, &pool, row), message);
        succeeds(&*device, &pool);
    }
    drain(runtime);
}

/// A device that fails or panics while it gathers, scatters or synchronizes.
pub fn devices_that_fail_harm_that_batch_only<S: Subject>() {
    quiet_panics();
    let places = [
        (Operation::Gather, "gather"),
        (Operation::Scatter, "scatter"),
        (Operation::Synchronize, "synchronize"),
    ];
    for (operation, name) in places {
        for (prefetch, panics) in [(0, false), (0, true), (1, false), (1, true)] {
            let armed = Arc::new(AtomicUsize::new(0));
            let failing = Arc::clone(&armed);
            let device: On<S> = Hooked::new(S::device()).remote().hook(move |at| {
                let fails = at == operation && failing.swap(0, Ordering::SeqCst) > 0;
                assert!(!(fails && panics), "on purpose");
                if fails { Err(DeviceError::operation("no room")) } else { Ok(()) }
            });
            let (mut builder, _) = new_builder(device, prefetch);
            let device = Arc::clone(builder.device());
            let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
            let pool = pool_of(&mut builder, block, PoolOptions::default());
            let runtime = builder.start().unwrap();
            succeeds(&*device, &pool);
            armed.store(1, Ordering::SeqCst);
            let message = failure(&*device, &pool, 1.0);
            if panics {
                assert_eq!(message, format!("panic in {name}: on purpose"));
            } else {
                assert_eq!(message, format!("device failed to {name}: no room"));
            }
            succeeds(&*device, &pool);
            drain(runtime);
        }
    }
}

/// A device that fails while it joins the outputs of a split task.
pub fn a_failed_join_harms_that_task_only<S: Subject>() {
    quiet_panics();
    for panics in [false, true] {
        let device: On<S> = Hooked::new(S::device()).hook(move |at| {
            assert!(!(at == Operation::Join && panics), "on purpose");
            if at == Operation::Join { Err(DeviceError::operation("no room")) } else { Ok(()) }
        });
        let (mut builder, _) = new_builder(device, 1);
        let device = Arc::clone(builder.device());
        let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
        let options = PoolOptions::default().max_rows(2).split_large_tasks(true);
        let pool = pool_of(&mut builder, block, options);
        let runtime = builder.start().unwrap();
        let error =
            answer(pool.submit(columns(&*device, &[1.0, 2.0, 3.0])).unwrap()).map(|_| ()).unwrap_err();
        let expected = if panics { "panic in join: on purpose" } else { "device failed to join: no room" };
        assert_eq!(error.batch_error().map(|error| Chain(error).to_string()).as_deref(), Some(expected));
        succeeds(&*device, &pool);
        drain(runtime);
    }
}

struct PanickingObserver(Log<&'static str>);

impl PanickingObserver {
    fn fail(&self, place: &'static str) {
        self.0.push(place);
        panic!("on purpose: observer");
    }
}

impl Observer for PanickingObserver {
    fn started(&self, _: &str, _: Instant) {
        self.fail("started");
    }
    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {
        self.fail("pool_added");
    }
    fn batch(&self, _: &BatchEvent<'_>) {
        self.fail("batch");
    }
    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
        self.fail("unrun");
    }
    fn stopped(&self, _: Instant) {
        self.fail("stopped");
    }
}

/// An observer that panics, each time it is told anything.
pub fn an_observer_that_panics_harms_nobody<S: Subject>() {
    quiet_panics();
    let log = Log::new();
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.observer(Arc::new(PanickingObserver(log.clone())));
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    succeeds(&*device, &pool);
    succeeds(&*device, &pool);
    drain(runtime);
    assert_eq!(log.take(), ["started", "pool_added", "batch", "batch", "stopped"]);
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("on purpose: waker");
    }
}

/// A waker that panics, of a caller who awaits.
pub fn a_waker_that_panics_harms_nobody<S: Subject>() {
    quiet_panics();
    let rig = crate::kit::rig(S::device(), 1, PoolOptions::default());
    let mut held = rig.hold();
    let waker = Waker::from(Arc::new(PanickingWaker));
    let polled = std::pin::Pin::new(&mut held).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    rig.gate.open();
    rig.gate.open();
    succeeds(&*rig.device, &rig.pool);
    assert!(held.wait_timeout(LIMIT).unwrap().is_ok());
    rig.runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
}
