//! A server from its start to its end.

use crate::app::App;
use crate::backend::{Machine, StartError};
use crate::catalogue::{Catalogue, Entry};
use crate::folder::{self, PlanError};
use crate::grpc::Services;
use crate::http::metrics::Pages;
use crate::lifecycle::{Lifecycle, Phase};
use crate::load::Load;
use crate::net;
use crate::net::flows::Flows;
use crate::net::keys::{Keys, KeysError};
use crate::net::tls::{Certificates, TlsError};
use crate::recent::Recent;
use crate::settings::{Config, SettingsError};
use skep_runtime_core::{Chain, Shutdown};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How often times that were recorded are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);
/// How often the files of certificates are looked at.
const RENEWAL: Duration = Duration::from_secs(30);

/// The reason why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The folder cannot be read.
    #[error(transparent)]
    Folder(PlanError),
    /// A model of the folder cannot be served.
    #[error("model `{name}` cannot be served")]
    Model {
        /// The model's name.
        name: String,
        /// The reason.
        source: PlanError,
    },
    /// The models cannot be put on the device.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file of keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// TLS cannot be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened at.
    #[error("{address} cannot be listened at")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The page of metrics cannot be made.
    #[error("metrics cannot be published")]
    Metrics(#[source] metrics_exporter_prometheus::BuildError),
    /// The description of the gRPC services cannot be read.
    #[error("reflection cannot be offered")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The loading was given up.
    #[error("loading was given up")]
    GivenUp,
}

/// A server at work. Dropping it ends it at once; [`stop`](Self::stop) lets requests finish.
pub struct Server {
    app: Arc<App>,
    http: SocketAddr,
    grpc: SocketAddr,
    doors: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("http", &self.http).finish_non_exhaustive()
    }
}

impl Server {
    /// Loads the models of a folder and opens the doors. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// Returns a [`ServeError`] if a setting is out of range, a model cannot be served that is not optional, or an
    /// address cannot be listened at.
    pub async fn start(config: Config) -> Result<Self, ServeError> {
        config.check()?;
        let keys = match &config.keys {
            Some(file) => Keys::read(file)?,
            None => Keys::default(),
        };
        let tls = Certificates::read(&config)?;
        // The address first: it is wrong more often than models are, and loading takes long.
        let (http_door, http) = listen(config.http).await?;
        let (grpc_door, grpc) = listen(config.grpc).await?;
        let loading = tokio::task::spawn_blocking(move || load(config, keys, tls));
        let app = Arc::new(loading.await.map_err(|_| ServeError::GivenUp)??);
        let services = Services::new(&app).map_err(ServeError::Reflection)?;
        let doors = [http_door, grpc_door].into_iter();
        let doors =
            doors.map(|door| tokio::spawn(net::serve(Arc::clone(&app), services.clone(), door))).collect();
        tokio::spawn(every(Arc::clone(&app), UPKEEP, upkeep));
        if app.tls.is_some() {
            tokio::spawn(every(Arc::clone(&app), RENEWAL, renew));
        }
        app.life.advance(Phase::Ready);
        Ok(Self { app, http, grpc, doors })
    }

    /// Reads the files of certificates again if they are others than before, for the connections that come from now on;
    /// returns true if they were. The server does so by itself as well, each half minute.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`] if they cannot be used; the server goes on with those that it has.
    pub async fn renew_certificates(&self) -> Result<bool, TlsError> {
        refresh(&self.app).await
    }

    /// Returns the address of the HTTP door.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns the address of the gRPC door.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Returns the names of the models that are served now, in order.
    pub fn models(&self) -> Vec<String> {
        self.app.catalogue.served().iter().map(|model| model.name.clone()).collect()
    }

    /// Returns the models of the folder that are not served, with the reason.
    pub fn missing(&self) -> Vec<(String, String)> {
        let missing = |(name, entry): (&String, &Entry)| match entry {
            Entry::Missing(reason) => Some((name.clone(), reason.clone())),
            _ => None,
        };
        self.app.catalogue.now().iter().filter_map(missing).collect()
    }

