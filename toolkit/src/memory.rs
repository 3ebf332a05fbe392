//! The memory of the machine, where the operating system tells in files (Linux).

use skep_runtime_core::MemoryInfo;
use std::fs::read_to_string;
use std::sync::OnceLock;

/// One tensor may take this part of the machine's memory: a block holds several of a batch's size at once.
const SHARE: u64 = 4;

/// Returns the most bytes of one tensor unless the application says otherwise: no limit if the machine's memory
/// is not known.
pub fn default_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let machine = of_machine().map(|memory| memory.total);
        let container = read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|s| s.trim().parse().ok());
        let total = machine.into_iter().chain(container).min();
        total.map_or(usize::MAX, |total| usize::try_from(total / SHARE).unwrap_or(usize::MAX))
    })
}

/// Returns the memory of this machine, or `None` if the system does not tell.
pub fn of_machine() -> Option<MemoryInfo> {
    parse(&read_to_string("/proc/meminfo").ok()?)
}

/// Has the system's allocator give memory back that nothing uses any more: glibc, whose threads each keep what they
/// have freed for later. Nothing where the allocator is another one.
///
/// Other threads that allocate may wait meanwhile, for milliseconds.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a call without pointers that may be made at any time, from any thread")]
    // SAFETY: see the reason.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn parse(meminfo: &str) -> Option<MemoryInfo> {
    let bytes = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    Some(MemoryInfo::new(total.saturating_sub(bytes("MemAvailable")?), total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    400 kB\n";
        assert_eq!(parse(text), Some(MemoryInfo::new(600 * 1024, 1000 * 1024)));
    }

    #[test]
    fn an_odd_meminfo_gives_no_figures() {
        assert_eq!(parse("MemTotal: many\nMemAvailable: 1 kB\n"), None);
        assert_eq!(parse(""), None);
    }
}
