//! Settings: by flags, by the environment, or in one file, under the same names.

use crate::units::{Size, Time};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The treatment of requests for which a model's queue has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhenFull {
    /// They are refused at once, so that a balancer can ask another server.
    #[default]
    Refuse,
    /// They wait for room as long as their time allows.
    Wait,
}

/// The order in which requests run, within the priorities that they name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Order {
    /// The device's time is shared among callers, by the weights of their keys.
    #[default]
    Fair,
    /// The one that came first.
    OldestFirst,
    /// The one whose time is up first.
    EarliestDeadline,
}

/// The answers that have a load report with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LoadReports {
    /// Those whose request asks for one.
    #[default]
    OnRequest,
    /// All.
    Always,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $([$($arg:tt)+])? $name:ident: $type:ty = $default:expr, $env:literal;)*) => {
        /// Settings that are given, each by a flag, a variable of the environment, or a line of the file.
        #[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct Settings {
            $($(#[doc = $doc])+ #[arg(long, env = $env $(, $($arg)+)?)] pub $name: Option<$type>,)*
        }

        impl Settings {
            /// Takes what is not given here from `other`.
            pub fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }

            /// Fills in the defaults.
            pub fn config(self, folder: impl Into<PathBuf>) -> Config {
                Config { folder: folder.into(), $($name: self.$name.or_else(|| $default).into_own(),)* }
            }
        }
    };
}

/// An option whose default is always there is its value.
trait IntoOwn<T> {
    fn into_own(self) -> T;
}

impl<T> IntoOwn<Option<T>> for Option<T> {
    fn into_own(self) -> Self {
        self
    }
}

macro_rules! always {
    ($($type:ty = $fallback:expr),* $(,)?) => {$(
        impl IntoOwn<$type> for Option<$type> {
            fn into_own(self) -> $type {
                self.unwrap_or($fallback)
            }
        }
    )*};
}
always!(
    bool = false,
    usize = 0,
    u32 = 0,
    Time = Time(Duration::ZERO),
    Size = Size(0),
    String = String::new(),
    SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0)),
    WhenFull = WhenFull::Refuse,
    Order = Order::Fair,
    LoadReports = LoadReports::OnRequest,
    LogFormat = LogFormat::Text,
);

/// All settings of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are documented as flags, under the same names, in `Settings`")]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a setting by itself")]
pub struct Config {
    pub folder: PathBuf,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub open: bool,
    pub management: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    pub public_health: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_clients: Option<PathBuf>,
    pub device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    pub prefetch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_limit: Option<Time>,
    pub policy: Order,
    pub when_full: WhenFull,
    pub wait_limit: Time,
    pub max_body: Size,
    pub max_head: Size,
    pub max_connections: usize,
    pub max_requests: usize,
    pub max_streams: u32,
    pub max_texts: usize,
    pub head_limit: Time,
    pub body_limit: Time,
    pub load_reports: LoadReports,
    pub triton_metrics: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
    pub drain_wait: Time,
    pub drain_limit: Time,
    pub log: String,
    pub log_format: LogFormat,
}

fn time(text: &str) -> Option<Time> {
    text.parse().ok()
}

