//! The life of a task: in through the pool, out through its ticket.

use crate::Subject;
use crate::kit::{
    Columns, Hooked, LIMIT, Log, On, Operation, answer, block_on, columns, drain, named_schema, new_builder,
    poll_pending, pool_of, quiet_panics, receive, rig, rows_block, schema, spawn, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BoxError, Chain, DType, Deadline, Device, Dim, FrontError, HostTensor, Inputs, Priority, Request,
    RunningRuntime, Schema, Submit, SubmitError, TaskError, TensorOps, TensorSpec,
};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Outputs come back, by `wait`, on the host as on a device whose outputs must be copied back.
pub fn outputs_come_back<S: Subject>() {
    for device in [Hooked::new(S::device()), Hooked::new(S::device()).remote()] {
        let rig = rig::<On<S>>(device, 1, PoolOptions::default());
        assert_eq!(
            rig.runtime.handle().blocks().iter().map(|block| &*block.name).collect::<Vec<_>>(),
            ["gated"]
        );
        assert_eq!(
            rig.runtime.handle().pools().iter().map(|pool| pool.name()).collect::<Vec<_>>(),
            ["gated_forward"]
        );
        let ticket = rig.submit(&[1.0, 2.0, 3.0]);
        rig.gate.open();
        assert_eq!(values_of(&*rig.device, ticket), [2.0, 4.0, 6.0]);
        drain(rig.runtime);
    }
}

/// `wait_timeout` gives the ticket back while there is no answer yet. A future polled after its end has none.
pub fn wait_timeout_keeps_the_ticket<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let ticket = rig.hold();
    let mut ticket = ticket.wait_timeout(Duration::ZERO).err().unwrap();
    assert!(!ticket.is_done());
    rig.gate.open();
    assert!(block_on(&mut ticket).is_ok());
    assert!(ticket.is_done());
    assert!(matches!(block_on(&mut ticket), Err(TaskError::Taken)));
    rig.gate.open();
    assert!(rig.submit(&[5.0]).wait_timeout(LIMIT).unwrap().is_ok());
    drain(rig.runtime);
}

/// A ticket that one thread has waited for can be waited for by another.
pub fn tickets_change_threads<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let ticket = rig.hold().wait_timeout(Duration::ZERO).err().unwrap();
    let (tell, waits) = channel();
    let waiting = spawn(move || {
        let ticket = ticket.wait_timeout(Duration::ZERO).err().unwrap();
        tell.send(()).ok();
        ticket.wait()
    });
    receive(&waits);
    rig.gate.open();
    assert!(receive(&waiting).is_ok());
    drain(rig.runtime);
}

/// A ticket is a future: pending while the device is held, then ready.
pub fn tickets_can_be_awaited<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let mut ticket = rig.hold();
    let told = poll_pending(&mut ticket);
    rig.gate.open();
    receive(&told);
    let outputs = block_on(ticket).unwrap();
    assert_eq!(Columns::read(&*rig.device, &outputs[0]), [-2.0]);
    drain(rig.runtime);
}

/// The door for front ends hands tasks in like the pool itself.
pub fn front_ends_submit_through_the_door<S: Subject>() {
    let options = PoolOptions::default().max_rows(7);
    let rig = rig(S::device(), 1, options.clone());
    assert_eq!(rig.pool.options(), &options);
    rig.gate.open();
    rig.gate.open();
    let door: Arc<dyn Submit<_>> = Arc::new(rig.pool.clone());
    assert_eq!((door.name(), door.schema().tensors()[0].name()), ("gated_forward", "x"));
    let ticket = door.try_submit(columns(&*rig.device, &[4.0]).into()).unwrap();
    assert_eq!(values_of(&*rig.device, ticket), [8.0]);
    let ticket = block_on(door.submit_async(columns(&*rig.device, &[5.0]).into())).unwrap();
    assert_eq!(values_of(&*rig.device, ticket), [10.0]);
    drain(rig.runtime);
}

