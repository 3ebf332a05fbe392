//! Blocks that come, are replaced and go while others are at work.

use super::caller::{Caller, Habits, Served};
use super::device::{Faulty, faulty_block};
use super::ledger::Answer;
use super::report::Report;
use crate::kit::LIMIT;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skep_pool::{ServeMore, ServeOptions};
use skep_runtime_core::{ControlError, Device, Handle, Pass, Shutdown, StartError};
use std::sync::Arc;
use std::time::Duration;

/// The number of the first guest's pool, above those of all residents.
const FIRST: u32 = 1000;

/// The guests of one runtime, and what their caller has seen.
pub(super) struct Guests<D: Device> {
    pub(super) pools: Vec<Arc<[Served<D>]>>,
    pub(super) report: Report,
    pub(super) answers: Vec<Answer>,
}

/// Has at most `most` guests, one after the other, until the runtime ends.
pub(super) fn host<D: Device>(
    handle: &Handle<Faulty<D>>,
    number: u32,
    most: u32,
    doom: f64,
    mut rng: StdRng,
    mut options: impl FnMut(&mut StdRng) -> ServeOptions,
) -> Guests<D> {
    let mut guests = Guests { pools: Vec::new(), report: Report::default(), answers: Vec::new() };
    if handle.ready().wait().is_err() {
        return guests;
    }
    for guest in 0..most {
        let first = FIRST + 2 * guest;
        // The same names again and again.
        let name = format!("guest.{}", guest % 2);
        let trains = rng.random_bool(0.3);
        let block = || faulty_block(handle.device(), &name, first as usize, trains);
        let served = match handle.serve(block(), options(&mut rng)) {
            Ok(served) => served,
            Err(StartError::ShutDown | StartError::DeviceLost(_)) => break,
            Err(other) => panic!("no guest should be refused like this: {other}"),
        };
        let backward = served.backward.map(|pool| Served { pool, number: first + 1, pass: Pass::Backward });
        let forward = Served { pool: served.forward, number: first, pass: Pass::Forward };
        let pools: Arc<[_]> = std::iter::once(forward).chain(backward).collect();
        guests.pools.push(Arc::clone(&pools));

        let habits = Habits { doom, open: rng.random_range(1..24), goes_on: false };
        let own = StdRng::seed_from_u64(rng.random());
        let mut caller = Caller::new(number, own, habits, Arc::clone(handle.device()), pools);
        let act = |caller: &mut Caller<D>, times| (0..times).all(|_| caller.act());
        act(&mut caller, rng.random_range(0..20));
        if rng.random_bool(0.5) {
            match handle.replace(&name, block()) {
                Ok(()) | Err(StartError::ShutDown | StartError::DeviceLost(_)) => {}
                Err(other) => panic!("no replacement should be refused like this: {other}"),
            }
            act(&mut caller, rng.random_range(0..20));
        }
        let (how, limit) = match rng.random_range(0..3) {
            0 => (Shutdown::Drain, LIMIT),
            1 => (Shutdown::Abort, LIMIT),
            _ => (Shutdown::Drain, Duration::ZERO),
        };
        match handle.remove(&name, how, limit) {
            Ok(()) | Err(ControlError::ShutDown | ControlError::DeviceLost(_)) => {}
            Err(ControlError::LimitPassed { .. }) if limit.is_zero() => {}
            Err(other) => panic!("no guest should leave like this: {other}"),
        }
        act(&mut caller, 3);
        caller.finish();
        guests.report += caller.report;
        guests.answers.extend(caller.answers);
    }
    guests
}
