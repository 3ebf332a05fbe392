//! Models that come and go while the server runs, by their names in its folder.
//!
//! New weights take the place of the old ones between two batches. If anything else of a model has changed, the new one
//! is put beside the old one and takes its requests from then on; the old one goes when those that it has are answered.
//! One model changes at a time. Files are read and weights placed on threads that may wait.

use crate::app::App;
use crate::catalogue::Entry;
use crate::folder::{self, PlanError};
use crate::lifecycle::Phase;
use crate::model::Model;
use crate::problem::{Problem, ProblemKind};
use skep_runtime_core::{Chain, ControlError};
use std::sync::Arc;
use std::time::Instant;

/// A model in the index of the folder.
pub(crate) struct Indexed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

/// Refuses what would come from elsewhere than the model's folder.
pub(crate) fn brings_nothing<'a>(parameters: impl IntoIterator<Item = &'a String>) -> Result<(), Problem> {
    match parameters.into_iter().next() {
        None => Ok(()),
        Some(name) => Err(Problem::unsupported(format!(
            "parameter `{name}` is not offered: models are what their folders say"
        ))),
    }
}

/// Loads a model of the folder, again if it is served.
pub(crate) async fn load(app: &Arc<App>, name: &str) -> Result<Indexed, Problem> {
    changed(app, name, |app, name| async move { load_alone(&app, &name).await }).await
}

/// Lets a model go. One that is not served stays as it is.
pub(crate) async fn unload(app: &Arc<App>, name: &str) -> Result<Indexed, Problem> {
    changed(app, name, |app, name| async move { unload_alone(&app, &name).await }).await
}

/// Makes a change when it has its turn, also if the client that asked has left by then, and tells of the model after it.
async fn changed<F>(
    app: &Arc<App>,
    name: &str,
    change: impl FnOnce(Arc<App>, String) -> F + Send + 'static,
) -> Result<Indexed, Problem>
where
    F: Future<Output = Result<(), Problem>> + Send,
{
    if !app.config.management {
        let message = "loading and unloading are not allowed: start the server with `--management`";
        return Err(Problem::new(ProblemKind::Forbidden, message));
    }
    let (own, name) = (Arc::clone(app), name.to_owned());
    let change = tokio::spawn(async move {
        let app = Arc::clone(&own);
        let _turn = app.change.lock().await;
        if app.life.phase() != Phase::Ready {
            return Err(Problem::new(ProblemKind::Unavailable, "server is draining"));
        }
        change(own, name.clone()).await?;
        let entry = app.catalogue.get(&name).unwrap_or_else(|| Entry::Missing(NOT_LOADED.to_owned()));
        Ok(indexed(&name, &entry, app.obstacle()))
    });
    change.await.unwrap_or_else(|_| Err(Problem::new(ProblemKind::Failed, "the change was given up")))
}

async fn load_alone(app: &Arc<App>, name: &str) -> Result<(), Problem> {
    let (folder, wanted) = (app.config.folder.clone(), name.to_owned());
    let found = blocking(move || folder::find(&folder, &wanted)).await?;
    let found = found.map_err(|error| unreadable(&error))?.ok_or_else(|| {
        Problem::not_found(format!("there is no model `{name}` in the folder that is served"))
    })?;
    let old = match app.catalogue.get(name) {
        Some(Entry::Served(model)) => Some(model),
        _ => None,
    };
    if old.is_none() {
        app.catalogue.set(name, Entry::Loading);
    }
    let loaded = match found.plan {
        Err(error) => Err(Problem::invalid(format!("model `{name}` cannot be served: {}", Chain(&error)))),
        Ok(plan) => {
            let (own, old) = (Arc::clone(app), old.clone());
            let load = move || own.machine.load(&own.config, &plan, old.as_deref());
            let failed = |error: skep_runtime_core::BoxError| {
                let kind =
                    if app.obstacle().is_some() { ProblemKind::Unavailable } else { ProblemKind::Failed };
                Problem::new(kind, format!("model `{name}` cannot be loaded: {}", Chain(&*error)))
            };
            blocking(load).await.and_then(|loaded| loaded.map_err(failed))
        }
    };
    match loaded {
        Ok(model) => {
            tracing::info!(name, version = model.version, block = model.block, "model is loaded");
            let old = old.filter(|old| old.block != model.block);
            app.catalogue.set(name, Entry::Served(Arc::new(model)));
            match old {
                Some(old) => retire(app, old).await,
                None => Ok(()),
            }
        }
        Err(problem) => {
            // What is served goes on.
            if old.is_none() {
                app.catalogue.set(name, Entry::Missing(problem.message.clone()));
            }
            Err(problem)
        }
    }
}

