//! The command line.

use crate::backend::{self, NAME};
use crate::folder;
use crate::server::{ServeError, Server};
use crate::settings::{Config, LogFormat, Settings, SettingsError};
use crate::telemetry::{self, Export, ExportError};
use clap::{Args, Parser, Subcommand};
use skep_runtime_core::Chain;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Serves models to other machines.
#[derive(Debug, Parser)]
#[command(name = "skep", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves every model of a folder
    ///
    /// The folder is a model, or each folder in it is one: a published model folder, or one with a `skep.toml`.
    Serve(Box<Serve>),
    /// Says what would be served of a folder, and what is wrong
    Check(Check),
}

#[derive(Args, Debug)]
struct Serve {
    /// The folder of models
    #[arg(env = "SKEP_FOLDER")]
    folder: PathBuf,
    /// File of settings: a line `name = value` for each flag below
    #[arg(long, env = "SKEP_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings that come of flags, environment and file, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Debug)]
struct Check {
    /// The folder of models
    #[arg(env = "SKEP_FOLDER")]
    folder: PathBuf,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("skep: {}", Chain(&error));
        ExitCode::FAILURE
    })
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Folder(#[from] folder::PlanError),
    #[error("log is `{got}`, expected a filter like `info` or `skep_server=debug`")]
    Log { got: String, source: tracing_subscriber::filter::ParseError },
    #[error("spans cannot be exported")]
    Export(#[from] ExportError),
    #[error("the system refuses what a server needs")]
    System(#[from] io::Error),
}

impl Serve {
    fn config(self) -> Result<Config, Error> {
        let file = self.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        let config = self.settings.or(file).config(self.folder);
        config.check()?;
        Ok(config)
    }

    fn run(self) -> Result<ExitCode, Error> {
        let print = self.print_config;
        let config = self.config()?;
        if print {
            io::stdout().write_all(config.to_toml().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        let executor =
            tokio::runtime::Builder::new_multi_thread().thread_name("skep-net").enable_all().build()?;
        let code = {
            let entered = executor.enter();
            // The last spans go out while there is an executor.
            let _exported = log(&config)?;
            drop(entered);
            executor.block_on(serve(config))?
        };
        // Questions that still run on other threads are not waited for.
        executor.shutdown_background();
        Ok(code)
    }
}

/// Begins to log, and to export spans as long as what comes back lives.
fn log(config: &Config) -> Result<Option<Export>, Error> {
    let wrong = |source| Error::Log { got: config.log.clone(), source };
    let filter = EnvFilter::builder().parse(&config.log).map_err(wrong)?;
    // Spans of requests are for the export: lines have what they say. A filter that is a function would have to be asked
    // at each of the libraries' own events and spans, of which a call over gRPC has some hundred.
    let filter = filter.add_directive(format!("{}=off", telemetry::TARGET).parse().map_err(wrong)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (spans, exported) = telemetry::layer(config)?;
    let lines = lines.with_filter(filter);
    tracing_subscriber::registry().with(lines).with(spans).init();
    Ok(exported)
}

async fn serve(config: Config) -> Result<ExitCode, Error> {
    // Before anything takes long: a signal must not be missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let start = Server::start(config);
    let mut server = tokio::select! {
        server = start => server?,
        signal = next() => {
            tracing::info!(signal, "given up while loading");
            return Ok(ExitCode::FAILURE);
        }
    };
    let models = server.models();
    for (name, reason) in server.missing() {
        tracing::warn!(name, reason, "model is not served");
    }
    tracing::info!(http = %server.http(), grpc = %server.grpc(), backend = NAME, ?models, "ready");
    let mut renew = signal(SignalKind::hangup())?;
    let signal = loop {
        tokio::select! {
            signal = next() => break signal,
            _ = renew.recv() => match server.renew_certificates().await {
                Ok(renewed) => tracing::info!(renewed, "certificates were looked at"),
                Err(error) => tracing::warn!(error = %Chain(&error), "certificates cannot be used: those before stay"),
            },
        }
    };
    tracing::info!(signal, "draining: a second signal ends at once");
    let clean = tokio::select! {
        clean = server.drain() => Some(clean),
        _ = next() => None,
    };
    match clean {
        Some(true) => {
            tracing::info!("stopped, every request was answered");
            Ok(ExitCode::SUCCESS)
        }
        Some(false) => {
            tracing::warn!("stopped, some requests were given up");
            Ok(ExitCode::FAILURE)
        }
        None => {
            tracing::warn!("ended at once");
            server.abort().await;
            Ok(ExitCode::FAILURE)
        }
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Error> {
        let mut out = io::stdout().lock();
        let mut wrong = 0;
        for found in folder::read(&self.folder)? {
            let checked = match &found.plan {
                Ok(plan) => backend::check(plan).map(|()| plan).map_err(|error| Chain(&*error).to_string()),
                Err(error) => Err(Chain(error).to_string()),
            };
            match checked {
                Ok(plan) => {
                    writeln!(out, "{}: {}, version {}", found.name, plan.kind(), plan.version)?;
                    for note in plan.notes() {
                        writeln!(out, "    note: {note}")?;
                    }
                }
                Err(reason) => {
                    wrong += 1;
                    writeln!(out, "{}: not served: {reason}", found.name)?;
                }
            }
        }
        Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
