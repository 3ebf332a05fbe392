//! One system in a process of its own: the threads of several, each with as many as the machine has cores, would get in each
//! other's way. libtorch's no longer wait for work awake once a process has more of them than there are cores.

use super::engines::Engine;
use super::{MIXED, Shape, mixed_work, work};
use crate::Result;
use crate::drive::{Load, Round, awaited, bare, blocking};
use crate::peer::Peer;
use crate::scenarios::tokio;
use crate::systems::skep::Skep;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write, stdin, stdout};
use std::process::Command;
use std::time::Duration;

/// How a backend is used.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) enum Way {
    Bare,
    Skep,
    /// Through Skep, on as many devices of one thread each, by callers of texts of mixed lengths.
    Mixed,
}

#[derive(Debug, Deserialize, Serialize)]
struct Alone {
    engine: String,
    way: Way,
    threads: usize,
    shape: Shape,
}

/// Starts the process of a system.
pub(super) fn start<'a, E: Engine>(way: Way, shape: &Shape, threads: usize) -> Result<Round<'a>> {
    let alone = Alone { engine: E::NAME.to_owned(), way, threads, shape: shape.clone() };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(format!("--alone={}", serde_json::to_string(&alone)?));
    Ok(Peer::start(E::NAME, command)?.round())
}

/// What such a process does.
pub(crate) fn run(alone: &str) -> Result<()> {
    let Alone { engine, way, threads, shape } = serde_json::from_str(alone)?;
    macro_rules! each {
        ($($feature:literal $engine:ident),*) => {
            $(#[cfg(feature = $feature)]
            if engine == super::engines::$engine::NAME {
                return answer::<super::engines::$engine>(way, &shape, threads);
            })*
        };
    }
    each!("ort" Ort, "tch" Tch, "candle" Candle);
    Err(format!("there is no engine `{engine}`").into())
}

fn answer<E: Engine>(way: Way, shape: &Shape, threads: usize) -> Result<()> {
    let runtime = tokio()?;
    let round = || -> Result<Round<'_>> {
        Ok(match way {
            Way::Bare => bare(&work::<E>(shape, threads)?, shape.rows, 1)?,
            Way::Skep => {
                let work = work::<E>(shape, threads)?;
                // A lone task is what a batch of one row is for.
                let outstanding = if shape.rows == 1 { 1 } else { 4 * shape.rows };
                blocking(Skep::with_rows(&work, shape.rows)?, &work, Load { outstanding, pools: 1 })
            }
            Way::Mixed => {
                let devices = (0..threads).map(|_| E::device(1)).collect::<Result<Vec<_>>>()?;
                let work = mixed_work::<E>(shape, E::device(1)?)?;
                awaited(&runtime, Skep::on(&work, devices, MIXED.outstanding)?, &work, MIXED)
            }
        })
    };
    let mut round = match round() {
        Ok(round) => round,
        Err(error) => {
            // Whoever started this process reads one line.
            println!("{}", error.to_string().replace('\n', " "));
            return Ok(());
        }
    };
    println!("ready");
    for line in stdin().lock().lines() {
        let seconds: f64 = line?.trim().parse()?;
        if seconds == 0.0 {
            break;
        }
        println!("{}", serde_json::to_string(&round(Duration::from_secs_f64(seconds))?)?);
        stdout().flush()?;
    }
    Ok(())
}
