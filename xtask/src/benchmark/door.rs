//! The server's door beside those of others: the null model over HTTP and gRPC, in one run and by turns.

use crate::combination::choice::name;
use crate::combination::table::Backend;
use crate::error::Error;
use crate::fetch::cache;
use crate::fetch::environment::{self, Environment, LITSERVE, MOSEC, TRITON};
use crate::machine::process::{cargo, output, root, run, target};
use crate::report::table::table;
use serde_json::Value;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Connections, on each of which one request follows the other.
const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Rows of the null model.
const ELEMENTS: usize = 256;
/// A tensor of 16 MiB.
const LARGE: usize = 4 << 20;
/// The longest time that a server may need until it listens.
const START: Duration = Duration::from_mins(1);

/// What the load program tells.
#[derive(Clone, Copy, Debug)]
struct Told {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

/// A server, by the ports that it listens at.
struct Contestant {
    name: &'static str,
    child: Child,
    /// Protocol, port, and the load program's other arguments.
    doors: Vec<(&'static str, u16, Vec<String>)>,
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // By a signal that its children hear of, too.
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().ok();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(50));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Measures the server's program beside what the libraries take that it stands on, and prints. `alone` leaves the other
/// servers out; `rounds` of so many seconds each.
pub(crate) fn measure(program: &Path, alone: bool, rounds: usize, seconds: f64) -> Result<(), Error> {
    let folder = target()?.join("door");
    let examples = build_examples()?;
    let load = examples.join("load");
    let mut all = vec![skep(program, &folder)?, floor(&examples.join("floor"))?];
    if !alone {
        for start in [triton, mosec, litserve] {
            match start(&folder) {
                Ok(other) => all.push(other),
                Err(reason) => eprintln!("without: {reason}"),
            }
        }
    }
    let mut lines = vec![
        ["server", "door", "connections", "requests/s", "p50 µs", "p99 µs", "CPU µs"].map(str::to_owned),
    ];
    for connections in CONNECTIONS {
        // By turns, so that whatever else the machine does is everybody's.
        let mut told: Vec<Vec<Told>> = Vec::new();
        for round in 0..rounds {
            let doors = all.iter().flat_map(|one| one.doors.iter().map(move |door| (one, door)));
            for (i, (one, (protocol, port, more))) in doors.enumerate() {
                let elements = ELEMENTS.to_string();
                let mut command = Command::new(&load);
                command.args([*protocol, "--address", &format!("127.0.0.1:{port}"), "--elements", &elements]);
                command.args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()]);
                command.args(["--pid", &one.child.id().to_string()]).args(more);
                let ran = ask(&mut command)?;
                if round == 0 {
                    told.push(Vec::new());
                }
                told[i].push(ran);
            }
        }
        let doors = all.iter().flat_map(|one| one.doors.iter().map(move |door| (one.name, door.0)));
        for ((name, protocol), told) in doors.zip(&told) {
            lines.push(line(name, protocol, connections, told));
        }
    }
    println!("{}", table(&lines, &[false, false, true, true, true, true, true]));
    large(&load, &all[..2], rounds, seconds)
}

/// Tensors of 16 MiB, beside what the loopback gives without any protocol.
fn large(load: &Path, servers: &[Contestant], rounds: usize, seconds: f64) -> Result<(), Error> {
    let mut lines = vec![["16 MiB there and back", "door", "GB/s each way", "of plain"].map(str::to_owned)];
    let doors = servers.iter().flat_map(|one| one.doors.iter().map(|door| (one.name, door.0, door.1)));
    let mut told = Vec::new();
    for round in 0..rounds {
        let doors = [("loopback", "plain", 0)].into_iter().chain(doors.clone());
        for (i, (name, protocol, port)) in doors.enumerate() {
            let mut command = Command::new(load);
            command.args([protocol, "--address", &format!("127.0.0.1:{port}"), "--model", "large"]);
            command.args(["--elements", &LARGE.to_string(), "--seconds", &seconds.to_string()]);
            if round == 0 {
                told.push((name, protocol, Vec::new()));
            }
            told[i].2.push(ask(&mut command)?);
        }
    }
    let plain: Vec<f64> = told[0].2.iter().map(|it| it.per_second).collect();
    for (name, protocol, told) in &told {
        let rate = median(told, |it| it.per_second) * 4.0 * LARGE as f64 / 1e9;
        // Of each round, because what else the machine does differs from one to the next.
        let mut shares: Vec<f64> =
            told.iter().zip(&plain).map(|(own, plain)| own.per_second / plain).collect();
        shares.sort_by(f64::total_cmp);
        let share = shares[shares.len() / 2];
        lines.push([(*name).to_owned(), (*protocol).to_owned(), format!("{rate:.2}"), format!("{share:.2}")]);
    }
    println!("{}", table(&lines, &[false, false, true, true]));
    Ok(())
}

fn ask(command: &mut Command) -> Result<Told, Error> {
    let told = output(command)?;
    let told: Value = serde_json::from_slice(&told)
        .map_err(|source| Error::Json { path: "what the load told".into(), source })?;
    let number = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    Ok(Told {
        per_second: number("per_second"),
        p50_us: number("p50_us"),
        p99_us: number("p99_us"),
        cpu_us: number("cpu_us"),
    })
}

fn line(name: &str, protocol: &str, connections: usize, told: &[Told]) -> [String; 7] {
    let number = |of: fn(&Told) -> f64| format!("{:.0}", median(told, of));
    let tenths = |of: fn(&Told) -> f64| format!("{:.1}", median(told, of));
    [
        name.to_owned(),
        protocol.to_owned(),
        connections.to_string(),
        number(|it| it.per_second),
        number(|it| it.p50_us),
        number(|it| it.p99_us),
        tenths(|it| it.cpu_us),
    ]
}

