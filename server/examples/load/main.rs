//! Asks a model the same question again and again over so many connections, one question after the other on each, and tells
//! what came of it: `cargo xtask bench door` runs it beside each server.
//!
//! It reads no more of an answer than where it ends and how long it is, so that a server is measured and not its client.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "figures for people"
)]

mod cpu;
mod http;
mod http2;
mod plain;

use clap::{Parser, ValueEnum};
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What is spoken.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// V2 over HTTP, with binary tensors
    Http,
    /// V2 over gRPC
    Grpc,
    /// POST of the bytes alone: for servers that have a protocol of their own
    Post,
    /// Bytes and their echo, without any protocol: what the loopback gives
    Plain,
}

#[derive(Debug, Parser)]
struct Load {
    /// What is spoken
    #[arg(value_enum)]
    protocol: Protocol,
    /// The server; `plain` has its own
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// The model
    #[arg(long, default_value = "nop")]
    model: String,
    /// The path of `post`
    #[arg(long, default_value = "/inference")]
    path: String,
    /// Names of the model's input and output
    #[arg(long, default_value = "x")]
    input: String,
    /// The body of `post` is this text instead of a tensor's bytes
    #[arg(long)]
    body: Option<String>,
    /// Elements of a row, each of four bytes; an answer has as many
    #[arg(long, default_value_t = 256)]
    elements: usize,
    /// Connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Seconds that are measured, after a fifth as many that are not
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Processes whose time on the processor, and their children's, is counted
    #[arg(long)]
    pid: Vec<u32>,
}

/// A conversation with a server.
enum Talk {
    Http(http::Talk),
    Http2(Box<http2::Talk>),
    Plain(plain::Talk),
}

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

impl Talk {
    async fn ask(&mut self) -> Result<(), Failed> {
        match self {
            Self::Http(talk) => talk.ask().await,
            Self::Http2(talk) => talk.ask().await,
            Self::Plain(talk) => talk.ask().await,
        }
    }
}

impl Load {
    async fn talk(&self) -> Result<Talk, Failed> {
        let row = vec![0x3f; 4 * self.elements];
        Ok(match self.protocol {
            Protocol::Http => Talk::Http(http::Talk::v2(self, &row).await?),
            Protocol::Post => Talk::Http(http::Talk::post(self, &row).await?),
            Protocol::Grpc => Talk::Http2(Box::new(http2::Talk::new(self, &row).await?)),
            Protocol::Plain => Talk::Plain(plain::Talk::new(row).await?),
        })
    }

    async fn run(&self) -> Result<(), Failed> {
        let mut all = JoinSet::new();
        let length = Duration::from_secs_f64(self.seconds);
        let begin = Instant::now() + length / 5;
        let end = begin + length;
        for _ in 0..self.connections {
            let mut talk = self.talk().await?;
            all.spawn(async move {
                let mut times: Vec<u32> = Vec::new();
                let mut sent = Instant::now();
                while sent < end {
                    talk.ask().await?;
                    let now = Instant::now();
                    if sent >= begin {
                        times.push(u32::try_from((now - sent).as_nanos() / 100).unwrap_or(u32::MAX));
                    }
                    sent = now;
                }
                Ok::<_, Failed>(times)
            });
        }
        tokio::time::sleep_until(begin.into()).await;
        let before = cpu::seconds(&self.pid);
        tokio::time::sleep_until(end.into()).await;
        let cpu = cpu::seconds(&self.pid) - before;
        let mut times = Vec::new();
        while let Some(done) = all.join_next().await {
            times.append(&mut done??);
        }
        times.sort_unstable();
        let at = |part: f64| {
            times.get((times.len() as f64 * part) as usize).map_or(0.0, |it| f64::from(*it) / 10.0)
        };
        let count = times.len().max(1) as f64;
        println!(
            "{{\"connections\": {}, \"requests\": {}, \"per_second\": {:.0}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"cpu_us\": {:.2}}}",
            self.connections,
            times.len(),
            times.len() as f64 / self.seconds,
            at(0.5),
            at(0.99),
            cpu * 1e6 / count,
        );
        Ok(())
    }
}

fn main() -> Result<(), Failed> {
    let load = Load::parse();
    // One thread: the other core is the server's.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(load.run())
}
