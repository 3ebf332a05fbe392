//! The crate `batched-fn`. Its queue is a static of the function that calls it, so there is one function per
//! work and no way to have 16 pools.
//!
//! A batch that is not full waits for more, at least 1 ms: with a delay of 0 all batches have one row.

use crate::drive::Awaited;
use crate::null::{self, Column};
use crate::work::Module;
use batched_fn::batched_fn;
use skep_runtime_core::Device;
use std::sync::Mutex;

fn run<D: Device>(module: &Mutex<Module<D>>, batch: Vec<Vec<D::Tensor>>) -> Vec<Vec<D::Tensor>> {
    module.lock().expect("no panic").run(batch).expect("a block that does not fail")
}

#[derive(Clone)]
pub(crate) struct NullFn;

impl Awaited<Column> for NullFn {
    async fn call(&self, _: usize, task: Vec<Column>) -> Vec<Column> {
        let call = batched_fn! {
            handler = |batch: Vec<Vec<Column>>, module: &Mutex<Module<null::NullDevice>>| -> Vec<Vec<Column>> {
                run(module, batch)
            };
            config = { max_batch_size: super::MAX_ROWS, max_delay: 1 };
            context = { module: Mutex::new(null::work().and_then(|work| work.module()).expect("a valid block")) };
        };
        call(task).await.expect("a running thread")
    }
}

#[cfg(all(feature = "candle", not(feature = "tch")))]
pub(crate) use ffn::FfnFn;

#[cfg(all(feature = "candle", not(feature = "tch")))]
mod ffn {
    use super::run;
    use crate::backend::{BackendDevice, ffn};
    use crate::drive::Awaited;
    use crate::work::Module;
    use batched_fn::batched_fn;
    use skep_backend_candle::candle_core::Tensor;
    use std::sync::Mutex;

    #[derive(Clone)]
    pub(crate) struct FfnFn;

    impl Awaited<Tensor> for FfnFn {
        async fn call(&self, _: usize, task: Vec<Tensor>) -> Vec<Tensor> {
            let call = batched_fn! {
                handler = |batch: Vec<Vec<Tensor>>, module: &Mutex<Module<BackendDevice>>| -> Vec<Vec<Tensor>> {
                    run(module, batch)
                };
                config = { max_batch_size: super::super::MAX_ROWS, max_delay: 1 };
                context = { module: Mutex::new(ffn().and_then(|work| work.module()).expect("a valid block")) };
            };
            call(task).await.expect("a running thread")
        }
    }
}
