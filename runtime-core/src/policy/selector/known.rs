//! What is known of pools.

use crate::contract::id::PoolId;
use crate::contract::price::{Price, seconds};
use crate::contract::task::TaskHeader;
use crate::policy::company::Returns;
use crate::policy::curve::Curve;
use crate::policy::prices::Prices;
use std::time::Duration;

/// What is known of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) prices: Prices,
    pub(super) gather: Gather,
    pub(super) returns: Returns,
    /// Rows that were cut with a price and have not left the device.
    pub(super) in_flight: usize,
    /// Rows that have left the device and are being answered.
    pub(super) answering: usize,
    /// The rows with which it is to ring.
    pub(super) wanted: Option<usize>,
    /// Its last batch took long enough for all of this.
    pub(super) is_worth_it: bool,
}

/// The time that gathering takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gather(Curve);

impl Gather {
    pub(super) fn of(&self, rows: usize) -> Duration {
        let (per_row, fixed) = self.0.line();
        seconds(Price::new(fixed, per_row, true).of(rows).as_secs_f64())
    }
}

/// The most tasks of a batch that are looked at to learn how fast callers come back.
const SAMPLE: usize = 8;

impl Known {
    pub(super) fn gathered(&mut self, rows: usize, time: Duration) {
        self.gather.0.note(rows, time);
    }

    /// Notes that a batch was cut while so many rows were `left` waiting.
    pub(super) fn was_cut(&mut self, tasks: &[TaskHeader], rows: usize, left: usize) {
        let sample = tasks.len().min(SAMPLE);
        let submitted = (0..sample).map(|at| tasks[at * tasks.len() / sample].submitted);
        self.returns.cut(rows, submitted, left + rows + self.in_flight + self.answering);
        self.in_flight += rows;
    }
}

/// What is known of each pool, at its place.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Vec<Option<(PoolId, Box<Known>)>>);

impl Table {
    #[inline]
    pub(super) fn get(&self, pool: PoolId) -> Option<&Known> {
        self.0.get(pool.index())?.as_ref().filter(|(tenant, _)| *tenant == pool).map(|(_, known)| &**known)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, pool: PoolId) -> Option<&mut Known> {
        let known = self.0.get_mut(pool.index())?.as_mut();
        known.filter(|(tenant, _)| *tenant == pool).map(|(_, known)| &mut **known)
    }

    /// What is known of a pool; of another tenant of its place there is nothing to learn.
    pub(super) fn entry(&mut self, pool: PoolId) -> &mut Known {
        if self.0.len() <= pool.index() {
            self.0.resize_with(pool.index() + 1, || None);
        }
        let place = &mut self.0[pool.index()];
        if place.as_ref().is_some_and(|(tenant, _)| *tenant != pool) {
            *place = None;
        }
        &mut place.get_or_insert_with(|| (pool, Box::default())).1
    }

    pub(super) fn forget(&mut self, pool: PoolId) {
        if let Some(place) = self.0.get_mut(pool.index()) {
            place.take_if(|(tenant, _)| *tenant == pool);
        }
    }
}
