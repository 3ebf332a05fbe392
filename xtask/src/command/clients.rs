//! `cargo xtask test clients`: other people's clients, unmodified and from packages, against a live server.

use crate::combination::choice::Choice;
use crate::combination::table::{self, Backend, Device};
use crate::command::server;
use crate::error::Error;
use crate::fetch::debian;
use crate::fetch::environment::{
    self, Environment, KSERVE, MLSERVER, PLAYWRIGHT, SCHEMATHESIS, TRITON_AND_TEXTS,
};
use crate::machine::process::{root, run, target};
use crate::report::summary::Summary;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

/// A program for each client, with the environment that it takes.
const CLIENTS: [(&str, &Environment); 6] = [
    ("triton.py", &TRITON_AND_TEXTS),
    ("texts.py", &TRITON_AND_TEXTS),
    ("kserve_sdk.py", &KSERVE),
    ("mlserver_client.py", &MLSERVER),
    (PAGE, &PLAYWRIGHT),
    // The last: it loads and unloads models too.
    ("openapi.py", &SCHEMATHESIS),
];

/// The one that takes a browser.
const PAGE: &str = "page.py";

/// Blocks beside the text models, with their settings.
const BLOCKS: [(&str, &str); 3] = [
    ("nop", "kind = \"nop\"\n[settings]\nsize = 2\n"),
    ("wide", "kind = \"nop\"\n[settings]\nsize = 256\n"),
    ("slow", "kind = \"nop_delay\"\n[settings]\nsize = 1\ndelay = 0.5\n"),
];

/// Runs all of them, those of one environment one after the other.
pub(super) fn clients(summary: &mut Summary) {
    let mut live = None;
    summary.run("candle cpu", "server for clients", || {
        live = Some(Live::start()?);
        Ok(())
    });
    let Some(mut live) = live else { return };
    for (program, wanted) in CLIENTS {
        let browser =
            if program == PAGE { debian::program("chromium", "chromium").map(Some) } else { Ok(None) };
        let python = |browser| {
            let python = environment::environment(wanted, &target().map_err(|error| error.told())?)?;
            Ok((python, browser))
        };
        match browser.and_then(python) {
            Ok((python, browser)) => {
                summary.run("candle cpu", program, || live.ask(&python, program, browser.as_deref()));
            }
            Err(reason) => summary.skip("candle cpu", program, &reason),
        }
    }
    summary.run("candle cpu", "end of the server", || live.end());
}

struct Live {
    server: Child,
    /// Read no further, and kept open.
    _log: BufReader<ChildStderr>,
    http: String,
    grpc: String,
}

impl Live {
    fn start() -> Result<Self, Error> {
        let tested = table::select(Choice::One(Backend::Candle), Choice::One(Device::Cpu))[0];
        let program = server::build_as_tested(tested)?;
        let models = target()?.join("clients").join("models");
        let fixtures = root().join("tests").join("data").join("models").join("fixtures");
        let texts =
            ["bert_mean", "bert_sequence", "bert_cross_encoder"].map(|name| (name, fixtures.join(name)));
        let texts: Vec<(&str, &Path)> = texts.iter().map(|(name, path)| (*name, path.as_path())).collect();
        server::folder(&models, &texts)?;
        for (name, settings) in BLOCKS {
            let folder = models.join(name);
            fs::create_dir(&folder).map_err(Error::file("create", &folder))?;
            let file = folder.join("skep.toml");
            fs::write(&file, settings).map_err(Error::file("write", &file))?;
        }
        let mut command = Command::new(&program);
        command.arg("serve").arg(models).args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
        command.args(["--management", "--drain-wait", "0s", "--log-format", "json"]).stderr(Stdio::piped());
        let start = |source| Error::Start { program: "skep".to_owned(), source };
        let mut server = command.spawn().map_err(start)?;
        let Some(log) = server.stderr.take() else { return Err(Error::NoExecutable("skep")) };
        let mut log = BufReader::new(log);
        let mut line = String::new();
        loop {
            line.clear();
            if log.read_line(&mut line).map_err(start)? == 0 {
                let status = server.wait().map_err(start)?;
                return Err(Error::Ended { program: "skep".to_owned(), status });
            }
            eprint!("{line}");
            let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if let (Some(http), Some(grpc)) = (ready["http"].as_str(), ready["grpc"].as_str()) {
                let (http, grpc) = (http.to_owned(), grpc.to_owned());
                return Ok(Self { server, _log: log, http, grpc });
            }
        }
    }

    fn ask(&self, python: &Path, program: &str, browser: Option<&Path>) -> Result<(), Error> {
        let file = root().join("server").join("tests").join("clients").join(program);
        let folder = target()?.join("clients");
        let mut command = Command::new(python);
        // What the programs keep of their own (schemathesis its cases) is no part of the checkout.
        command.arg("-B").arg(file).args([&self.http, &self.grpc]).current_dir(&folder);
        if let Some(browser) = browser {
            command.arg(browser).arg(folder.join("pictures"));
        }
        run(&mut command)
    }

    /// Asks it to end as a fleet does, which it must do in order.
    fn end(&mut self) -> Result<(), Error> {
        run(Command::new("kill").args(["-TERM", &self.server.id().to_string()]))?;
        let status =
            self.server.wait().map_err(|source| Error::Start { program: "skep".to_owned(), source })?;
        if status.success() { Ok(()) } else { Err(Error::Ended { program: "skep".to_owned(), status }) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