settings! {
    /// Address of the HTTP door: V2, embeddings, health, metrics [default: 127.0.0.1:8000]
    http: SocketAddr = Some(SocketAddr::from(([127, 0, 0, 1], 8000))), "SKEP_HTTP";
    /// Address of the gRPC door: V2, health, reflection [default: 127.0.0.1:8001]
    grpc: SocketAddr = Some(SocketAddr::from(([127, 0, 0, 1], 8001))), "SKEP_GRPC";
    /// Allow addresses that other machines can reach [default: false]
    [num_args = 0..=1, default_missing_value = "true"] open: bool = None, "SKEP_OPEN";
    /// Allow draining, and loading and unloading models, over the network [default: false]
    [num_args = 0..=1, default_missing_value = "true"] management: bool = None, "SKEP_MANAGEMENT";
    /// File of API keys: a line `name key` each, with `requests=`, `rows=` and `weight=` behind it; without it everybody is served
    keys: PathBuf = None, "SKEP_KEYS";
    /// Answer health and metrics without a key [default: true]
    [num_args = 0..=1, default_missing_value = "true"] public_health: bool = Some(true), "SKEP_PUBLIC_HEALTH";
    /// File of the server's certificate and those above it, PEM: both ports speak TLS, and nothing else
    tls_cert: PathBuf = None, "SKEP_TLS_CERT";
    /// File of the certificate's key, PEM
    tls_key: PathBuf = None, "SKEP_TLS_KEY";
    /// File of certificates, PEM: only clients with a certificate that one of them has signed are served
    tls_clients: PathBuf = None, "SKEP_TLS_CLIENTS";
    /// Device that models run on: `cpu`, `cuda:0`, … [default: cpu]
    device: String = Some("cpu".to_owned()), "SKEP_DEVICE";
    /// Threads of a batch on the processor [default: one per core]
    threads: usize = None, "SKEP_THREADS";
    /// Batches gathered ahead of the one that runs [default: 1]
    prefetch: usize = Some(1), "SKEP_PREFETCH";
    /// Longest time that the device may work on a batch before it counts as stuck [default: none]
    batch_limit: Time = None, "SKEP_BATCH_LIMIT";
    /// Order in which requests of one priority run: shared fairly among callers, or by age, or by deadline [default: fair]
    policy: Order = Some(Order::Fair), "SKEP_POLICY";
    /// What is done with requests for which a queue has no room [default: refuse]
    when_full: WhenFull = Some(WhenFull::Refuse), "SKEP_WHEN_FULL";
    /// Longest time that a request may wait before it runs [default: 60s]
    wait_limit: Time = time("60s"), "SKEP_WAIT_LIMIT";
    /// Most bytes of a request, before and after it is unpacked [default: 64MiB]
    max_body: Size = Some(Size(64 << 20)), "SKEP_MAX_BODY";
    /// Most bytes of a request's head [default: 64KiB]
    max_head: Size = Some(Size(64 << 10)), "SKEP_MAX_HEAD";
    /// Most connections; further ones wait to be accepted [default: 4096]
    max_connections: usize = Some(4096), "SKEP_MAX_CONNECTIONS";
    /// Most requests at work at the same time; further ones are refused [default: 4096]
    max_requests: usize = Some(4096), "SKEP_MAX_REQUESTS";
    /// Most streams of an HTTP/2 connection [default: 256]
    max_streams: u32 = Some(256), "SKEP_MAX_STREAMS";
    /// Most texts of a request [default: 1024]
    max_texts: usize = Some(1024), "SKEP_MAX_TEXTS";
    /// Longest time until a request's head is there, and that a connection may be idle [default: 60s]
    head_limit: Time = time("60s"), "SKEP_HEAD_LIMIT";
    /// Longest time between two pieces of a request's body [default: 30s]
    body_limit: Time = time("30s"), "SKEP_BODY_LIMIT";
    /// Answers that have an ORCA load report with them: those whose request asks for one, or all [default: on-request]
    load_reports: LoadReports = Some(LoadReports::OnRequest), "SKEP_LOAD_REPORTS";
    /// Publish metrics under Triton's names as well [default: false]
    [num_args = 0..=1, default_missing_value = "true"] triton_metrics: bool = None, "SKEP_TRITON_METRICS";
    /// Address of an OpenTelemetry collector (gRPC), which gets a span for each request
    otlp: String = None, "SKEP_OTLP";
    /// Time from the signal to stop until connections are no longer accepted; readiness is false [default: 5s]
    drain_wait: Time = time("5s"), "SKEP_DRAIN_WAIT";
    /// Longest time after that for requests at work [default: 30s]
    drain_limit: Time = time("30s"), "SKEP_DRAIN_LIMIT";
    /// What is logged, as tracing's filters say it [default: info]
    log: String = Some("info".to_owned()), "SKEP_LOG";
    /// Form of log lines [default: text]
    log_format: LogFormat = Some(LogFormat::Text), "SKEP_LOG_FORMAT";
}

/// The reason why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("{}: cannot be read", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is no list of settings.
    #[error("{}: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong, with its place.
        reason: String,
    },
    /// A setting is out of range.
    #[error("{name} is {got}, expected {expected}")]
    Value {
        /// The setting's name.
        name: &'static str,
        /// Its value.
        got: String,
        /// The values that would be right.
        expected: &'static str,
    },
}

impl Settings {
    /// Reads a file of settings.
    ///
    /// # Errors
    ///
    /// Returns [`SettingsError::Unreadable`] if the file cannot be read, and [`SettingsError::File`] if it is not TOML,
    /// or has a name or value that is not known.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let unreadable = |source| SettingsError::Unreadable { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        toml::from_str(&text).map_err(|error| SettingsError::File {
            file: file.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })
    }
}

