//! The doors of a live server, in this process and on a port of the system's choice.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "helpers of tests; a method of the protocol has two messages"
)]

#[cfg(feature = "tch")]
mod compiled;
mod deploy;
mod drain;
mod fairness;
mod grpc;
mod kit;
mod limits;
mod load;
mod loading;
mod program;
mod status;
#[cfg(feature = "opentelemetry")]
mod telemetry;
mod texts;
mod tls;
mod v2;
