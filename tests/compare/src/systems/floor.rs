//! What no such system can go below: one queue, one thread that drains it greedily, one-shot replies, and none
//! of the features.

use super::{CAPACITY, MAX_ROWS};
use crate::Result;
use crate::drive::{Awaited, Blocking};
use crate::work::{Module, Work};
use skep_runtime_core::Device;
use std::collections::VecDeque;
use std::time::Duration;

/// Nobody comes for so long only while callers leave.
const LEAVING: Duration = Duration::from_millis(50);

struct Task<T> {
    pool: usize,
    inputs: Vec<T>,
    reply: oneshot::Sender<Vec<T>>,
}

pub(crate) struct Floor<T>(flume::Sender<Task<T>>);

impl<T> Clone for Floor<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Floor<T> {
    pub(crate) fn start<D: Device<Tensor = T> + Clone>(work: &Work<D>, pools: usize) -> Result<Self> {
        let mut modules = (0..pools).map(|_| work.module()).collect::<Result<Vec<_>>>()?;
        let (send, receive) = flume::bounded::<Task<T>>(CAPACITY);
        std::thread::spawn(move || {
            for module in &modules {
                module.bind().expect("a device of this thread");
            }
            let mut tasks = Vec::new();
            while let Ok(first) = receive.recv() {
                tasks.push(first);
                if let [module] = &mut *modules {
                    tasks.extend(receive.try_iter().take(MAX_ROWS - 1));
                    run(module, tasks.drain(..));
                } else {
                    // With several pools, what waits is sorted by pool; the oldest task's pool runs.
                    tasks.extend(receive.try_iter());
                    while let Some(pool) = tasks.first().map(|task| task.pool) {
                        let batch: Vec<_> =
                            tasks.extract_if(.., |task| task.pool == pool).take(MAX_ROWS).collect();
                        run(&mut modules[pool], batch.into_iter());
                        tasks.extend(receive.try_iter());
                    }
                }
            }
        });
        Ok(Self(send))
    }

    /// The same for callers of whom each pool always has `rows`: its batches are never smaller, and pools run as they fill up.
    /// The bare call with its callers' work beside it, which takes processors that the call would have to itself.
    pub(crate) fn of_full_batches<D: Device<Tensor = T> + Clone>(
        work: &Work<D>,
        pools: usize,
        rows: usize,
    ) -> Result<Self> {
        let mut modules = (0..pools).map(|_| work.module()).collect::<Result<Vec<_>>>()?;
        let (send, receive) = flume::bounded::<Task<T>>(CAPACITY);
        std::thread::spawn(move || {
            for module in &modules {
                module.bind().expect("a device of this thread");
            }
            let mut waiting: Vec<Vec<Task<T>>> = (0..pools).map(|_| Vec::new()).collect();
            let mut full = VecDeque::new();
            let file = |task: Task<T>, waiting: &mut Vec<Vec<Task<T>>>, full: &mut VecDeque<usize>| {
                let pool = task.pool;
                waiting[pool].push(task);
                if waiting[pool].len() == rows {
                    full.push_back(pool);
                }
            };
            loop {
                match receive.recv_timeout(LEAVING) {
                    Ok(task) => file(task, &mut waiting, &mut full),
                    // Callers leave at the end of a round, each when its task is answered.
                    Err(flume::RecvTimeoutError::Timeout) => {
                        full.extend((0..pools).filter(|pool| !waiting[*pool].is_empty()));
                    }
                    Err(flume::RecvTimeoutError::Disconnected) => return,
                }
                receive.try_iter().for_each(|task| file(task, &mut waiting, &mut full));
                while let Some(pool) = full.pop_front() {
                    run(&mut modules[pool], std::mem::take(&mut waiting[pool]).into_iter());
                    receive.try_iter().for_each(|task| file(task, &mut waiting, &mut full));
                }
            }
        });
        Ok(Self(send))
    }

    fn send(&self, pool: usize, inputs: Vec<T>) -> oneshot::Receiver<Vec<T>> {
        let (reply, pending) = oneshot::channel();
        self.0.send(Task { pool, inputs, reply }).expect("a running thread");
        pending
    }
}

fn run<D: Device>(module: &mut Module<D>, batch: impl ExactSizeIterator<Item = Task<D::Tensor>>) {
    let mut replies = Vec::with_capacity(batch.len());
    let inputs = batch
        .map(|task| {
            replies.push(task.reply);
            task.inputs
        })
        .collect();
    let outputs = module.run(inputs).expect("a block that does not fail");
    for (reply, outputs) in replies.into_iter().zip(outputs) {
        reply.send(outputs).ok();
    }
}

impl<T: Send + 'static> Blocking<T> for Floor<T> {
    type Pending = oneshot::Receiver<Vec<T>>;

    fn submit(&self, pool: usize, task: Vec<T>) -> Self::Pending {
        self.send(pool, task)
    }

    fn wait(&self, pending: Self::Pending) -> Vec<T> {
        pending.recv().expect("an answer")
    }
}

impl<T: Send + 'static> Awaited<T> for Floor<T> {
    async fn call(&self, pool: usize, task: Vec<T>) -> Vec<T> {
        self.send(pool, task).await.expect("an answer")
    }
}
