//! The one file that knows a tensor library: it makes the device, and puts models on it.

use crate::folder::{Plan, What};
use crate::model::{Model, Rules};
use crate::settings::Config;
use crate::tally::Tallies;
use crate::texts::Texts;
#[cfg(all(feature = "candle", not(feature = "tch")))]
use skep_backend_candle::{CandleDevice as Own, CpuOptions, Registry, blocks};
#[cfg(feature = "tch")]
use skep_backend_tch::{CpuOptions, Registry, TchDevice as Own, blocks};
use skep_models::{Ask, Kind, TextError, TextModel};
use skep_pool::{Serve, ServeOptions, Served};
use skep_runtime_core::{
    BoxError, DType, Device, DeviceError, Health, Observer, RunningRuntime, RuntimeBuilder, Shutdown,
    ShutdownError,
};
use skep_stats::{Fanout, Stats};
use std::sync::Arc;
use std::time::Duration;

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

/// A runtime at work, whatever its tensors are.
pub(crate) trait Running: Send + Sync {
    fn health(&self) -> Health;

    fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError>;
}

impl<D: Device> Running for RunningRuntime<D> {
    fn health(&self) -> Health {
        self.handle().health()
    }

    fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError> {
        RunningRuntime::shutdown(self, how, limit)
    }
}

/// What came of plans.
pub(crate) struct Started {
    pub(crate) running: Box<dyn Running>,
    pub(crate) models: Vec<Model>,
    /// Of models that the server is ready without: name and reason.
    pub(crate) failed: Vec<StartError>,
    pub(crate) stats: Stats,
}

/// Loads models onto the device that `config` names, and starts the runtime.
pub(crate) fn start(config: &Config, plans: Vec<Plan>) -> Result<Started, StartError> {
    let device = device(config)?;
    let (stats, tallies) = (Stats::new(), Arc::new(Tallies::default()));
    let observers: Vec<Arc<dyn Observer>> = vec![stats.observer(), Arc::clone(&tallies) as Arc<dyn Observer>];
    let mut builder =
        RuntimeBuilder::new(device).prefetch(config.prefetch).observer(Arc::new(Fanout(observers)));
    if let Some(limit) = config.batch_limit {
        builder = builder.batch_limit(limit.0);
    }
    let (mut models, mut failed) = (Vec::new(), Vec::new());
    for plan in plans {
        match serve(&mut builder, config, &tallies, &plan) {
            Ok(model) => models.push((model, plan)),
            Err(source) => {
                let error = StartError::Model { model: plan.name.clone(), source };
                if !plan.optional {
                    return Err(error);
                }
                failed.push(error);
            }
        }
    }
    let running = builder.start().map_err(StartError::Runtime)?;
    for (model, plan) in &models {
        if plan.warm_up {
            warm_up(model).map_err(|source| StartError::Model { model: plan.name.clone(), source })?;
        }
    }
    let models = models.into_iter().map(|(model, _)| model).collect();
    Ok(Started { running: Box::new(running), models, failed, stats })
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

fn serve(
    builder: &mut RuntimeBuilder<Own>,
    config: &Config,
    tallies: &Tallies,
    plan: &Plan,
) -> Result<Model, BoxError> {
    let options = ServeOptions::forward(plan.pool.clone());
    let dtype = match &plan.what {
        What::Text { model, precision } => match precision.of(model) {
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::F64 => "float64",
            _ => "float32",
        },
        What::Block { .. } => "float32",
    };
    let (served, texts): (Served<Own>, Option<Arc<dyn Texts>>) = match &plan.what {
        What::Text { model, precision } => {
            let block = blocks::TextModel { model: Arc::clone(model), precision: *precision };
            // Nobody trains it through this door.
            let block = block.block(&plan.name)?.inference_only();
            let served = builder.serve(block, options)?;
            let texts = model.tokens().map(|_| {
                let door = Arc::new(served.forward.clone());
                TextModel::new(Arc::clone(model), Arc::clone(builder.device()), door)
            });
            let texts = texts.transpose()?.map(|texts| Arc::new(texts) as Arc<dyn Texts>);
            (served, texts)
        }
        What::Block { kind, config } => {
            let block = Registry::with_defaults().build(kind, &plan.name, config)?.inference_only();
            (builder.serve(block, options)?, None)
        }
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
        platform: format!("skep_{NAME}"),
        dtype,
        tally: tallies.of(front.name()),
        front,
        texts,
        rules,
    })
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
