//! What all doors of a server share.

use crate::backend::Machine;
use crate::catalogue::{Catalogue, Entry};
use crate::http::metrics::Pages;
use crate::lifecycle::{AtWork, Lifecycle, Phase};
use crate::load::{Load, Report};
use crate::model::Model;
use crate::net::flows::Flows;
use crate::net::keys::Keys;
use crate::net::tls::Certificates;
use crate::problem::{Problem, ProblemKind};
use crate::recent::Recent;
use crate::settings::Config;
use skep_runtime_core::Health;
use std::sync::Arc;

/// What all doors of a server share.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) catalogue: Catalogue,
    /// Whoever loads or unloads a model has this.
    pub(crate) change: tokio::sync::Mutex<()>,
    pub(crate) life: Lifecycle,
    pub(crate) machine: Machine,
    pub(crate) pages: Pages,
    pub(crate) load: Load,
    pub(crate) recent: Recent,
    pub(crate) keys: Keys,
    pub(crate) flows: Flows,
    /// `None` if connections are plain.
    pub(crate) tls: Option<Certificates>,
}

impl App {
    /// The reason why the server is not ready, if it is not.
    pub(crate) fn obstacle(&self) -> Option<String> {
        match self.life.phase() {
            Phase::Ready => {}
            Phase::Starting => return Some("server is starting".to_owned()),
            _ => return Some("server is draining".to_owned()),
        }
        match self.machine.health() {
            Health::Running => None,
            Health::Lost(loss) => Some(loss.to_string()),
            other => Some(format!("runtime is {other:?}").to_lowercase()),
        }
    }

    /// The load of this moment, for balancers.
    pub(crate) fn report(&self) -> Report {
        self.load.report(&self.catalogue.served(), self.life.at_work())
    }

    /// Counts a request at work for as long as the guard lives.
    pub(crate) fn begin(&self) -> Result<AtWork, Problem> {
        let most = self.config.max_requests;
        self.life.begin(most).ok_or_else(|| {
            let message = format!("{most} requests are at work, which is as many as may be");
            Problem::new(ProblemKind::Overloaded, message).retry_after(1)
        })
    }

    /// The model of this name and version.
    pub(crate) fn model(&self, name: &str, version: Option<&str>) -> Result<Arc<Model>, Problem> {
        let model = match self.catalogue.get(name) {
            Some(Entry::Served(model)) => model,
            Some(Entry::Loading) => {
                let message = format!("model `{name}` is being loaded");
                return Err(Problem::new(ProblemKind::Unavailable, message).retry_after(1));
            }
            Some(Entry::Unloading) => {
                return Err(Problem::not_found(format!("model `{name}` is being unloaded")));
            }
            Some(Entry::Missing(reason)) => {
                return Err(Problem::not_found(format!("model `{name}` is not served: {reason}")));
            }
            None => {
                let known: Vec<_> = self.catalogue.served().iter().map(|model| model.name.clone()).collect();
                return Err(Problem::not_found(format!("unknown model `{name}`, expected one of {known:?}")));
            }
        };
        match version {
            Some(version) if !version.is_empty() && version != model.version => Err(Problem::not_found(
                format!("model `{name}` has no version {version}, expected {}", model.version),
            )),
            _ => Ok(model),
        }
    }

    /// The one model that `fits`, or the one that is named.
    pub(crate) fn only(
        &self,
        name: Option<&str>,
        what: &str,
        fits: impl Fn(&Model) -> bool,
    ) -> Result<Arc<Model>, Problem> {
        if let Some(name) = name {
            let model = self.model(name, None)?;
            return if fits(&model) {
                Ok(model)
            } else {
                Err(Problem::invalid(format!("model `{name}` is no {what}")))
            };
        }
        let mut all: Vec<_> = self.catalogue.served();
        all.retain(|model| fits(model));
        match all.len() {
            0 => Err(Problem::new(ProblemKind::Unsupported, format!("there is no {what} here"))),
            1 => Ok(all.remove(0)),
            _ => {
                let names: Vec<_> = all.iter().map(|model| &model.name).collect();
                Err(Problem::invalid(format!("`model` is missing, expected one of {names:?}")))
            }
        }
    }
}