/// Host tensors go in by name in any order and come out by name, and a refused request comes back as it was.
pub fn front_ends_need_no_tensor_type<S: Subject>() {
    let (device, pool, runtime) = two_inputs(S::device());
    let front = pool.front(named_schema(&["sum", "difference"]));
    assert_eq!((front.name(), front.inputs().tensors().len()), ("arithmetic_forward", 2));
    assert_eq!(front.outputs().tensors()[1].name(), "difference");
    let host = |value| HostTensor::from_f32(&[1, 1], &[value]).unwrap();
    let named = |b, a| Request::named([("b", host(b)), ("a", host(a))]);
    let expected = [("sum".to_owned(), host(11.0)), ("difference".to_owned(), host(7.0))];
    assert_eq!(block_on(front.call(named(2.0, 9.0))).unwrap(), expected);
    assert_eq!(block_on(front.try_call(named(2.0, 9.0))).unwrap(), expected);

    let wrong = || Request::named([("a", host(1.0)), ("c", host(2.0))]).priority(Priority::URGENT);
    for refused in [block_on(front.call(wrong())), block_on(front.try_call(wrong()))] {
        let FrontError::Refused(refused) = refused.unwrap_err() else { panic!("expected a refusal") };
        let (error, request) = refused.into_parts();
        assert!(matches!(error, SubmitError::UnknownInput { name, .. } if name == "c"));
        assert_eq!(request.priority, Some(Priority::URGENT));
        let Inputs::Named(inputs) = request.inputs else { panic!("expected named inputs") };
        assert_eq!(inputs, [("a".to_owned(), host(1.0)), ("c".to_owned(), host(2.0))]);
    }
    drain(runtime);
    let late = block_on(front.call(named(2.0, 9.0))).unwrap_err();
    assert!(matches!(late, FrontError::Refused(refused) if matches!(refused.error, SubmitError::ShutDown)));
    drop(device);
}

/// Names in the caller's order, priority and deadline come back with a refused task, and it can be handed in again.
pub fn a_refused_request_comes_back_whole<S: Subject>() {
    let (device, pool, runtime) = two_inputs(S::device());
    let column = |values: &[f32]| columns(&*device, values).remove(0);
    // In the other order than the schema's, and of different rows, which is found after they were sorted.
    let request = Request::named([("b", column(&[2.0])), ("a", column(&[9.0, 8.0]))])
        .priority(Priority(-7))
        .deadline(Duration::from_secs(5));
    let (error, request) = pool.try_submit(request).unwrap_err().into_parts();
    assert!(matches!(error, SubmitError::RowsDiffer { .. }), "{error}");
    let five = Some(Deadline::In(Duration::from_secs(5)));
    assert_eq!((request.priority, request.deadline), (Some(Priority(-7)), five));
    let Inputs::Named(inputs) = &request.inputs else { panic!("expected named inputs") };
    let read: Vec<_> =
        inputs.iter().map(|(name, tensor)| (name.as_str(), Columns::read(&*device, tensor))).collect();
    assert_eq!(read, [("b", vec![2.0]), ("a", vec![9.0, 8.0])]);
    assert!(matches!(pool.try_submit(request).unwrap_err().error, SubmitError::RowsDiffer { .. }));
    drain(runtime);
}

fn two_inputs<D: Device>(device: D) -> (Arc<D>, TaskPool<D>, RunningRuntime<D>) {
    let (mut builder, _) = new_builder(device, 1);
    let device = Arc::clone(builder.device());
    let on = Arc::clone(&device);
    let block = FnBlock::new(
        "arithmetic",
        named_schema(&["a", "b"]),
        Some(named_schema(&["sum", "difference"])),
        move |inputs: &[D::Tensor]| {
            let read = |tensor| Columns::read(&*on, tensor);
            let pairs: Vec<_> = read(&inputs[0]).into_iter().zip(read(&inputs[1])).collect();
            let output = |of: fn(f32, f32) -> f32| {
                let values: Vec<f32> = pairs.iter().map(|&(a, b)| of(a, b)).collect();
                on.gather(&columns(&*on, &values))
            };
            Ok(vec![output(|a, b| a + b)?, output(|a, b| a - b)?])
        },
    );
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    (device, pool, builder.start().unwrap())
}

/// Several inputs and outputs keep their places.
pub fn several_inputs_and_outputs_keep_their_places<S: Subject>() {
    let (device, pool, runtime) = two_inputs(S::device());
    let column = |values| columns(&*device, values).remove(0);
    let ticket = pool.submit(vec![column(&[5.0, 7.0]), column(&[1.0, 2.0])]).unwrap();
    let outputs = answer(ticket).unwrap();
    assert_eq!(Columns::read(&*device, &outputs[0]), [6.0, 9.0]);
    assert_eq!(Columns::read(&*device, &outputs[1]), [4.0, 5.0]);
    drain(runtime);
}

