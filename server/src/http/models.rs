//! What a model is, how it is set up, and how it has been used.

use crate::app::App;
use crate::http::object::Object;
use crate::http::reply::Reply;
use crate::infer::PRIORITIES;
use crate::model::Model;
use crate::problem::Problem;
use crate::repository::{self, Indexed};
use crate::tally::{Sum, Times};
use crate::tensor::datatype::Datatype;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_runtime_core::{Dim, Schema, TensorSpec};
use std::sync::Arc;

/// What is announced of the protocol's extensions.
pub(crate) const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

pub(crate) fn server() -> Result<Reply, Problem> {
    Reply::json(&json!({ "name": "skep", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

/// A spec's dims, `-1` for those that differ; the first is the batch.
pub(crate) fn shape(spec: &TensorSpec) -> Vec<i64> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        _ => -1,
    };
    spec.dims().iter().map(size).collect()
}

pub(crate) fn metadata(model: &Model) -> Result<Reply, Problem> {
    let tensors = |schema: &Schema| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| json!({ "name": spec.name(), "datatype": Datatype::from(spec.dtype()).name(), "shape": shape(spec) });
        schema.tensors().iter().map(tensor).collect()
    };
    Reply::json(&json!({
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": tensors(model.front.inputs()),
        "outputs": tensors(model.front.outputs()),
    }))
}

/// The largest batch that a client may send.
pub(crate) fn max_batch(model: &Model) -> i32 {
    let rows = if model.rules.splits {
        model.rules.max_rows.saturating_mul(model.rules.capacity)
    } else {
        model.rules.max_rows
    };
    i32::try_from(rows).unwrap_or(i32::MAX)
}

pub(crate) fn config(model: &Model) -> Result<Reply, Problem> {
    let tensors = |schema: &Schema| -> Vec<Value> {
        let tensor = |spec: &TensorSpec| json!({ "name": spec.name(), "data_type": Datatype::from(spec.dtype()).config_name(), "dims": shape(spec)[1..] });
        schema.tensors().iter().map(tensor).collect()
    };
    Reply::json(&json!({
        "name": model.name,
        "platform": model.platform,
        "backend": "skep",
        "version_policy": { "latest": { "num_versions": 1 } },
        "max_batch_size": max_batch(model),
        "input": tensors(model.front.inputs()),
        "output": tensors(model.front.outputs()),
        "instance_group": [{ "name": model.name, "kind": "KIND_AUTO", "count": 1 }],
        "dynamic_batching": {
            "preferred_batch_size": [model.rules.max_rows],
            "priority_levels": PRIORITIES,
            "default_priority_level": 1,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": u64::try_from(model.rules.wait_limit.as_micros()).unwrap_or(u64::MAX),
                "allow_timeout_override": true,
                "max_queue_size": model.rules.capacity,
            },
        },
    }))
}

pub(super) fn sum(sum: Sum) -> Value {
    json!({ "count": sum.count, "ns": sum.ns })
}

pub(crate) fn statistics(model: &Model) -> Value {
    let (requests, batches) = (model.tally.requests(), model.tally.batches());
    let none = Sum::default();
    let size = |(rows, times): (&u64, &Times)| {
        json!({
            "batch_size": rows,
            "compute_input": sum(times.input),
            "compute_infer": sum(times.infer),
            "compute_output": sum(times.output),
        })
    };
    json!({
        "name": model.name,
        "version": model.version,
        "last_inference": model.tally.last_ms(),
        "inference_count": batches.rows,
        "execution_count": batches.count,
        "inference_stats": {
            "success": sum(requests.success),
            "fail": sum(requests.fail),
            "queue": sum(batches.queue),
            "compute_input": sum(batches.tasks.input),
            "compute_infer": sum(batches.tasks.infer),
            "compute_output": sum(batches.tasks.output),
            "cache_hit": sum(none),
            "cache_miss": sum(none),
        },
        "response_stats": {},
        "batch_stats": batches.sizes.iter().map(size).collect::<Vec<_>>(),
        "memory_usage": [],
    })
}

fn indexed(model: &Indexed) -> Value {
    json!({ "name": model.name, "version": model.version, "state": model.state, "reason": model.reason })
}

pub(crate) async fn index(app: &Arc<App>, body: &[u8]) -> Result<Reply, Problem> {
    let ready = if body.is_empty() {
        false
    } else {
        let asked: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Problem::invalid(format!("request is not as it should be: {error}")))?;
        match asked.get("ready") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(ready)) => *ready,
            Some(other) => {
                return Err(Problem::invalid(format!("ready is {other}, expected true or false")));
            }
        }
    };
    Reply::json(&repository::index(app, ready).await?.iter().map(indexed).collect::<Vec<_>>())
}

/// What comes with a change of the repository. Nothing does.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Change {
    parameters: Option<Map<String, Value>>,
}

/// The parameters of a change.
fn parameters(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let Object(change) = if body.is_empty() {
        Object::<Change>::default()
    } else {
        serde_json::from_slice(body)
            .map_err(|error| Problem::invalid(format!("request is not as it should be: {error}")))?
    };
    Ok(change.parameters.unwrap_or_default())
}

pub(crate) async fn load(app: &Arc<App>, name: &str, body: &[u8]) -> Result<Reply, Problem> {
    repository::brings_nothing(parameters(body)?.keys())?;
    Reply::json(&indexed(&repository::load(app, name).await?))
}

const DEPENDENTS: &str = "unload_dependents";

pub(crate) async fn unload(app: &Arc<App>, name: &str, body: &[u8]) -> Result<Reply, Problem> {
    // Nothing depends on a model, so there is nothing to be unloaded with it.
    let parameters = parameters(body)?;
    match parameters.get(DEPENDENTS) {
        None | Some(Value::Bool(_)) => {}
        Some(other) => {
            return Err(Problem::invalid(format!("{DEPENDENTS} is {other}, expected true or false")));
        }
    }
    repository::brings_nothing(parameters.keys().filter(|key| *key != DEPENDENTS))?;
    Reply::json(&indexed(&repository::unload(app, name).await?))
}
