//! The program under attack, and those who are served meanwhile.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Long after an answer should be there: a test that waits so long has failed.
const NEVER: Duration = Duration::from_mins(1);

pub(crate) const INFER: &str = "/v2/models/nop/infer";

/// A server of the null model and a small sentence model.
pub(crate) struct Target {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// All that it logs, once it has ended.
    log: Option<JoinHandle<Vec<String>>>,
    others: Option<(Arc<AtomicBool>, JoinHandle<u64>)>,
    _models: TempDir,
    /// Bytes of memory that it took by itself.
    own: u64,
}

/// What an attacker was told.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) Vec<u8>);

impl Told {
    /// The status of the first answer; `None` if the connection was closed without one.
    pub(crate) fn status(&self) -> Option<u16> {
        let head = self.0.strip_prefix(b"HTTP/1.")?.get(2..5)?;
        std::str::from_utf8(head).ok()?.parse().ok()
    }

    /// Fails if the server did: whatever is sent, the fault is the sender's.
    #[track_caller]
    pub(crate) fn is_no_failure(&self, sent: &[u8]) {
        let status = self.status();
        let fine = self.0.is_empty() || matches!(status, Some(200..=499 | 501 | 503));
        let text = String::from_utf8_lossy(&self.0);
        assert!(fine, "{status:?} {text}\nwas the answer to {}", String::from_utf8_lossy(sent));
    }
}

impl Target {
    /// Starts it, with others who ask for its health as long as it lives.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let models = tempfile::tempdir().unwrap();
        let nop = models.path().join("nop");
        fs::create_dir(&nop).unwrap();
        fs::write(nop.join("skep.toml"), "kind = \"nop\"\n[settings]\nsize = 2\n").unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/models/fixtures");
        let text: PathBuf = fixtures.join("bert_mean").canonicalize().unwrap();
        std::os::unix::fs::symlink(text, models.path().join("bert_mean")).unwrap();

        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.env_clear();
        if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
            command.env("LD_LIBRARY_PATH", path);
        }
        command.arg("serve").arg(models.path());
        command.args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--threads", "1"]);
        command.args(["--drain-wait", "0s", "--log-format", "json", "--max-body", "1MiB"]).args(flags);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines.find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).ok()?;
            Some((line["http"].as_str()?.parse().ok()?, line["grpc"].as_str()?.parse().ok()?))
        });
        let (http, grpc) = ready.unwrap();
        // Read on, or it would wait for its own log.
        let log = std::thread::spawn(move || lines.map(Result::unwrap).collect());
        let ended = Arc::new(AtomicBool::new(false));
        let others = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut served = 0;
                while !ended.load(Ordering::SeqCst) {
                    for path in ["/v2/health/live", "/v2/health/ready"] {
                        let told = ask(http, &request("GET", path, &[], b""));
                        assert_eq!(told.status(), Some(200), "{path}: {told:?}");
                        served += 1;
                    }
                }
                served
            }
        });
        let mut target = Self {
            child,
            http,
            grpc,
            log: Some(log),
            others: Some((ended, others)),
            own: 0,
            _models: models,
        };
        target.own = target.memory("VmHWM");
        target
    }

    /// Fails if an attack made it take much at once, beside what it takes by itself: its libraries are large or small.
    #[track_caller]
    pub(crate) fn has_taken_little(&self) {
        const MOST: u64 = 120 << 20;
        let (most, own) = (self.memory("VmHWM"), self.own);
        assert!(most <= own + MOST, "{own} bytes of memory were {most} at one time");
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Told {
        ask(self.http, bytes)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    /// Bytes of memory that it has; the most that it had with `VmHWM`.
    pub(crate) fn memory(&self, which: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Waits until it has no more descriptors than so many: connections are closed after their clients have left.
    pub(crate) fn wait_for_descriptors(&self, most: usize) {
        for _ in 0..100_000 {
            if self.descriptors() <= most {
                return;
            }
            // A question's time passes.
            self.send(&request("GET", "/v2", &[], b""));
        }
        panic!("{} descriptors are open, expected at most {most}", self.descriptors());
    }

    /// Does the same again and again, and looks that nothing is left of it: the first rounds may make what is made once.
    pub(crate) fn endures(&self, mut attack: impl FnMut(&Self, u64)) {
        const ROUNDS: u64 = 8;
        const SLACK: u64 = 24 << 20;
        let descriptors = self.descriptors() + 4;
        attack(self, 0);
        attack(self, 1);
        self.wait_for_descriptors(descriptors);
        let before = self.memory("VmRSS");
        for round in 2..ROUNDS {
            attack(self, round);
        }
        self.wait_for_descriptors(descriptors);
        let after = self.memory("VmRSS");
        assert!(after <= before + SLACK, "{before} bytes of memory have become {after}");
    }

    /// Ends it: everybody was served, nothing panicked, and all was answered.
    pub(crate) fn ends_well(mut self) {
        let (ended, others) = self.others.take().unwrap();
        ended.store(true, Ordering::SeqCst);
        assert!(others.join().unwrap() > 0);
        let row = br#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}"#;
        assert_eq!(self.send(&request("POST", INFER, &[], row)).status(), Some(200));
        let killed = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {log:?}");
        let panicked = log.iter().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None);
        assert!(log.last().unwrap().contains("every request was answered"), "{log:?}");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((ended, _)) = &self.others {
            ended.store(true, Ordering::SeqCst);
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(NEVER)).unwrap();
    stream.set_write_timeout(Some(NEVER)).unwrap();
    stream
}

/// Sends bytes and nothing more, and reads to the end. What is no whole request, the server's limits must end.
fn ask(address: SocketAddr, bytes: &[u8]) -> Told {
    let mut stream = connect(address);
    // It may be refused before all of it is out.
    stream.write_all(bytes).ok();
    Told(rest(&mut stream))
}

/// What comes up to the end of the connection, or its being reset.
#[track_caller]
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    if let Err(error) = stream.read_to_end(&mut told) {
        let given_up = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!given_up, "there was no end: {}", String::from_utf8_lossy(&told));
    }
    told
}

/// A request as bytes.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n").into_bytes();
    if method == "POST" {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// Numbers that look random, the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    /// 0 to `sides - 1`.
    pub(crate) fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| u8::try_from(self.throw(256)).unwrap()).collect()
    }
}
