//! The model server of Skep: a folder of models behind the doors that clients already have.
//!
//! The program `skep` serves every model of a folder over `KServe` V2 (HTTP with JSON and binary tensors, gRPC) and behind the
//! embedding endpoints of `OpenAI` and text-embeddings-inference. The crate's README says how it is started and what is
//! offered; [`Server`] is the same for a program of one's own, and for tests.
//!
//! ```
//! use skep_server::{Config, Server};
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
//! let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//! let served: Result<(), Box<dyn std::error::Error>> = executor.block_on(async {
//!     let mut config = Config::new(folder);
//!     config.http = "127.0.0.1:0".parse()?;
//!     config.grpc = config.http;
//!     let server = Server::start(config).await?;
//!     println!("http://{}/v2", server.http());
//!     server.stop().await;
//!     Ok(())
//! });
//! served?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The way of a request
//!
//! `net/` accepts connections and bounds what they may take; `http/` finds the endpoint and speaks its protocol, as `grpc/` does;
//! `tensor/` makes tensors of what came; `infer.rs` and `texts.rs` hand them to a model; `problem.rs` is what comes of it if
//! there is no answer. Models come from `folder/` and are put on a device by `backend.rs`, the one file that knows a
//! tensor library.
#![forbid(unsafe_code)]

mod app;
mod backend;
mod caller;
mod catalogue;
pub mod cli;
mod folder;
pub mod grpc;
mod http;
mod infer;
mod lifecycle;
mod load;
mod model;
mod net;
mod problem;
mod recent;
mod repository;
mod server;
mod settings;
mod tally;
#[cfg(feature = "opentelemetry")]
mod telemetry;
#[cfg(not(feature = "opentelemetry"))]
#[path = "untraced.rs"]
mod telemetry;
mod tensor;
mod texts;
mod units;

pub use backend::{NAME as BACKEND, StartError};
pub use folder::{Found, Plan, PlanError, What, read as read_folder};
pub use net::keys::KeysError;
pub use net::tls::TlsError;
pub use problem::{Problem, ProblemKind};
pub use server::{ServeError, Server};
pub use settings::{Config, LoadReports, LogFormat, Order, Settings, SettingsError, WhenFull};
