//! A block's state, as it is between two batches.

use crate::Subject;
use crate::kit::{
    Gate, all_succeed, answer, columns, drain, new_builder, quiet_panics, receive, rig, rows_block, spawn,
};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, Chain, ControlError, Device, Fit, HostTensor, Unmatched,
};
use std::sync::Arc;

/// A block that counts its batches twice, before the gate and after it.
struct Twice<D: Device> {
    gated: FnBlock<D>,
    before: u32,
    after: u32,
}

impl<D: Device> Backend<D> for Twice<D> {
    fn info(&self) -> BlockInfo {
        self.gated.info()
    }
    fn load(&mut self, _: &D) -> Result<(), BoxError> {
        Ok(())
    }
    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        self.before += 1;
        let outputs = self.gated.forward(inputs)?;
        self.after += 1;
        Ok(outputs)
    }
    fn backward(&mut self, _: &[D::Tensor], _: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        Err("inference only".into())
    }
    fn state(&self) -> Result<BlockState, BoxError> {
        let scalars = [("before", self.before), ("after", self.after)];
        let scalars = scalars.into_iter().map(|(name, count)| (name.to_owned(), count.to_string())).collect();
        let mut state = BlockState::default();
        state.scalars = scalars;
        Ok(state)
    }
    fn restore(&mut self, _: &BlockState, _: Fit) -> Result<Unmatched, BoxError> {
        Err("this block cannot go back".into())
    }
}

/// Before the start a builder restores a state itself; through a handle nobody would do the work, which is said.
pub fn a_state_is_restored_before_the_start<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    builder.serve(rows_block(&device, "same", Ok), ServeOptions::default()).unwrap();
    let scalars = [("step".to_owned(), "7".to_owned())].into_iter().collect();
    let mut state = BlockState::default();
    state.scalars = scalars;
    builder.restore("same", &state).unwrap();
    let unknown = builder.restore("other", &state).unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownBlock { name } if name == "other"));
    let runtime = builder.build().unwrap();
    assert!(matches!(runtime.handle().state("same"), Err(ControlError::NotStarted)));
    let runtime = runtime.start().unwrap();
    assert_eq!(runtime.handle().state("same").unwrap(), state);
    drain(runtime);
}

/// A state that is asked for in the middle of a batch is the one after it, and comes before the next batch.
pub fn a_state_is_one_between_two_batches<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let (gated, gate): (_, Gate) = crate::kit::gated(&device, "twice");
    let options = ServeOptions::forward(PoolOptions::default().max_rows(1));
    let pool = builder.serve(Twice { gated, before: 0, after: 0 }, options).unwrap().forward;
    let runtime = builder.start().unwrap();
    let tickets = [1.0, 2.0].map(|v| pool.submit(columns(&*device, &[v])).unwrap());
    gate.entered();
    let handle = runtime.handle().clone();
    let asking = spawn(move || handle.state("twice").unwrap().scalars);
    gate.open();
    gate.open();
    all_succeed(tickets);
    let state = receive(&asking);
    assert_eq!(state["before"], state["after"]);
    let refused = runtime.handle().restore("twice", BlockState::default()).unwrap_err();
    assert_eq!(
        Chain(&refused).to_string(),
        "block `twice` cannot give or take its state: this block cannot go back"
    );
    drain(runtime);
}

/// What is restored is what comes out again.
pub fn state_goes_in_and_out<S: Subject>() {
    let rig = rig(S::device(), 1, PoolOptions::default());
    let mut state = BlockState::default();
    state.parameters.insert("w".to_owned(), HostTensor::from_f32(&[2], &[0.5, -1.0]).unwrap());
    state.scalars.insert("step".to_owned(), "7".to_owned());
    rig.runtime.handle().restore("gated", state.clone()).unwrap();
    assert_eq!(rig.runtime.handle().state("gated").unwrap(), state);
    drain(rig.runtime);
}

/// Work with a block that panics, or with a block that is not there, is told, and the runtime goes on.
pub fn work_that_fails_is_told<S: Subject>() {
    quiet_panics();
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let block = rows_block(&device, "same", Ok);
    let pool = builder.serve(block, ServeOptions::default()).unwrap().forward;
    let runtime = builder.start().unwrap();
    let panicked = runtime.handle().with_block("same", |_| -> u8 { panic!("on purpose: work") }).unwrap_err();
    assert_eq!(panicked.to_string(), "panic while working with block `same`: on purpose: work");
    assert!(
        matches!(runtime.handle().state("other"), Err(ControlError::UnknownBlock { name }) if name == "other")
    );
    assert_eq!(runtime.handle().with_block("same", |block| block.info().name).unwrap(), "same");
    answer(pool.submit(columns(&*device, &[1.0])).unwrap()).unwrap();
    drain(runtime);
}
