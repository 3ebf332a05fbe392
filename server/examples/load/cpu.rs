//! The time of other processes on the processor.

use std::collections::BTreeSet;
use std::fs;

/// A clock tick, as Linux counts them for programs.
const TICK: f64 = 0.01;

/// Seconds of these processes and of all that they have started and that are there still.
pub(crate) fn seconds(pids: &[u32]) -> f64 {
    let all: Vec<(u32, u32, f64)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect();
    let mut family: BTreeSet<u32> = pids.iter().copied().collect();
    loop {
        let children = all.iter().filter(|(_, parent, _)| family.contains(parent)).map(|(pid, ..)| *pid);
        let before = family.len();
        let children: Vec<u32> = children.collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    all.iter().filter(|(pid, ..)| family.contains(pid)).map(|(.., seconds)| seconds).sum()
}

/// A process, its parent, and its time.
fn process(pid: u32) -> Option<(u32, u32, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in brackets, and may have any letters.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((pid, fields.get(1)?.parse().ok()?, ticks * TICK))
}