impl Config {
    /// Creates the default settings for a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Settings::default().config(folder)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    ///
    /// Returns [`SettingsError::Value`] with the first setting that is out of range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let value = |name, got: String, expected| Err(SettingsError::Value { name, got, expected });
        for (name, address) in [("http", self.http), ("grpc", self.grpc)] {
            if !self.open && !address.ip().is_loopback() {
                let expected = "an address of this machine alone, or `open` to serve others";
                return value(name, address.to_string(), expected);
            }
        }
        match (&self.tls_cert, &self.tls_key, &self.tls_clients) {
            (Some(_), None, _) => {
                return value("tls-key", "not there".to_owned(), "a file beside `tls-cert`");
            }
            (None, Some(key), _) => {
                return value("tls-key", key.display().to_string(), "`tls-cert` beside it");
            }
            (None, None, Some(clients)) => {
                return value("tls-clients", clients.display().to_string(), "`tls-cert` beside it");
            }
            (Some(_), Some(_), _) | (None, None, None) => {}
        }
        if let Some(otlp) = &self.otlp {
            if cfg!(not(feature = "opentelemetry")) {
                return value("otlp", otlp.clone(), "none: the program was built without `opentelemetry`");
            }
            if !otlp.starts_with("http://") {
                return value("otlp", otlp.clone(), "an address like http://127.0.0.1:4317");
            }
        }
        for (name, number) in [
            ("max-connections", self.max_connections),
            ("max-requests", self.max_requests),
            ("max-streams", self.max_streams as usize),
            ("max-texts", self.max_texts),
        ] {
            if number == 0 {
                return value(name, "0".to_owned(), "at least 1");
            }
        }
        if self.max_head.0 < 8192 {
            return value("max-head", self.max_head.to_string(), "at least 8KiB");
        }
        for (name, time) in [("head-limit", self.head_limit), ("body-limit", self.body_limit)] {
            if time.0.is_zero() {
                return value(name, time.to_string(), "more than no time");
            }
        }
        Ok(())
    }

    /// Returns the settings in the form of the file.
    pub fn to_toml(&self) -> String {
        let mut text = toml::to_string(self).unwrap_or_default();
        // The folder is an argument and not a setting.
        if let Some(end) = text.strip_prefix("folder").and(text.find('\n')) {
            text = format!("# {}", &text[..=end]) + &text[end + 1..];
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_again() {
        let config = Config { keys: Some("keys".into()), threads: Some(3), ..Config::new("models") };
        let text = config.to_toml();
        assert!(text.starts_with("# folder = \"models\"\nhttp = \"127.0.0.1:8000\"\n"), "{text}");
        let again: Settings = toml::from_str(&text).unwrap();
        assert_eq!(again.config("models"), config);
    }

    #[test]
    fn the_first_who_gives_a_setting_wins() {
        let flags = Settings { prefetch: Some(0), ..Settings::default() };
        let file: Settings = toml::from_str("prefetch = 2\nmax-texts = 3").unwrap();
        let config = flags.or(file).config(".");
        assert_eq!((config.prefetch, config.max_texts, config.max_streams), (0, 3, 256));
    }

    #[test]
    fn names_that_are_unknown_are_refused() {
        let error = toml::from_str::<Settings>("prefetsch = 1").unwrap_err().to_string();
        assert!(error.contains("unknown field `prefetsch`"), "{error}");
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let told = |cert: Option<&str>, key: Option<&str>, clients: Option<&str>| {
            let path = |name: Option<&str>| name.map(PathBuf::from);
            let (tls_cert, tls_key, tls_clients) = (path(cert), path(key), path(clients));
            let config = Config { tls_cert, tls_key, tls_clients, ..Config::new(".") };
            config.check().map_or_else(|error| error.to_string(), |()| String::new())
        };
        assert_eq!(told(Some("c"), Some("k"), Some("a")), "");
        assert_eq!(told(Some("c"), None, None), "tls-key is not there, expected a file beside `tls-cert`");
        assert_eq!(told(None, Some("k"), None), "tls-key is k, expected `tls-cert` beside it");
        assert_eq!(told(None, None, Some("a")), "tls-clients is a, expected `tls-cert` beside it");
    }

    #[test]
    fn spans_go_where_they_can() {
        let told = |otlp: &str| {
            let config = Config { otlp: Some(otlp.to_owned()), ..Config::new(".") };
            config.check().map_or_else(|error| error.to_string(), |()| String::new())
        };
        if cfg!(feature = "opentelemetry") {
            assert_eq!(told("http://127.0.0.1:4317"), "");
            assert_eq!(told("here:1"), "otlp is here:1, expected an address like http://127.0.0.1:4317");
        } else {
            let without = "expected none: the program was built without `opentelemetry`";
            assert_eq!(told("http://here:1"), format!("otlp is http://here:1, {without}"));
        }
    }

    #[test]
    fn opening_up_is_asked_for() {
        let config = Config { http: "0.0.0.0:80".parse().unwrap(), ..Config::new(".") };
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "http is 0.0.0.0:80, expected an address of this machine alone, or `open` to serve others"
        );
        assert!(Config { open: true, ..config }.check().is_ok());
    }
}
