//! A bad task is told what is wrong with it, and nobody else notices.

use crate::Subject;
use crate::kit::{Columns, columns, drain, new_builder, pool_of, rows_block, values_of};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{DType, Device, HostTensor, Schema, SubmitError, TensorOps, TensorSpec};
use std::sync::Arc;

/// Every way to be wrong, with the message that it gets.
fn submit_bad_tasks<D: Device>(device: &D, pool: &TaskPool<D>) {
    let zeros = |dtype, dims: &[usize]| device.from_host(&HostTensor::zeros(dtype, dims).unwrap()).unwrap();
    let one = || columns(device, &[1.0]).remove(0);
    let bad = [
        (vec![zeros(DType::I64, &[1, 1])], "input `x` has dtype i64, expected f32"),
        (vec![zeros(DType::F64, &[1, 1])], "input `x` has dtype f64, expected f32"),
        (vec![], "task has 0 tensors, expected 1: x"),
        (vec![one(), one()], "task has 2 tensors, expected 1: x"),
        (vec![zeros(DType::F32, &[1, 2])], "input `x` has dims [1, 2], expected [batch, 1]"),
        (vec![zeros(DType::F32, &[1])], "input `x` has dims [1], expected [batch, 1]"),
        (vec![zeros(DType::F32, &[])], "input `x` has dims [], expected [batch, 1]"),
        (vec![zeros(DType::F32, &[0, 1])], "task has 0 rows, expected at least 1"),
        (vec![zeros(DType::F32, &[9, 1])], "task has 9 rows, expected at most 8"),
    ];
    for (inputs, message) in bad {
        let info =
            |inputs: &[D::Tensor]| inputs.iter().map(|x| device.describe(x).unwrap()).collect::<Vec<_>>();
        let given = info(&inputs);
        let refused = pool.submit(inputs).unwrap_err();
        assert_eq!(refused.to_string(), message);
        assert_eq!(info(&refused.into_request().inputs.into_tensors()), given, "inputs come back as given");
    }
}

/// Each bad task gets its error and its inputs at submit, while 1,000 good tasks in the same pool succeed.
pub fn bad_tasks_harm_nobody<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
    let options = PoolOptions::default().max_rows(8).capacity(64);
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    std::thread::scope(|scope| {
        for caller in 0u16..4 {
            let (device, pool) = (&*device, &pool);
            scope.spawn(move || {
                let mut waiting = Vec::new();
                for i in 0u16..250 {
                    let value = f32::from(caller * 250 + i);
                    waiting.push((pool.submit(columns(device, &[value])).unwrap(), value));
                    if waiting.len() == 10 {
                        for (ticket, value) in waiting.drain(..) {
                            assert_eq!(values_of(device, ticket), [2.0 * value]);
                        }
                    }
                }
            });
        }
        for _ in 0..4 {
            scope.spawn(|| (0..20).for_each(|_| submit_bad_tasks(&*device, &pool)));
        }
    });
    let counts = pool.counts();
    assert_eq!((counts.submitted, counts.refused, counts.waiting), (1000 + 720, 720, 0));
    drain(runtime);
}

/// The tensors of one task have the same rows, and indices are in range.
pub fn rows_and_indices_are_checked<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let on = Arc::clone(&device);
    let inputs = Schema::new(vec![
        TensorSpec::rows("ids", DType::U32, &[2]).with_index_below(10),
        TensorSpec::rows("x", DType::F32, &[1]),
    ]);
    let block =
        FnBlock::new("second", inputs.unwrap(), Some(crate::kit::schema("y")), move |inputs: &[_]| {
            Ok(vec![on.gather(&[on.from_host(&on.to_host(&inputs[1])?)?])?])
        });
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    let ids = |ids: [u32; 2]| {
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        device.from_host(&HostTensor::new(DType::U32, &[1, 2], bytes).unwrap()).unwrap()
    };
    let x = |rows: &[f32]| Columns::shaped(&*device, &[rows.len(), 1], rows);

    let differ = pool.submit(vec![ids([0, 1]), x(&[1.0, 2.0])]).unwrap_err();
    assert_eq!(differ.to_string(), "input `x` has 2 rows, expected 1 as in the first input");
    let outside = pool.submit(vec![ids([3, 10]), x(&[1.0])]).unwrap_err();
    assert!(matches!(outside.error, SubmitError::IndexOutOfRange { got: 10, below: 10, .. }), "{outside}");
    assert_eq!(outside.into_request().inputs.tensors().count(), 2);
    let ticket = pool.submit(vec![ids([3, 9]), x(&[1.0])]).unwrap();
    assert_eq!(values_of(&*device, ticket), [1.0]);
    drain(runtime);
}
