//! The crate `amate`: one engine with one worker per pool, which share the device. It has no replies of its own,
//! so the floor's are used. It waits for nobody (`window` 0).

use super::{CAPACITY, MAX_ROWS};
use crate::Result;
use crate::drive::Blocking;
use crate::work::{Module, Work};
use amate::{Batching, Config, Engine, Queued};
use skep_runtime_core::Device;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Item<T> {
    inputs: Vec<T>,
    reply: oneshot::Sender<Vec<T>>,
}

struct Batches<D: Device> {
    module: Mutex<Module<D>>,
    /// Only one batch at a time is on the device, whatever its pool.
    device: Arc<Mutex<()>>,
}

impl<D: Device> Batching for Batches<D> {
    type Item = Item<D::Tensor>;

    fn weight(&self, _: &Self::Item) -> usize {
        1
    }

    fn window(&self) -> Duration {
        Duration::ZERO
    }

    fn run(&self, batch: Vec<Queued<Self::Item>>) {
        let mut replies = Vec::with_capacity(batch.len());
        let inputs = batch
            .into_iter()
            .map(|queued| {
                replies.push(queued.item.reply);
                queued.item.inputs
            })
            .collect();
        let outputs = {
            let _device = self.device.lock().expect("no panic");
            self.module.lock().expect("no panic").run(inputs).expect("a block that does not fail")
        };
        for (reply, outputs) in replies.into_iter().zip(outputs) {
            reply.send(outputs).ok();
        }
    }
}

pub(crate) struct Amate<T>(Vec<Engine<Item<T>>>);

impl<T: Send + 'static> Amate<T> {
    pub(crate) fn start<D: Device<Tensor = T> + Clone>(work: &Work<D>, pools: usize) -> Result<Self> {
        let device = Arc::default();
        let config =
            Config { max_batch: MAX_ROWS, workers: 1, capacity: Some(CAPACITY), waits_unannounced: false };
        let engines = (0..pools).map(|pool| {
            let batches = Batches { module: Mutex::new(work.module()?), device: Arc::clone(&device) };
            Ok(Engine::start(batches, config, |_| format!("amate-{pool}")))
        });
        Ok(Self(engines.collect::<Result<_>>()?))
    }
}

impl<T: Send + 'static> Blocking<T> for Amate<T> {
    type Pending = oneshot::Receiver<Vec<T>>;

    fn submit(&self, pool: usize, task: Vec<T>) -> Self::Pending {
        let (reply, pending) = oneshot::channel();
        let submitted = self.0[pool].submit(None, Item { inputs: task, reply });
        assert!(submitted.is_ok(), "fewer tasks than the capacity are outstanding");
        pending
    }

    fn wait(&self, pending: Self::Pending) -> Vec<T> {
        pending.recv().expect("an answer")
    }
}
