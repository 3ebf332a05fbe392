//! The one file that knows a tensor library: it makes the device, and puts models on it.

use crate::folder::{Plan, What};
use crate::model::{Model, Rules};
use crate::settings::{Config, Order};
use crate::tally::Tallies;
use crate::texts::Texts;
#[cfg(all(feature = "candle", not(feature = "tch")))]
use skep_backend_candle::{CandleBlock as OwnBlock, CandleDevice as Own, CpuOptions, Registry, blocks};
#[cfg(feature = "tch")]
use skep_backend_tch::{CpuOptions, Registry, TchBlock as OwnBlock, TchDevice as Own, blocks};
use skep_models::{Ask, Kind, TextError, TextModel};
use skep_pool::{ServeMore, ServeOptions, Served};
use skep_runtime_core::pool::Policy;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{
    Backend, BoxError, Classes, ControlError, DType, DeviceError, EarliestDeadline, Fair, Flow, Health,
    Observer, OldestFirst, RunningRuntime, RuntimeBuilder, Shutdown, ShutdownError,
};
use skep_stats::{Fanout, Stats};
use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The name of the backend that models run on.
#[cfg(feature = "tch")]
pub const NAME: &str = "tch";
/// The name of the backend that models run on.
#[cfg(all(feature = "candle", not(feature = "tch")))]
pub const NAME: &str = "candle";
#[cfg(not(any(feature = "candle", feature = "tch")))]
compile_error!("skep-server runs on a backend: enable the feature `candle` or `tch`");

/// The reason why models cannot be put on the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no such device.
    #[error("device is `{name}`, expected `cpu`{}", if cfg!(feature = "tch") { " or `cuda:0`" } else { ", `cuda:0` or `metal:0`" })]
    UnknownDevice {
        /// The name.
        name: String,
    },
    /// The device cannot be used.
    #[error("device `{name}` cannot be used")]
    Device {
        /// The name.
        name: String,
        /// The backend's error.
        source: DeviceError,
    },
    /// A model cannot be made of what its folder says, or not be loaded.
    #[error("model `{model}` cannot be served")]
    Model {
        /// The model's name.
        model: String,
        /// The reason.
        source: BoxError,
    },
    /// The runtime does not start.
    #[error("the runtime does not start")]
    Runtime(#[source] skep_runtime_core::StartError),
}

/// The device with the models on it.
pub(crate) struct Machine {
    runtime: RunningRuntime<Own>,
    tallies: Arc<Tallies>,
    /// By the names of blocks.
    served: Mutex<BTreeMap<String, Served<Own>>>,
}

impl Machine {
    /// Starts a runtime without models on the device that `config` names.
    pub(crate) fn start(
        config: &Config,
        weights: impl Iterator<Item = (Flow, f64)>,
    ) -> Result<(Self, Stats), StartError> {
        let device = device(config)?;
        let weights: Vec<_> = weights.collect();
        // Connections are many, and are known by numbers that others get after them.
        let stats = if weights.is_empty() { Stats::without_flows() } else { Stats::new() };
        let tallies = Arc::new(Tallies::default());
        let observers: Vec<Arc<dyn Observer>> =
            vec![stats.observer(), Arc::clone(&tallies) as Arc<dyn Observer>];
        let mut builder = RuntimeBuilder::new(device)
            .prefetch(config.prefetch)
            .policy(policy(config.policy, weights.into_iter()))
            .observer(Arc::new(Fanout(observers)));
        if let Some(limit) = config.batch_limit {
            builder = builder.batch_limit(limit.0);
        }
        let runtime = builder.start().map_err(StartError::Runtime)?;
        Ok((Self { runtime, tallies, served: Mutex::default() }, stats))
    }

    pub(crate) fn tallies(&self) -> Arc<Tallies> {
        Arc::clone(&self.tallies)
    }

    pub(crate) fn health(&self) -> Health {
        self.runtime.handle().health()
    }

    pub(crate) fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError> {
        self.runtime.shutdown(how, limit)
    }

    /// Puts a model on the device: in the place of `old` if nothing but the weights differs, else beside what is there.
    /// No two threads may do this at once.
    pub(crate) fn load(&self, config: &Config, plan: &Plan, old: Option<&Model>) -> Result<Model, BoxError> {
        if let Some(old) = old.filter(|old| old.fingerprint == plan.fingerprint)
            && let Some(served) = self.replace(plan, &old.block)?
        {
            return self.model(config, plan, &served, &old.block);
        }
        let name = self.free_name(&plan.name);
        let options = ServeOptions::forward(plan.pool.clone());
        let served = self.runtime.handle().serve(block(plan, &name)?, options)?;
        self.served.lock().insert(name.clone(), served.clone());
        let model = self.model(config, plan, &served, &name).and_then(|model| {
            if plan.warm_up {
                warm_up(&model)?;
            }
            Ok(model)
        });
        if model.is_err() {
            // Nobody knows of it yet.
            self.unload(&name, Duration::MAX)?;
        }
        model
    }

