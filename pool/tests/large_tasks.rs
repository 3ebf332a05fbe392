//! Tasks of hostile numbers of rows: refused, or bounded work. Their tensors are pretended, as those of a tensor
//! library whose rows are all one are: such a tensor takes a few bytes.
#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::pool::Terms;
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    Clock, DType, DeviceError, Dim, Dims, HostTensor, Pass, Schema, SubmitError, TensorInfo, TensorOps,
    TensorSpec,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A tensor of so many rows, and of as many columns.
struct Pretended(usize, usize);

#[derive(Default)]
struct Ops {
    slices: AtomicUsize,
}

impl TensorOps for Ops {
    type Tensor = Pretended;

    fn describe(&self, tensor: &Pretended) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: DType::I64, dims: Dims::from([tensor.0, tensor.1]) })
    }

    fn join(&self, parts: Vec<Pretended>) -> Result<Pretended, DeviceError> {
        Ok(Pretended(parts.iter().map(|part| part.0).sum(), 1))
    }

    fn split(&self, _: &Pretended, _: &[usize]) -> Result<Vec<Pretended>, DeviceError> {
        Err(DeviceError::operation("nobody should make all parts at once"))
    }

    fn slice(&self, tensor: &Pretended, rows: Range<usize>) -> Result<Pretended, DeviceError> {
        self.slices.fetch_add(1, Ordering::SeqCst);
        Ok(Pretended(rows.len(), tensor.1))
    }

    fn index_outside(&self, tensor: &Pretended, _: u64) -> Result<Option<i64>, DeviceError> {
        assert!(tensor.0 <= 1 << 20, "nobody should look at each of {} rows", tensor.0);
        Ok(None)
    }

    fn from_host(&self, _: &HostTensor) -> Result<Pretended, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }

    fn to_host(&self, _: &Pretended) -> Result<HostTensor, DeviceError> {
        Err(DeviceError::operation("not asked for"))
    }
}

fn pool(columns: usize, options: PoolOptions) -> (TaskPool<Ops>, Arc<Ops>, Arc<ManualClock>) {
    let (ops, clock) = (Arc::new(Ops::default()), ManualClock::new());
    let spec = TensorSpec::new("x", DType::I64, [Dim::Batch, Dim::Fixed(columns)]);
    let schema = Schema::new(vec![if columns > 0 { spec.with_index_below(9) } else { spec }]).unwrap();
    let pool = TaskPool::new(
        "p".to_owned(),
        Pass::Forward,
        Arc::clone(&ops),
        schema,
        options,
        Arc::clone(&clock) as Arc<_>,
    );
    (pool.unwrap(), ops, clock)
}

fn splitting() -> PoolOptions {
    PoolOptions::default().split_large_tasks(true)
}

#[test]
fn more_rows_than_may_wait_are_refused_before_they_are_looked_at() {
    for columns in [0, 1] {
        let (pool, _, _) = pool(columns, splitting());
        for rows in [1 << 44, usize::MAX] {
            let refused = pool.try_submit(vec![Pretended(rows, columns)]).err().unwrap();
            assert!(matches!(refused.error, SubmitError::TooManyRows { max: 65_536, .. }), "{refused}");
        }
    }
}

#[test]
fn a_large_task_is_cut_as_its_turn_comes() {
    let (pool, ops, clock) = pool(1, splitting());
    let ticket = pool.try_submit(vec![Pretended(65_536, 1)]).unwrap();
    assert_eq!(ops.slices.load(Ordering::SeqCst), 0, "nothing is cut at submit");
    let contract = pool.as_pool();
    for batches in 1..=1024 {
        let batch = contract.cut(&Terms::new(clock.now(), usize::MAX)).unwrap();
        assert_eq!((batch.tasks.len(), batch.pieces.len()), (1, 1));
        for piece in batch.pieces {
            assert_eq!((piece.slice)(piece.rows).unwrap()[0].0, 64);
        }
        assert_eq!(ops.slices.load(Ordering::SeqCst), batches);
        for task in batch.tasks {
            task.reply.answer(Ok(vec![Pretended(64, 1)]));
        }
    }
    assert!(contract.cut(&Terms::new(clock.now(), usize::MAX)).is_none());
    assert_eq!(ticket.wait().unwrap()[0].0, 65_536);
}

#[test]
fn a_pool_without_a_bound_takes_what_can_be_counted() {
    let unbounded = splitting().capacity_rows(Some(usize::MAX));
    let (pool, ops, clock) = pool(1, unbounded.clone());
    let refused = pool.try_submit(vec![Pretended(usize::MAX, 1)]).err().unwrap();
    assert!(matches!(refused.error, SubmitError::TooManyRows { .. }), "{refused}");
    let whole = unbounded.max_rows(usize::MAX).split_large_tasks(false);
    let (pool, ..) = (self::pool(0, whole).0, ops, clock);
    let first = pool.try_submit(vec![Pretended(usize::MAX, 0)]).unwrap();
    let refused = pool.try_submit(vec![Pretended(1, 0)]).err().unwrap();
    assert!(matches!(refused.error, SubmitError::Full { .. }), "{refused}");
    drop(first);
}
