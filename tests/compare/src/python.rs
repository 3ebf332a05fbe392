//! hivemind's Runtime, in a Python process that is asked for one round after the other.

use crate::Result;
use crate::drive::{Load, Round};
use crate::row::Sample;
use crate::systems::MAX_ROWS;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = include_str!("hivemind.py");

pub(crate) struct Hivemind {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hivemind {
    /// Starts hivemind and waits until its Runtime is ready.
    pub(crate) fn start(python: &Path, workload: &str, load: Load) -> Result<Self> {
        let kind = workload.split(',').next().unwrap_or(workload);
        let numbers = [load.pools, load.outstanding, MAX_ROWS].map(|n| n.to_string());
        let mut child = Command::new(python)
            .args(["-c", SCRIPT, kind])
            .args(numbers)
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("hivemind's process has no pipes".into());
        };
        let mut started = Self { child, ask, answers: BufReader::new(answers) };
        let line = started.line()?;
        if line == "ready" {
            Ok(started)
        } else {
            Err(format!("hivemind said `{line}`, expected `ready`").into())
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(format!("hivemind's process ended with {}", self.child.wait()?).into()),
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
impl Drop for Hivemind {
    fn drop(&mut self) {
        writeln!(self.ask, "0").ok();
        self.ask.flush().ok();
        self.child.wait().ok();
    }
}
