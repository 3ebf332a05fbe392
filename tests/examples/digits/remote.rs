//! One block as its callers see it: rows in, rows out, some time later.

use crate::common::{DemoDevice, Result, skep};
use crate::rows::{Rows, Tensor};
use skep::pool::{Served, TaskPool};
use skep::runtime::{Priority, Request, Ticket};
use std::sync::Arc;
use std::time::Duration;

/// How a caller wants to be served.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) priority: Priority,
    /// How long a task may wait before it starts to run; `None` for as long as it takes.
    pub(crate) patience: Option<Duration>,
}

/// A served block: the gate, or an expert. Cheap to clone, so each caller can have its own.
#[derive(Clone)]
pub(crate) struct Remote {
    device: Arc<DemoDevice>,
    block: Served<DemoDevice>,
}

/// Rows that are on their way. Dropped, the task is cancelled if it does not run yet.
pub(crate) struct Pending {
    device: Arc<DemoDevice>,
    ticket: Ticket<Tensor>,
}

impl Remote {
    pub(crate) fn new(device: Arc<DemoDevice>, block: Served<DemoDevice>) -> Self {
        Self { device, block }
    }

    /// Asks for the outputs of these rows. The answer is waited for later, so several blocks can be asked at
    /// once.
    pub(crate) fn forward(&self, inputs: &Rows, manner: Manner) -> Result<Pending> {
        self.submit(&self.block.forward, vec![inputs.to_tensor(&self.device)?], manner)
    }

    /// Trains the block: `gradients` are those of the loss by the outputs for `inputs`. The answer is the
    /// gradients by the inputs, which this demo has no use for beyond knowing that the step is done.
    pub(crate) fn backward(&self, inputs: &Rows, gradients: &Rows, manner: Manner) -> Result<Pending> {
        let pool = self.block.backward.as_ref().ok_or("block cannot be trained")?;
        let tensors = vec![inputs.to_tensor(&self.device)?, gradients.to_tensor(&self.device)?];
        self.submit(pool, tensors, manner)
    }

    fn submit(&self, pool: &TaskPool<DemoDevice>, inputs: Vec<Tensor>, manner: Manner) -> Result<Pending> {
        let mut request = Request::new(inputs).priority(manner.priority);
        if let Some(patience) = manner.patience {
            request = request.deadline(patience);
        }
        // A refused task comes back with its inputs; here they are made anew when they are needed again.
        let ticket = pool.submit(request).map_err(|refused| refused.error)?;
        Ok(Pending { device: Arc::clone(&self.device), ticket })
    }
}

impl Pending {
    pub(crate) fn wait(self) -> Result<Rows> {
        let outputs = self.ticket.wait()?;
        Rows::from_tensor(&self.device, outputs.first().ok_or("block gave no output")?)
    }
}
