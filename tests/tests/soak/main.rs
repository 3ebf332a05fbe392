//! A short soak: as `cargo xtask soak`, for a number of runtimes instead of minutes.
//!
//! A process of its own, because it counts the threads and the memory of the process.

#[path = "../many_pools/unsafe_counting.rs"]
mod unsafe_counting;

use skep_runtime_core::testing::FakeDevice;
use skep_tests::Subject;
use skep_tests::soak::{Report, Soak};
use unsafe_counting::allocated;

struct Fake;

impl Subject for Fake {
    type Device = FakeDevice;

    fn device() -> FakeDevice {
        FakeDevice::new()
    }
}

#[test]
fn nothing_is_lost_doubled_mixed_up_or_leaked() {
    const LIVES: u64 = 40;
    let soak = Soak { seed: 1, callers: 6, tasks_each: 300, fault_rate: 0.01 };
    let report = soak.run::<Fake>(allocated, |report| report.is_clean() && report.lives < LIVES);
    println!("{report}");
    assert!(report.is_clean(), "seed {}:\n{report}", soak.seed);
    // Each fate is met, or the soak has shown nothing.
    let Report { succeeded, failed, dropped, expired, evicted, shut_down, device_lost, refused, .. } = report;
    let fates = [succeeded, failed, dropped, expired, evicted, shut_down, device_lost, refused];
    assert!(fates.iter().all(|n| *n > 0), "{report}");
}