    /// Puts a model in the place of a block. `None` if it takes or gives other tensors than that one.
    fn replace(&self, plan: &Plan, old: &str) -> Result<Option<Served<Own>>, BoxError> {
        let Some(served) = self.served.lock().get(old).cloned() else { return Ok(None) };
        match self.runtime.handle().replace(old, block(plan, old)?) {
            Ok(()) => Ok(Some(served)),
            Err(skep_runtime_core::StartError::OtherSchema { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The model's name, or that with a number behind it while another block has it.
    fn free_name(&self, name: &str) -> String {
        let served = self.served.lock();
        let names = iter::once(name.to_owned()).chain((2_u32..).map(|n| format!("{name}@{n}")));
        names.into_iter().find(|name| !served.contains_key(name)).unwrap_or_default()
    }

    /// Takes a block off the device.
    pub(crate) fn unload(&self, block: &str, limit: Duration) -> Result<(), ControlError> {
        self.served.lock().remove(block);
        self.runtime.handle().remove(block, Shutdown::Drain, limit)
    }

    /// The model as the doors see it.
    fn model(
        &self,
        config: &Config,
        plan: &Plan,
        served: &Served<Own>,
        block: &str,
    ) -> Result<Model, BoxError> {
        let texts = match &plan.what {
            What::Text { model, .. } if model.tokens().is_some() => {
                let door = Arc::new(served.forward.clone());
                let device = Arc::clone(self.runtime.handle().device());
                Some(Arc::new(TextModel::new(Arc::clone(model), device, door)?) as Arc<dyn Texts>)
            }
            What::Text { .. } | What::Block { .. } => None,
        };
        let dtype = match &plan.what {
            What::Text { model, precision, .. } => match precision.of(model) {
                DType::F16 => "float16",
                DType::BF16 => "bfloat16",
                DType::F64 => "float64",
                _ => "float32",
            },
            What::Block { .. } => "float32",
        };
        let front = served.front().ok_or("its outputs are not known")?;
        let rules = Rules {
            max_rows: plan.pool.max_rows,
            capacity: plan.pool.capacity,
            splits: plan.pool.split_large_tasks,
            when_full: plan.when_full.unwrap_or(config.when_full),
            wait_limit: plan.wait_limit.unwrap_or(config.wait_limit).0,
            priority: plan.pool.priority,
        };
        Ok(Model {
            name: plan.name.clone(),
            version: plan.version.clone(),
            block: block.to_owned(),
            fingerprint: plan.fingerprint,
            platform: format!("skep_{NAME}"),
            dtype,
            tally: self.tallies.of(front.name()),
            front,
            texts,
            rules,
            life: watch::Sender::new(()),
        })
    }
}

/// Looks if a plan can be served by this program, before it is on a device.
pub(crate) fn check(plan: &Plan) -> Result<(), BoxError> {
    block(plan, &plan.name).map(drop)
}

/// The block of a plan. Nobody trains it through these doors.
fn block(plan: &Plan, name: &str) -> Result<impl Backend<Own> + use<>, BoxError> {
    let block = match &plan.what {
        What::Text { model, precision, ragged } => {
            let text = blocks::TextModel { model: Arc::clone(model), precision: *precision };
            if *ragged { ragged_block(text, name)? } else { text.block(name)? }
        }
        What::Block { kind, config } => Registry::with_defaults().build(kind, name, config)?,
    };
    Ok(block.inference_only())
}

/// A text model that takes texts laid end to end.
#[cfg(all(feature = "candle", not(feature = "tch")))]
fn ragged_block(text: blocks::TextModel, name: &str) -> Result<OwnBlock, BoxError> {
    Ok(text.ragged_block(name)?)
}

/// A text model that takes texts laid end to end: libtorch's does not.
#[cfg(feature = "tch")]
fn ragged_block(_: blocks::TextModel, _: &str) -> Result<OwnBlock, BoxError> {
    Err(format!("rows is `ragged`, expected `padded`, which is all that backend {NAME} has").into())
}

/// Strict classes by priority, and in each of them an order.
fn policy(order: Order, weights: impl Iterator<Item = (Flow, f64)>) -> Arc<dyn Policy> {
    match order {
        Order::Fair => {
            let fair = weights.fold(Fair::new(), |fair, (flow, weight)| fair.weight(flow, weight));
            Arc::new(Classes::of(fair))
        }
        Order::OldestFirst => Arc::new(OldestFirst),
        Order::EarliestDeadline => Arc::new(Classes::of(EarliestDeadline::new())),
    }
}

fn device(config: &Config) -> Result<Own, StartError> {
    let name = &config.device;
    let unknown = || StartError::UnknownDevice { name: name.clone() };
    let (kind, ordinal) = name.split_once(':').unwrap_or((name, "0"));
    let ordinal: usize = ordinal.parse().map_err(|_| unknown())?;
    let made = match kind {
        "cpu" => Ok(Own::cpu_with(CpuOptions::default().threads(config.threads))),
        "cuda" => Own::cuda(ordinal),
        #[cfg(not(feature = "tch"))]
        "metal" => Own::metal(ordinal),
        _ => return Err(unknown()),
    };
    made.map_err(|source| StartError::Device { name: name.clone(), source })
}

/// Runs a text through a model, so that the first client does not wait for what is made once.
fn warm_up(model: &Model) -> Result<(), BoxError> {
    let Some(texts) = &model.texts else { return Ok(()) };
    let (text, ask) = (["a".to_owned()], Ask::new());
    let wait = tokio::runtime::Builder::new_current_thread().build()?;
    let ran: Result<(), TextError> = wait.block_on(async {
        match texts.model().description().kind {
            Kind::Embedding => texts.embed(&text, &ask).await.map(drop),
            Kind::Sequence => texts.classify(&text, &ask).await.map(drop),
            _ => texts.label(&text, &ask).await.map(drop),
        }
    });
    Ok(ran?)
}