fn median(told: &[Told], of: impl Fn(&Told) -> f64) -> f64 {
    let mut all: Vec<f64> = told.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Builds the client and the server that does nothing, and returns their folder.
fn build_examples() -> Result<PathBuf, Error> {
    let mut command = cargo("build");
    command.args(["--release", "--package", "skep-server", "--no-default-features"]);
    command.args(["--example", "load", "--example", "floor"]);
    run(command.args(["--features", &name(&Backend::Candle)]))?;
    Ok(target()?.join("release").join("examples"))
}

/// Starts a server and waits until it listens.
fn start(
    name: &'static str,
    command: &mut Command,
    doors: Vec<(&'static str, u16, Vec<String>)>,
) -> Result<Contestant, Error> {
    let log = target()?.join("door").join(format!("{name}.log"));
    let file = fs::File::create(&log).map_err(Error::file("write", &log))?;
    let second = file.try_clone().map_err(Error::file("write", &log))?;
    command.stdin(Stdio::null()).stdout(file).stderr(second);
    let child = command.spawn().map_err(|source| Error::Start { program: name.to_owned(), source })?;
    let mut started = Contestant { name, child, doors };
    let end = Instant::now() + START;
    for (_, port, _) in &started.doors {
        while TcpStream::connect(("127.0.0.1", *port)).is_err() {
            let ended = started.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > end {
                return Err(Error::Usage(format!("{name} does not listen: see {}", log.display())));
            }
            sleep(Duration::from_millis(50));
        }
    }
    Ok(started)
}

fn skep(program: &Path, folder: &Path) -> Result<Contestant, Error> {
    let models = folder.join("models");
    cache::remove(&models)?;
    for (name, size) in [("nop", ELEMENTS), ("large", LARGE)] {
        let model = models.join(name);
        fs::create_dir_all(&model).map_err(Error::file("create", &model))?;
        let file = model.join("skep.toml");
        let text = format!("kind = \"nop\"\n[settings]\nsize = {size}\n");
        fs::write(&file, text).map_err(Error::file("write", &file))?;
    }
    let mut command = Command::new(program);
    command.arg("serve").arg(models).args(["--http", "127.0.0.1:18200", "--grpc", "127.0.0.1:18201"]);
    start("skep", &mut command, vec![("http", 18200, vec![]), ("grpc", 18201, vec![])])
}

/// What the libraries and the system take by themselves.
fn floor(program: &Path) -> Result<Contestant, Error> {
    let mut command = Command::new(program);
    command.args(["--http", "127.0.0.1:18240", "--grpc", "127.0.0.1:18241"]);
    start("floor", &mut command, vec![("http", 18240, vec![]), ("grpc", 18241, vec![])])
}

fn python(wanted: &Environment) -> Result<PathBuf, String> {
    environment::environment(wanted, &target().map_err(|error| error.told())?)
}

fn triton(folder: &Path) -> Result<Contestant, String> {
    let beside = root().join("server").join("tests").join("beside").join("triton");
    let python = python(&TRITON)?;
    let find = "import pathlib, pytriton; print(pathlib.Path(pytriton.__file__).parent / 'tritonserver/bin/tritonserver')";
    let start = || -> Result<Contestant, Error> {
        let program = output(Command::new(python).args(["-c", find]))?;
        let program = String::from_utf8_lossy(&program).trim().to_owned();
        let (models, backends) =
            (folder.join("triton").join("models"), folder.join("triton").join("backends"));
        for made in [models.join("nop").join("1"), backends.join("nop")] {
            fs::create_dir_all(&made).map_err(Error::file("create", &made))?;
        }
        let config = models.join("nop").join("config.pbtxt");
        fs::copy(beside.join("config.pbtxt"), &config).map_err(Error::file("write", &config))?;
        let library = backends.join("nop").join("libtriton_nop.so");
        run(Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(library)
            .arg(beside.join("nop.c")))?;
        let mut command = Command::new(program);
        command.arg("--model-repository").arg(models).arg("--backend-directory").arg(backends);
        command.args(["--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--allow-metrics=false"]);
        command.args(["--http-port", "18210", "--grpc-port", "18211"]);
        self::start("triton", &mut command, vec![("http", 18210, vec![]), ("grpc", 18211, vec![])])
    };
    start().map_err(|error| error.told())
}

fn mosec(_: &Path) -> Result<Contestant, String> {
    let file = root().join("server").join("tests").join("beside").join("mosec_nop.py");
    let mut command = Command::new(python(&MOSEC)?);
    command.arg("-B").arg(file).args(["--address", "127.0.0.1", "--port", "18220", "--log-level", "warning"]);
    start("mosec", &mut command, vec![("post", 18220, vec![])]).map_err(|error| error.told())
}

fn litserve(_: &Path) -> Result<Contestant, String> {
    let file = root().join("server").join("tests").join("beside").join("litserve_nop.py");
    let mut command = Command::new(python(&LITSERVE)?);
    command.arg("-B").arg(file).arg("18230");
    // As many characters as base64 has for the same row.
    let body = format!("{{\"x\": \"{}\"}}", "P".repeat(ELEMENTS * 4 * 4 / 3));
    start("litserve", &mut command, vec![("post", 18230, vec!["--body".to_owned(), body])])
        .map_err(|error| error.told())
}