async fn unload_alone(app: &Arc<App>, name: &str) -> Result<(), Problem> {
    match app.catalogue.get(name) {
        Some(Entry::Served(model)) => {
            app.catalogue.set(name, Entry::Unloading);
            let retired = retire(app, model).await;
            app.catalogue.set(name, Entry::Missing("it was unloaded".to_owned()));
            tracing::info!(name, "model is unloaded");
            retired
        }
        Some(_) => Ok(()),
        None => {
            let folder = app.config.folder.clone();
            let found =
                blocking(move || folder::names(&folder)).await?.map_err(|error| unreadable(&error))?;
            if found.iter().any(|found| found == name) { Ok(()) } else { app.model(name, None).map(drop) }
        }
    }
}

/// Takes a model off the device once the requests that it has are answered, or the server's limit has passed.
async fn retire(app: &Arc<App>, model: Arc<Model>) -> Result<(), Problem> {
    let (limit, start) = (app.config.drain_limit.0, Instant::now());
    let block = model.block.clone();
    let gone = model.gone();
    drop(model);
    // Requests that came by its name and have not asked it yet are waited for, too.
    let quiet = tokio::time::timeout(limit, gone).await.is_ok();
    let (own, rest) = (Arc::clone(app), limit.saturating_sub(start.elapsed()));
    let name = block.clone();
    match blocking(move || own.machine.unload(&name, rest)).await? {
        Ok(()) => Ok(()),
        Err(ControlError::LimitPassed { unfinished, .. }) => {
            tracing::warn!(block, unfinished, quiet, "model left before all of its requests were answered");
            Ok(())
        }
        Err(error) => Err(Problem::new(ProblemKind::Unavailable, Chain(&error).to_string())),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::new(ProblemKind::Failed, "the server failed at this model"))
}

fn unreadable(error: &PlanError) -> Problem {
    Problem::new(ProblemKind::Unavailable, Chain(error).to_string())
}

const NOT_LOADED: &str = "it is not loaded";

fn indexed(name: &str, entry: &Entry, obstacle: Option<String>) -> Indexed {
    let (state, version, reason) = match entry {
        Entry::Served(model) => {
            let state = if obstacle.is_none() { "READY" } else { "UNAVAILABLE" };
            (state, model.version.clone(), obstacle.unwrap_or_default())
        }
        Entry::Loading => ("LOADING", String::new(), String::new()),
        Entry::Unloading => ("UNLOADING", String::new(), String::new()),
        Entry::Missing(reason) => ("UNAVAILABLE", String::new(), reason.clone()),
    };
    Indexed { name: name.to_owned(), version, state, reason }
}

/// All models of the folder, or those that are ready.
pub(crate) async fn index(app: &Arc<App>, ready_only: bool) -> Result<Vec<Indexed>, Problem> {
    let obstacle = app.obstacle();
    let mut entries = app.catalogue.now().as_ref().clone();
    if !ready_only {
        let folder = app.config.folder.clone();
        for name in blocking(move || folder::names(&folder)).await?.map_err(|error| unreadable(&error))? {
            entries.entry(name).or_insert_with(|| Entry::Missing(NOT_LOADED.to_owned()));
        }
    }
    let all = entries.iter().map(|(name, entry)| indexed(name, entry, obstacle.clone()));
    Ok(all.filter(|model| !ready_only || model.state == "READY").collect())
}
