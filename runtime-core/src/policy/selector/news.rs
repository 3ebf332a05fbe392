//! The selector hears of batches on their way, and learns.

use super::{Running, Selector};
use crate::contract::event::Forecast;
use crate::contract::id::PoolId;
use crate::contract::policy::Ran;
use crate::contract::pool::Look;
use crate::contract::price::Price;
use crate::contract::task::TaskHeader;
use std::time::{Duration, Instant};

impl Selector {
    /// Notes that half of a batch that failed is to run again.
    pub fn half(&mut self, pool: PoolId, rows: usize, price: Option<Price>) {
        if let Some(price) = price {
            self.ahead += price.of(rows);
            self.pools.entry(pool).in_flight += rows;
        }
    }

    /// Notes that a batch, which had so many rows when it was cut, is no longer ahead of the device: it begins, or does not
    /// run after all.
    pub fn is_due(&mut self, rows: usize, price: Price) {
        self.ahead = self.ahead.saturating_sub(price.of(rows));
    }

    /// Notes that a batch begins on the device.
    pub fn began(&mut self, pool: PoolId, rows: usize, price: Price, now: Instant) {
        self.running = now.checked_add(price.of(rows)).map(|ends| Running { pool, rows, ends });
    }

    /// Notes how long the inputs of so many rows took to gather.
    pub fn gathered(&mut self, pool: PoolId, rows: usize, time: Duration) {
        self.pools.entry(pool).gathered(rows, time);
    }

    /// Notes that a batch is over on the device. Only of those that `succeeded` something is learned.
    pub fn ended(&mut self, ran: &Ran<'_>, forecast: &Forecast, succeeded: bool) {
        let rows: usize = ran.tasks.iter().map(|task| task.rows).sum();
        if let Some(running) = self.running.take() {
            self.margin.note(running.ends, ran.ended);
        }
        if succeeded && (ran.device >= self.timing.least || forecast.price.is_some()) {
            self.learn(ran.pool, forecast.elements, rows, ran.device);
        }
        if forecast.price.is_some() {
            let known = self.pools.entry(ran.pool);
            known.in_flight = known.in_flight.saturating_sub(rows);
            known.answering += if succeeded { rows } else { 0 };
        }
        if self.listens {
            self.hear(ran);
        }
    }

    /// Notes what a batch of so many rows, of so many elements each, took without being of the pool.
    pub fn measured(&mut self, pool: PoolId, elements: usize, rows: usize, device: Duration) {
        if device >= self.timing.least {
            self.learn(pool, elements, rows, device);
        }
    }

    fn learn(&mut self, pool: PoolId, elements: usize, rows: usize, device: Duration) {
        let known = self.pools.entry(pool);
        known.prices.note(elements, rows, device);
        known.is_worth_it = device >= self.timing.least;
    }

    /// Notes that no batch is on its way.
    pub fn idle(&mut self) {
        if self.listens && self.index.first().is_none() {
            self.policy.idle();
        }
    }

    /// Notes that tasks of a batch that was cut do not run in it. The policy hears it unless it was told of them before,
    /// and they were to run `again`.
    pub fn left_out(&mut self, pool: PoolId, tasks: &[TaskHeader], forecast: &Forecast, again: bool) {
        let rows: usize = tasks.iter().map(|task| task.rows).sum();
        if forecast.price.is_some() {
            let known = self.pools.entry(pool);
            known.in_flight = known.in_flight.saturating_sub(rows);
        }
        if self.listens
            && !again
            && let Some(first) = tasks.first()
        {
            let ran = Ran::new(pool, tasks, forecast.per_row, Duration::ZERO, first.submitted);
            self.hear(&ran.elements(forecast.elements));
        }
    }

    fn hear(&mut self, ran: &Ran<'_>) {
        self.policy.ran(ran);
        if !self.fallen.contains(&ran.pool) {
            self.fallen.push(ran.pool);
        }
    }

    /// Returns a pool that is to be [looked at again](crate::pool::Pool::look_again) before the next choice, because a
    /// batch of it is over.
    pub fn next_fallen(&mut self) -> Option<PoolId> {
        self.fallen.pop()
    }

    /// Notes that the batch that was begun does not run after all.
    pub fn stopped(&mut self) {
        self.running = None;
    }

    /// Notes that so many rows of a batch that ran are not answered yet, but run again.
    pub fn unanswered(&mut self, pool: PoolId, rows: usize) {
        if let Some(known) = self.pools.get_mut(pool) {
            known.answering = known.answering.saturating_sub(rows);
        }
    }

    /// Notes that so many rows of a batch with a price were answered.
    pub fn answered(&mut self, pool: PoolId, rows: usize, now: Instant) {
        if let Some(known) = self.pools.get_mut(pool) {
            known.answering = known.answering.saturating_sub(rows);
            known.returns.answered(rows, now);
        }
    }

    /// Returns what is known of a pool's costs: for each size of rows its elements, its price, and how many batches that
    /// rests on.
    pub fn prices(&self, pool: PoolId) -> Vec<(usize, Price, f64)> {
        self.pools.get(pool).map_or_else(Vec::new, |known| known.prices.all().collect())
    }

    /// Forgets what was learned of a pool that is gone.
    pub fn forget(&mut self, pool: PoolId) {
        self.note(pool, Look::Idle);
        self.unlearn(pool);
    }

    /// Forgets what was learned of a pool whose block is another one.
    pub fn unlearn(&mut self, pool: PoolId) {
        self.pools.forget(pool);
    }
}
