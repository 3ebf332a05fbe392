//! What all systems are given to do: a block on a device, and callers' tasks of one row each.

use crate::Result;
use skep_runtime_core::{Backend, BlockInfo, BlockState, BoxError, Device, Fit, Unmatched};
use std::sync::atomic::{AtomicU64, Ordering};

/// One system runs at a time, so one pair of counters serves all.
static BATCHES: AtomicU64 = AtomicU64::new(0);
static ROWS: AtomicU64 = AtomicU64::new(0);

/// Batches that all blocks of this process have run to their end so far, and their rows.
pub(crate) fn ran_so_far() -> (u64, u64) {
    (BATCHES.load(Ordering::Relaxed), ROWS.load(Ordering::Relaxed))
}

/// Makes a caller's tasks, one after the other. Each has one row.
pub(crate) type Tasks<T> = Box<dyn FnMut() -> Vec<T> + Send>;

type Block<D> = Box<dyn Backend<D>>;
type MakeBlock<D> = dyn Fn(&str) -> Result<Block<D>>;

pub(crate) struct Work<D: Device> {
    device: D,
    block: Box<MakeBlock<D>>,
    tasks: Box<dyn Fn() -> Tasks<D::Tensor>>,
}

pub(crate) fn block_of<D: Device>(block: impl Backend<D>) -> Block<D> {
    Box::new(block)
}

impl<D: Device + Clone> Work<D> {
    pub(crate) fn new(
        device: D,
        block: impl Fn(&str) -> Result<Block<D>> + 'static,
        tasks: impl Fn() -> Tasks<D::Tensor> + 'static,
    ) -> Self {
        Self { device, block: Box::new(block), tasks: Box::new(tasks) }
    }

    pub(crate) fn device(&self) -> D {
        self.device.clone()
    }

    /// The block of this name, which counts its batches.
    pub(crate) fn block(&self, name: &str) -> Result<Counted<D>> {
        Ok(Counted::new((self.block)(name)?, Some(self.device())))
    }

    /// The block on its device, without any runtime.
    pub(crate) fn module(&self) -> Result<Module<D>> {
        let mut block = self.block("bare")?;
        block.load(&self.device).map_err(|error| error.to_string())?;
        Ok(Module { device: self.device(), block })
    }

    pub(crate) fn tasks(&self) -> Tasks<D::Tensor> {
        (self.tasks)()
    }
}

/// A block that counts how often it is called forward, and with how many rows.
pub(crate) struct Counted<D: Device> {
    block: Block<D>,
    /// `None` of a block that does not count.
    device: Option<D>,
    is_ragged: bool,
}

impl<D: Device> Counted<D> {
    fn new(block: Block<D>, device: Option<D>) -> Self {
        let is_ragged = block.info().inputs.offsets().is_some();
        Self { block, device, is_ragged }
    }

    /// A block beside those that are measured.
    pub(crate) fn uncounted(block: Block<D>) -> Self {
        Self::new(block, None)
    }
}

impl<D: Device> Backend<D> for Counted<D> {
    fn info(&self) -> BlockInfo {
        self.block.info()
    }

    fn load(&mut self, device: &D) -> std::result::Result<(), BoxError> {
        self.block.load(device)
    }

    fn forward(&mut self, inputs: &[D::Tensor]) -> std::result::Result<Vec<D::Tensor>, BoxError> {
        let Some(device) = &self.device else { return self.block.forward(inputs) };
        // Tasks that are laid end to end have elements, and their offsets one more than rows.
        let (counted, more) = if self.is_ragged { (inputs.last(), 1) } else { (inputs.first(), 0) };
        let rows = counted.map(|input| device.describe(input)).transpose()?;
        let outputs = self.block.forward(inputs);
        // Afterwards: with the first answer, when the measurement begins, the next batch may have begun.
        BATCHES.fetch_add(1, Ordering::Relaxed);
        let rows = rows.and_then(|info| info.rows()).unwrap_or(more) - more;
        ROWS.fetch_add(rows as u64, Ordering::Relaxed);
        outputs
    }

    fn backward(
        &mut self,
        inputs: &[D::Tensor],
        gradients: &[D::Tensor],
    ) -> std::result::Result<Vec<D::Tensor>, BoxError> {
        self.block.backward(inputs, gradients)
    }

    fn state(&self) -> std::result::Result<BlockState, BoxError> {
        self.block.state()
    }

    fn restore(&mut self, state: &BlockState, fit: Fit) -> std::result::Result<Unmatched, BoxError> {
        self.block.restore(state, fit)
    }

    fn revision(&self) -> Option<u64> {
        self.block.revision()
    }
}

/// A block on its device: what a system calls that brings no device of its own.
pub(crate) struct Module<D: Device> {
    device: D,
    block: Counted<D>,
}

impl<D: Device> Module<D> {
    /// Takes what the block needs to once per thread.
    pub(crate) fn bind(&self) -> std::result::Result<(), BoxError> {
        Ok(self.device.bind_thread()?)
    }

    /// Joins the tasks' tensors, calls the block, and cuts its outputs up by task.
    pub(crate) fn run(
        &mut self,
        tasks: Vec<Vec<D::Tensor>>,
    ) -> std::result::Result<Vec<Vec<D::Tensor>>, BoxError> {
        let rows = vec![1; tasks.len()];
        let arity = tasks.first().map_or(0, Vec::len);
        let mut columns: Vec<_> = (0..arity).map(|_| Vec::with_capacity(tasks.len())).collect();
        for task in tasks {
            columns.iter_mut().zip(task).for_each(|(column, tensor)| column.push(tensor));
        }
        let inputs = columns
            .iter()
            .map(|parts| self.device.gather(parts))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let outputs = self.block.forward(&inputs)?;
        self.device.synchronize()?;
        let mut answers: Vec<_> = rows.iter().map(|_| Vec::with_capacity(outputs.len())).collect();
        for output in outputs {
            let parts = self.device.scatter(output, &rows)?;
            answers.iter_mut().zip(parts).for_each(|(answer, part)| answer.push(part));
        }
        Ok(answers)
    }
}
