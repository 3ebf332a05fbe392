//! 5,000 idle pools: no thread for any of them, little memory, and one that is busy answers.
//!
//! A process of its own, because it counts the threads and the memory of the process.

mod unsafe_counting;

use skep_runtime_core::testing::FakeDevice;
use skep_tests::Subject;
use skep_tests::suite::many_pools::ManyPools;
use unsafe_counting::allocated;

struct Fake;

impl Subject for Fake {
    type Device = FakeDevice;

    fn device() -> FakeDevice {
        FakeDevice::new()
    }
}

/// Threads of this process; `None` where the system does not tell.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

#[test]
fn idle_pools_cost_little_memory_and_no_thread() {
    const FEW: usize = 5;
    const MANY: usize = 5_000;

    let measure = |count: usize| {
        let before = allocated();
        let pools = ManyPools::start::<Fake>(count);
        let costs = (allocated() - before, threads());
        pools.answer_every(999);
        costs
    };
    measure(FEW); // what is allocated once in a process
    let (few_bytes, few_threads) = measure(FEW);
    let (many_bytes, many_threads) = measure(MANY);

    let each = (many_bytes - few_bytes) / (MANY - FEW);
    println!("an idle pool and its block take {each} bytes, their schemas included");
    assert!(each < 4096, "an idle pool takes {each} bytes");
    match (few_threads, many_threads) {
        (Some(few), Some(many)) => assert_eq!(few, many, "threads with {FEW} and with {MANY} pools"),
        _ => println!("threads are not counted: this system has no /proc"),
    }
}
