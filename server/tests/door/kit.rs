//! A live server, and a client that sends what it is told to, right or wrong.

use serde_json::Value;
use skep_server::{Config, Server};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a client was told.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Status and text of a V2 error.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/json");
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A server, and the folder of its models.
pub(crate) struct Live {
    pub(crate) executor: tokio::runtime::Runtime,
    pub(crate) server: Option<Server>,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data/models/fixtures")
        .join(name)
        .canonicalize()
        .unwrap()
}

/// A folder of models: a fixture by its name, with a `skep.toml` or without, or a block by its name and `skep.toml`.
pub(crate) fn folder(models: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in models {
        let path = folder.path().join(name);
        if text.is_empty() {
            std::os::unix::fs::symlink(fixture(name), path).unwrap();
        } else {
            std::fs::create_dir(&path).unwrap();
            if !text.contains("kind") {
                for entry in std::fs::read_dir(fixture(name)).unwrap() {
                    let entry = entry.unwrap();
                    std::os::unix::fs::symlink(entry.path(), path.join(entry.file_name())).unwrap();
                }
            }
            std::fs::write(path.join("skep.toml"), text).unwrap();
        }
    }
    folder
}

pub(crate) const NOP: (&str, &str) = ("nop", "kind = \"nop\"\n[settings]\nsize = 2\n[pool]\nmax-rows = 4\n");

impl Live {
    pub(crate) fn with(models: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Self {
        let folder = folder(models);
        let mut config = Config::new(folder.path());
        config.http = "127.0.0.1:0".parse().unwrap();
        config.grpc = config.http;
        config.threads = Some(1);
        config.drain_wait = "0s".parse().unwrap();
        change(&mut config);
        let executor =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = executor.block_on(Server::start(config)).unwrap();
        let address = server.http();
        Self { executor, server: Some(server), address, folder }
    }

    pub(crate) fn new(models: &[(&str, &str)]) -> Self {
        Self::with(models, |_| {})
    }

    /// The folder of its models.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&request(method, path, headers, body)).unwrap();
        answer(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// The page of metrics once it has this line.
    pub(crate) fn wait_for_metric(&self, line: &str) {
        // Each look takes a connection's time; a line that never comes ends the test.
        for _ in 0..100_000 {
            if self.get("/metrics").text().lines().any(|own| own == line) {
                return;
            }
        }
        panic!("no `{line}` in {}", self.get("/metrics").text());
    }
}

/// A request as bytes.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    use std::fmt::Write;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    if method == "POST" {
        write!(text, "content-length: {}\r\n", body.len()).unwrap();
    }
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Reads an answer up to the end of the connection.
#[track_caller]
pub(crate) fn answer(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    // A connection may be reset after its answer, if not all of the request was read.
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(!bytes.is_empty(), "{error}");
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Answer { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
}
