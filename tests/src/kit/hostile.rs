//! Code of others at its worst: errors, panic payloads and observers that no runtime should depend on.

use crate::soak::{Fault, Faults};
use skep_runtime_core::{BatchEvent, BoxError, DeviceLoss, Meter, Observer, PoolId, Unrun};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An error that panics or never ends when it is looked at.
#[derive(Debug)]
pub enum HostileError {
    /// Its text panics.
    Display,
    /// Its cause panics.
    Source,
    /// It is its own cause.
    Endless,
}

impl HostileError {
    /// Returns one of them.
    pub fn any(number: u32) -> BoxError {
        match number % 3 {
            0 => Self::Display.into(),
            1 => Self::Source.into(),
            _ => Self::Endless.into(),
        }
    }
}

impl fmt::Display for HostileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!matches!(self, Self::Display), "on purpose: display");
        f.write_str("hostile")
    }
}

impl Error for HostileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Display => None,
            Self::Source => panic!("on purpose: source"),
            Self::Endless => Some(self),
        }
    }
}

/// A panic payload that panics when it is dropped.
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A payload of no size: the runtime leaks it, since dropping it might panic as well.
            std::panic::resume_unwind(Box::new(()));
        }
    }
}

/// Eats a wake-up that the calling thread may have been given, as waiting for anything does.
pub fn eat_wake_up() {
    std::thread::park_timeout(Duration::from_micros(20));
}

/// An observer that panics, takes its time, or eats its thread's wake-ups now and then.
pub struct HostileObserver(pub Faults);

impl HostileObserver {
    fn act(&self) {
        match self.0.draw(&[Fault::Panic, Fault::Slow, Fault::Error]) {
            Some(Fault::Panic) => panic!("on purpose: observer"),
            Some(Fault::Error) => eat_wake_up(),
            Some(slow) => slow.dawdle(),
            None => {}
        }
    }
}

impl Observer for HostileObserver {
    fn started(&self, _: &str, _: Instant) {
        self.act();
    }

    fn pool_added(&self, _: PoolId, _: Arc<dyn Meter>) {
        self.act();
    }

    fn batch(&self, _: &BatchEvent<'_>) {
        self.act();
    }

    fn unrun(&self, _: PoolId, _: Unrun, _: usize) {
        self.act();
    }

    fn lost(&self, _: &DeviceLoss) {
        self.act();
    }

    fn stopped(&self, _: Instant) {
        self.act();
    }
}