    /// Tells balancers to send no more, for as long as `drain-wait` says; then accepts no connections, lets
    /// requests finish for at most `drain-limit`, and stops the runtime. Models stay loaded until then.
    ///
    /// Returns true if every request was answered.
    pub async fn drain(&mut self) -> bool {
        let config = &self.app.config;
        let (wait, limit) = (config.drain_wait.0, config.drain_limit.0);
        if self.app.life.phase() < Phase::Draining {
            self.app.life.advance(Phase::Draining);
            tokio::time::sleep(wait).await;
        }
        self.app.life.advance(Phase::Closing);
        let finished = tokio::time::timeout(limit, async {
            for door in &mut self.doors {
                door.await.ok();
            }
        });
        let finished = finished.await.is_ok();
        self.end(Shutdown::Drain, limit).await && finished
    }

    /// Lets requests finish without a wait before, and stops.
    pub async fn stop(mut self) {
        self.app.life.advance(Phase::Draining);
        self.drain().await;
    }

    /// Ends all at once: requests at work are answered with an error or not at all.
    pub async fn abort(&self) {
        self.app.life.advance(Phase::Ended);
        self.end(Shutdown::Abort, Duration::ZERO).await;
    }

    async fn end(&self, how: Shutdown, limit: Duration) -> bool {
        let app = Arc::clone(&self.app);
        let ended = tokio::task::spawn_blocking(move || app.machine.shutdown(how, limit));
        let ended = match ended.await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "runtime did not stop in order");
                false
            }
            Err(_) => false,
        };
        self.app.life.advance(Phase::Ended);
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.app.life.advance(Phase::Ended);
        for door in &self.doors {
            door.abort();
        }
    }
}

/// Does something now and then, as long as the server lives.
async fn every<F: Future<Output = ()>>(app: Arc<App>, pause: Duration, action: impl Fn(Arc<App>) -> F) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => action(Arc::clone(&app)).await,
            () = app.life.reached(Phase::Ended) => return,
        }
    }
}

async fn upkeep(app: Arc<App>) {
    app.pages.upkeep();
}

/// Looks at the files of certificates.
async fn renew(app: Arc<App>) {
    match refresh(&app).await {
        Ok(false) => {}
        Ok(true) => tracing::info!("certificates were read again"),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "certificates cannot be used: those before stay");
        }
    }
}

async fn refresh(app: &Arc<App>) -> Result<bool, TlsError> {
    let app = Arc::clone(app);
    let read = tokio::task::spawn_blocking(move || app.tls.as_ref().map_or(Ok(false), Certificates::refresh));
    read.await.unwrap_or(Ok(false))
}

/// Listens at an address; returns the one that it came to, if the system chose the port.
async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Address { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let own = listener.local_addr().map_err(failed)?;
    Ok((listener, own))
}

fn load(config: Config, keys: Keys, tls: Option<Certificates>) -> Result<App, ServeError> {
    let found = folder::read(&config.folder).map_err(ServeError::Folder)?;
    let mut plans = Vec::with_capacity(found.len());
    for found in found {
        plans.push(found.plan.map_err(|source| ServeError::Model { name: found.name, source })?);
    }
    let (machine, stats) = Machine::start(&config, keys.weights())?;
    let catalogue = Catalogue::default();
    for plan in plans {
        let entry = match machine.load(&config, &plan, None) {
            Ok(model) => Entry::Served(Arc::new(model)),
            Err(source) => {
                let error = StartError::Model { model: plan.name.clone(), source };
                if !plan.optional {
                    return Err(error.into());
                }
                Entry::Missing(Chain(&error).to_string())
            }
        };
        catalogue.set(&plan.name, entry);
    }
    Ok(App {
        catalogue,
        change: tokio::sync::Mutex::default(),
        life: Lifecycle::new(),
        load: Load::new(machine.tallies()),
        machine,
        pages: Pages::new(stats).map_err(ServeError::Metrics)?,
        keys,
        flows: Flows::default(),
        recent: Recent::default(),
        tls,
        config,
    })
}
