//! A system in a process of its own, which is asked for one round after the other: it says `ready`, reads the seconds of
//! a round from its input, and answers with a sample in one line of JSON.

use crate::Result;
use crate::drive::{Load, Round};
use crate::row::Sample;
use crate::systems::MAX_ROWS;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const HIVEMIND: &str = include_str!("hivemind.py");

pub(crate) struct Peer {
    name: &'static str,
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// hivemind's Runtime, in Python.
pub(crate) fn hivemind(python: &Path, workload: &str, load: Load) -> Result<Peer> {
    let kind = workload.split(',').next().unwrap_or(workload);
    let numbers = [load.pools, load.outstanding, MAX_ROWS].map(|n| n.to_string());
    let mut command = Command::new(python);
    command.args(["-c", HIVEMIND, kind]).args(numbers).env("OMP_NUM_THREADS", "1");
    Peer::start("hivemind", command)
}

impl Peer {
    /// Starts the process and waits until it is ready.
    pub(crate) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name}'s process has no pipes").into());
        };
        let mut started = Self { name, child, ask, answers: BufReader::new(answers) };
        let line = started.line()?;
        if line == "ready" {
            Ok(started)
        } else {
            Err(format!("{name} said `{line}`, expected `ready`").into())
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(format!("{}'s process ended with {}", self.name, self.child.wait()?).into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    pub(crate) fn round<'a>(mut self) -> Round<'a> {
        Box::new(move |time| {
            writeln!(self.ask, "{}", time.as_secs_f64())?;
            self.ask.flush()?;
            Ok(serde_json::from_str::<Sample>(&self.line()?)?)
        })
    }
}

/// Ends the process and waits for it: it ends by itself when its input does.
impl Drop for Peer {
    fn drop(&mut self) {
        writeln!(self.ask, "0").ok();
        self.ask.flush().ok();
        self.child.wait().ok();
    }
}
