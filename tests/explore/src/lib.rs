//! Interleavings: small programs over tickets, pools and whole runtimes, each run under thousands of schedules.
//!
//! Built with `--cfg shuttle` every lock, atomic, channel and parking thread is in the hands of a scheduler that
//! decides after each step who goes on: at random in half of the schedules, and by random priorities with a few
//! changes (PCT) in the other half. A schedule in which everybody waits fails, and so does one that breaks an
//! assertion; either prints itself, to be replayed. Without the flag there is nothing to run here:
//!
//! ```text
//! cargo xtask explore --schedules 1000000
//! ```
//!
//! Not seen by it: orders of memory weaker than one common order, and the insides of flume and event-listener,
//! for which simple ones stand in.
#![cfg(all(test, shuttle))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what is not as expected fails the test")]

mod blocks;
mod budget;
mod devices;
mod pool;
mod rig;
mod runtime;
mod ticket;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// All shares, of which each program has some.
const SHARES: usize = 269;

/// Runs a program under its share of as many schedules as `SKEP_SCHEDULES` says.
fn explore(name: &str, shares: usize, program: fn()) {
    let all = std::env::var("SKEP_SCHEDULES").map_or(10_000, |count| count.parse().unwrap());
    let half = (all * shares).div_ceil(2 * SHARES);
    let config = || {
        let mut config = Config::new();
        config.stack_size = 0x2_0000;
        config.silence_warnings = true;
        config
    };
    Runner::new(RandomScheduler::new(half), config()).run(program);
    Runner::new(PctScheduler::new(3, half), config()).run(program);
    println!("{name}: {} schedules", 2 * half);
}

/// Makes a test of each program, with its shares.
macro_rules! programs {
    ($($program:ident: $shares:literal,)*) => {
        $(
            #[test]
            fn $program() {
                crate::explore(stringify!($program), $shares, programs::$program);
            }
        )*
    };
}
use programs;

struct Unpark(shuttle::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        // Whoever calls it may find that its own wake-up is gone.
        shuttle::thread::current().unpark();
        shuttle::thread::park();
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(shuttle::thread::current())))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = waker();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => shuttle::thread::park(),
        }
    }
}
