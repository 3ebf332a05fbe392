//! What the figures were taken on.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Processor, cores, system, and how busy the machine was.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "{model}, {cores} cores; {} {}; load average at the end {load} (the comparison itself makes about 2)",
        std::env::consts::OS,
        kernel.trim()
    )
}

/// The memory of this process, watched by a thread.
pub(crate) struct Resident {
    before: u64,
    most: Arc<AtomicU64>,
    stop: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Resident {
    /// Watches from now on.
    pub(crate) fn watch() -> Self {
        let (stop, stopped) = mpsc::channel();
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&most);
        let watch = move || {
            while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
                seen.fetch_max(resident(), Ordering::Relaxed);
            }
        };
        Self { before: resident(), most, stop: Some((stop, thread::spawn(watch))) }
    }

    /// Ends the watch, and returns by how many bytes it grew at most.
    pub(crate) fn stop(&mut self) -> u64 {
        if let Some((stop, thread)) = self.stop.take() {
            drop(stop);
            thread.join().ok();
        }
        self.most.load(Ordering::Relaxed).max(resident()).saturating_sub(self.before)
    }
}

/// Has this program's allocator give back what it keeps for later. What the system's allocator keeps, devices give back.
#[expect(
    unsafe_code,
    reason = "a function of mimalloc's that its crate declares only with a dependency more"
)]
pub(crate) fn collect() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: declared as in mimalloc.h; it takes no pointer and may be called at any time.
    unsafe { mi_collect(true) }
}

/// The bytes of this process that are in memory; 0 where the system does not tell.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
