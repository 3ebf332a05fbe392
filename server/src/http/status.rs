//! What the page shows: queues, times, batches, padding, callers, and the last problems.

use crate::app::App;
use crate::http::models::sum;
use crate::http::reply::Reply;
use crate::model::Model;
use crate::problem::{Problem, ProblemKind};
use crate::tally::{Failure, SECONDS, Share};
use serde_json::{Map, Value, json};
use skep_runtime_core::Flow;
use skep_stats::Snapshot;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Callers of a model that are told apart: those that took most of the device.
const CALLERS: usize = 8;

/// The state of this moment, made on another thread: it grows with the models.
pub(super) async fn status(app: Arc<App>) -> Result<Reply, Problem> {
    let made = tokio::task::spawn_blocking(move || Reply::json(&state(&app)));
    made.await.map_err(|_| Problem::new(ProblemKind::Failed, "the state could not be written"))?
}

fn state(app: &App) -> Value {
    let snapshot = app.pages.snapshot();
    let obstacle = app.obstacle();
    let problems = app.recent.all().into_iter().map(|seen| {
        json!({
            "asked": seen.asked,
            "code": seen.code,
            "reason": seen.reason,
            "times": seen.times,
            "last_ms": seen.last_ms,
        })
    });
    let served = app.catalogue.served();
    json!({
        "ready": obstacle.is_none(),
        "obstacle": obstacle,
        "device": snapshot.device,
        "at_work": app.life.at_work(),
        "latency_seconds": SECONDS,
        "models": served.iter().map(|it| model(app, it, &snapshot)).collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn model(app: &App, model: &Model, snapshot: &Snapshot) -> Value {
    let (requests, batches) = (model.tally.requests(), model.tally.batches());
    let (tasks, rows) = model.tally.waiting();
    let pool = snapshot.pools.iter().find(|pool| pool.name == model.front.name());
    let failures = Failure::ALL.into_iter().zip(requests.failures).filter(|(_, count)| *count > 0);
    let failures: Map<_, _> =
        failures.map(|(failure, count)| (failure.name().to_lowercase(), count.into())).collect();
    let sizes = batches.sizes.iter();
    let sizes = sizes.map(|(rows, times)| json!({ "rows": rows, "batches": times.infer.count }));
    json!({
        "name": model.name,
        "version": model.version,
        "queue": {
            "tasks": tasks,
            "rows": rows,
            "capacity": model.rules.capacity,
            "in_flight": pool.map_or(0, |pool| pool.in_flight),
        },
        "requests": { "success": sum(requests.success), "fail": sum(requests.fail), "failures": failures },
        "latency": requests.by_time,
        "waited": sum(batches.queue),
        "rows": batches.rows,
        "batches": batches.count,
        "device_ns": nanos(batches.busy),
        "batch_rows": sizes.collect::<Vec<_>>(),
        "padding": pool.map_or(0.0, |pool| pool.padding),
        "callers": callers(app, batches.shares),
    })
}

/// Whose tasks took the device, the largest part first.
fn callers(app: &App, shares: BTreeMap<Option<Flow>, Share>) -> Vec<Value> {
    let mut shares: Vec<_> = shares.into_iter().collect();
    shares.sort_by_key(|(_, share)| Reverse(share.busy));
    let caller = |name: String, share: &Share| {
        json!({
            "name": name,
            "tasks": share.queue.count,
            "rows": share.rows,
            "device_ns": nanos(share.busy),
            "waited_ns": share.queue.ns / share.queue.count.max(1),
        })
    };
    let name = |of: &Option<Flow>| of.map_or_else(|| "others".to_owned(), |flow| app.keys.name(flow));
    let rest = shares.split_off(shares.len().min(CALLERS));
    let mut callers: Vec<_> = shares.iter().map(|(of, share)| caller(name(of), share)).collect();
    if !rest.is_empty() {
        let mut all = Share::default();
        for (_, share) in &rest {
            all.add(share);
        }
        callers.push(caller(format!("{} others", rest.len()), &all));
    }
    callers
}