/// Named inputs are taken in any order; unknown, missing and double names are refused, inputs back.
pub fn inputs_can_be_named<S: Subject>() {
    let (device, pool, runtime) = two_inputs(S::device());
    let named = |inputs: &[(&'static str, f32)]| {
        Request::named(inputs.iter().map(|&(name, v)| (name, columns(&*device, &[v]).remove(0))))
    };
    let outputs = answer(pool.submit(named(&[("b", 2.0), ("a", 9.0)])).unwrap()).unwrap();
    assert_eq!(Columns::read(&*device, &outputs[1]), [7.0]);

    let refused = |inputs: &[(&'static str, f32)]| {
        let refused = pool.submit(named(inputs)).unwrap_err();
        let (error, request) = refused.into_parts();
        let back: Vec<f32> = request.inputs.tensors().flat_map(|x| Columns::read(&*device, x)).collect();
        assert_eq!(back, inputs.iter().map(|&(_, v)| v).collect::<Vec<_>>(), "inputs come back as given");
        error
    };
    let unknown = refused(&[("a", 1.0), ("c", 2.0)]);
    assert!(matches!(unknown, SubmitError::UnknownInput { name, .. } if name == "c"));
    assert!(matches!(refused(&[("a", 1.0)]), SubmitError::NotOnce { name } if name == "b"));
    let double = refused(&[("a", 1.0), ("b", 2.0), ("a", 3.0)]);
    assert!(matches!(double, SubmitError::NotOnce { name } if name == "a"));
    drain(runtime);
}

/// Outputs that a block does not describe are found by a dummy run of three rows, free dims included.
pub fn outputs_are_found_by_a_dummy_run<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let sizes = Log::new();
    let (on, log) = (device, sizes.clone());
    let dims = [Dim::Batch, Dim::free("n", 8), Dim::Fixed(2)];
    let inputs = Schema::new(vec![TensorSpec::new("x", DType::F32, dims.clone())]).unwrap();
    let block = FnBlock::new("same", inputs, None, move |inputs: &[_]| {
        let host: HostTensor = on.to_host(&inputs[0])?;
        log.push(host.dims().to_vec());
        Ok(vec![on.gather(&[on.from_host(&host)?])?])
    });
    let id = builder.block(block).unwrap();
    let outputs = builder.info(id).expect("it is registered").outputs.as_ref().expect("outputs are known");
    assert_eq!(outputs.tensors(), [TensorSpec::new("output_0", DType::F32, dims)]);
    assert_eq!(sizes.take(), [[3, 8, 2], [3, 6, 2], [3, 4, 2], [3, 1, 2]]);
}

/// How an output's dims follow the inputs' is told by several sizes, of which a block need not take all; what is not
/// known is free. A block that takes one row only is run with one. If all fail, the error tells with what.
pub fn dummy_runs_are_as_many_as_a_block_needs<S: Subject>() {
    let outputs = |max, most: usize, length: fn(usize) -> Result<usize, BoxError>| {
        let (mut builder, _) = new_builder(S::device(), 1);
        let on = Arc::clone(builder.device());
        let dims = [Dim::Batch, Dim::free("n", max)];
        let inputs = Schema::new(vec![TensorSpec::new("x", DType::F32, dims)]).unwrap();
        let block = FnBlock::new("block", inputs, None, move |inputs: &[_]| {
            let dims = on.describe(&inputs[0])?.dims;
            if dims[0] > most {
                return Err(format!("{} rows, expected at most {most}", dims[0]).into());
            }
            let zeros = HostTensor::zeros(DType::F32, &[dims[0], length(dims[1])?]).unwrap();
            Ok(vec![on.gather(&[on.from_host(&zeros)?])?])
        });
        let id = builder.block(block).map_err(|error| Chain(&error).to_string())?;
        Ok::<Dim, String>(builder.info(id).unwrap().outputs.as_ref().unwrap().tensors()[0].dims()[1].clone())
    };
    let free = || Dim::free("output_0.1", usize::MAX);
    assert_eq!(outputs(128, 3, |n| Ok(2 * n)), Ok(free()), "twice as long");
    assert_eq!(outputs(128, 3, |n| Ok(n.div_ceil(2))), Ok(free()), "half as long");
    assert_eq!(outputs(128, 3, |n| Ok(n.min(40))), Ok(free()), "cut off");
    assert_eq!(outputs(128, 3, |_| Ok(5)), Ok(Dim::Fixed(5)));
    assert_eq!(outputs(128, 3, Ok), Ok(Dim::free("n", 128)));
    assert_eq!(outputs(128, 1, |_| Ok(5)), Ok(Dim::Fixed(5)), "one row only");
    // A convolution over 40: shorter inputs have no output.
    let convolved = |n: usize| if n < 40 { Err("too short".into()) } else { Ok(n - 39) };
    assert_eq!(outputs(128, 3, convolved), Ok(free()));
    // Only one size can be: nothing is known.
    let one = |n: usize| if n == 64 { Ok(7) } else { Err("not 64".into()) };
    assert_eq!(outputs(64, 3, one), Ok(free()));
    quiet_panics();
    let error = outputs(32, 3, |n| if n > 0 { panic!("on purpose: never") } else { Ok(1) }).unwrap_err();
    let expected = "dummy run of 3 rows, with free dims of 32, failed; a block that says what comes out (`with_outputs`)";
    assert!(error.contains(expected) && error.contains("never"), "{error}");
}

/// A block that takes one number of rows only is served if its batches can have it; an error of the dummy run names no
/// others.
pub fn dummy_runs_have_no_more_rows_than_batches<S: Subject>() {
    let serve = |rows: usize, max_rows: usize| {
        let (mut builder, _) = new_builder(S::device(), 1);
        let on = Arc::clone(builder.device());
        let block = FnBlock::new("block", schema("x"), None, move |inputs: &[_]| {
            let got = on.describe(&inputs[0])?.dims[0];
            if got != rows {
                return Err(format!("{got} rows, expected {rows}").into());
            }
            Ok(vec![on.gather(&[on.from_host(&on.to_host(&inputs[0])?)?])?])
        });
        let options = ServeOptions::both(PoolOptions::default().max_rows(max_rows));
        builder.serve(block, options).map(drop).map_err(|error| Chain(&error).to_string())
    };
    assert_eq!(serve(1, 1), Ok(()));
    assert_eq!(serve(8, 8), Ok(()));
    let error = serve(8, 2).unwrap_err();
    assert!(error.contains("dummy run of 2 rows failed") && error.contains("2 rows, expected 8"), "{error}");
}

/// A block may be served with the inputs of its callers running on the caller's thread as well as on many.
pub fn many_callers_get_their_own_rows<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "square", |rows| Ok(rows.iter().map(|v| v * v).collect()));
    let pool = pool_of(&mut builder, block, PoolOptions::default().capacity(8));
    let runtime = builder.start().unwrap();
    std::thread::scope(|scope| {
        for caller in 0u8..8 {
            let (device, pool) = (&device, &pool);
            scope.spawn(move || {
                for i in 0u8..50 {
                    let rows: Vec<f32> =
                        (0..=i % 3).map(|row| f32::from(caller) + f32::from(i * 4 + row)).collect();
                    let ticket = pool.submit(columns(&**device, &rows)).unwrap();
                    let squares: Vec<f32> = rows.iter().map(|v| v * v).collect();
                    assert_eq!(values_of(&**device, ticket), squares);
                }
            });
        }
    });
    drain(runtime);
}

/// Outputs that must be copied back are so by a sender, never by the device thread, also when it has nothing
/// better to do.
pub fn outputs_are_copied_back_by_senders<S: Subject>() {
    for prefetch in [0, 1] {
        let threads = Log::new();
        let seen = Log::clone(&threads);
        let device: On<S> = Hooked::new(S::device()).remote().hook(move |operation| {
            if operation == Operation::Scatter {
                seen.push(std::thread::current().name().unwrap_or_default().to_owned());
            }
            Ok(())
        });
        let (mut builder, _) = new_builder(device, prefetch);
        let device = Arc::clone(builder.device());
        let pool = pool_of(&mut builder, rows_block(&device, "same", Ok), PoolOptions::default());
        let runtime = builder.start().unwrap();
        for row in [1.0, 2.0] {
            assert_eq!(values_of(&*device, pool.submit(columns(&*device, &[row])).unwrap()), [row]);
        }
        drain(runtime);
        assert_eq!(threads.take(), ["skep-sender-0"; 2]);
    }
}
