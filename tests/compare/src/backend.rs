//! The one place that knows which backend runs the models.

use crate::Result;
use crate::work::{Work, block_of};
use skep_runtime_core::{DType, Dim, HostTensor, TensorOps, TensorSpec};
use std::path::Path;

#[cfg(all(feature = "candle", not(feature = "tch")))]
use skep_backend_candle as backend;
#[cfg(feature = "tch")]
use skep_backend_tch as backend;

#[cfg(all(feature = "candle", not(feature = "tch")))]
pub(crate) use backend::CandleDevice as BackendDevice;
#[cfg(feature = "tch")]
pub(crate) use backend::TchDevice as BackendDevice;

/// The block of a published text model.
pub(crate) use backend::blocks::TextModel as TextBlock;

/// What the tables call the backend.
pub(crate) const NAME: &str = if cfg!(feature = "tch") { "tch" } else { "candle" };

/// Weights and inputs are drawn from here.
pub(crate) const SEED: u64 = 7;

/// 1,024 to 4,096 to 1,024 features, with gelu between.
pub(crate) fn ffn() -> Result<Work<BackendDevice>> {
    work("ffn", "input=1024, hidden=4096, output=1024", 0)
}

/// One encoder layer of the size of `MiniLM`'s.
pub(crate) fn transformer(tokens: usize) -> Result<Work<BackendDevice>> {
    work("transformer", "size=384, heads=12, hidden=1536", tokens)
}

/// all-MiniLM-L6-v2.
pub(crate) fn minilm(folder: &Path, tokens: usize) -> Result<Work<BackendDevice>> {
    work("text_model", &format!("directory={}", folder.display()), tokens)
}

/// A kind of the registry, with tasks whose free dims are `tokens`.
fn work(kind: &'static str, config: &str, tokens: usize) -> Result<Work<BackendDevice>> {
    let mut config: backend::Config = config.parse()?;
    if kind != "text_model" {
        config = config.with("seed", SEED);
    }
    let block =
        move |name: &str| Ok(block_of(backend::Registry::with_defaults().build(kind, name, &config)?));
    let schema = block("schema")?.info().inputs;
    let device = BackendDevice::cpu();
    let hosts = schema.tensors().iter().map(|spec| host_tensor(spec, tokens)).collect::<Result<Vec<_>>>()?;
    let tasks = move || {
        let (device, hosts) = (BackendDevice::cpu(), hosts.clone());
        // Made anew for each task, as a front end does that gets bytes from somewhere.
        Box::new(move || hosts.iter().map(|host| device.from_host(host).expect("a small tensor")).collect())
            as Box<_>
    };
    Ok(Work::new(device, block, tasks))
}

/// One row of what an input takes: numbers between -1 and 1, indices in their range, masks of ones.
pub(crate) fn host_tensor(spec: &TensorSpec, free: usize) -> Result<HostTensor> {
    let dims: Vec<usize> = spec
        .dims()
        .iter()
        .map(|dim| match *dim {
            Dim::Batch => 1,
            Dim::Fixed(size) => size,
            Dim::Free { max, .. } => free.min(max),
        })
        .collect();
    let count = dims.iter().product();
    let mut state = SEED;
    let mut next = || {
        // A linear congruential generator: what matters is that the numbers are the same every time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let below = if spec.name().contains("mask") { 1 } else { spec.index_below().unwrap_or(1) };
    let lowest = u64::from(spec.name().contains("mask"));
    let mut index = || lowest + next() % below;
    Ok(match spec.dtype() {
        DType::U32 => {
            let ids =
                (0..count).map(|_| u32::try_from(index())).collect::<std::result::Result<Vec<_>, _>>()?;
            HostTensor::from_u32(&dims, &ids)?
        }
        DType::I64 => {
            let ids =
                (0..count).map(|_| i64::try_from(index())).collect::<std::result::Result<Vec<_>, _>>()?;
            HostTensor::from_i64(&dims, &ids)?
        }
        DType::F32 => {
            let values: Vec<_> = (0..count).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect();
            HostTensor::from_f32(&dims, &values)?
        }
        other => {
            return Err(format!("input `{}` has dtype {other}, expected u32, i64 or f32", spec.name()).into());
        }
    })
}
