//! Skep: the real pools, policies and cuts. Only the clock, the device and the threads are made up.

use crate::task::{Nanos, Task};
use crate::workload::Workload;
use crate::world::{Act, Batch, Rule};
use skep_pool::{PoolOptions, TaskPool};
use skep_runtime_core::pool::{self, Doorbell, Look, Policy, Pool, Ran, Ring, Settled};
use skep_runtime_core::selector::{Next, Selector, Timing};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{
    Aging, Classes, Clock, DType, DeviceError, Dim, Dims, EarliestDeadline, Fair, Flow, Forecast, HostTensor,
    OldestFirst, Pass, PoolId, Priority, Request, RuntimeId, Schema, TaskHeader, TensorInfo, TensorOps,
    TensorSpec, Ticket,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The order of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    OldestFirst,
    Fair,
    ClassesOfFair,
    /// A level of priority is worth so many milliseconds.
    Aging(u64),
    EarliestDeadline,
}

/// What is chosen of Skep's options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) name: &'static str,
    pub(crate) order: Order,
    pub(crate) just_in_time: bool,
    pub(crate) linger: bool,
    /// Objectives are deadlines, for the answer.
    pub(crate) objectives: bool,
    pub(crate) riders: f64,
    /// Weights of flows, by number from 1 on; 1 for the others.
    pub(crate) weights: &'static [f64],
}

impl Options {
    pub(crate) const DEFAULT: Self = Self {
        name: "skep",
        order: Order::OldestFirst,
        just_in_time: true,
        linger: true,
        objectives: false,
        riders: 0.1,
        weights: &[],
    };

    pub(crate) const OBJECTIVES: Self =
        Self { name: "skep-objectives", order: Order::EarliestDeadline, objectives: true, ..Self::DEFAULT };

    pub(crate) const FAIR: Self = Self { name: "skep-fair", order: Order::Fair, ..Self::DEFAULT };

    pub(crate) const fn name(self) -> &'static str {
        self.name
    }

    fn policy(self) -> Arc<dyn Policy> {
        let fair = || {
            let weights = (1u32..).zip(self.weights);
            weights.fold(Fair::new(), |fair, (flow, weight)| fair.weight(Flow(flow), *weight))
        };
        match self.order {
            Order::OldestFirst => Arc::new(OldestFirst),
            Order::Fair => Arc::new(fair()),
            Order::ClassesOfFair => Arc::new(Classes::of(fair())),
            Order::Aging(millis) => Arc::new(Aging::new(Duration::from_millis(millis))),
            Order::EarliestDeadline => Arc::new(EarliestDeadline::new()),
        }
    }
}

/// A tensor of one row: the number of its task, and its elements.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: u32,
    elements: u32,
}

/// Describes rows, and never cuts or joins any.
struct Rows;

impl TensorOps for Rows {
    type Tensor = Row;

    fn describe(&self, row: &Row) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: DType::U32, dims: Dims::from_slice(&[1, row.elements as usize]) })
    }

    fn join(&self, _: Vec<Row>) -> Result<Row, DeviceError> {
        Err(DeviceError::operation("rows are not joined".to_owned()))
    }

    fn split(&self, _: &Row, _: &[usize]) -> Result<Vec<Row>, DeviceError> {
        Err(DeviceError::operation("rows are not split".to_owned()))
    }

    fn index_outside(&self, _: &Row, _: u64) -> Result<Option<i64>, DeviceError> {
        Ok(None)
    }

    fn from_host(&self, _: &HostTensor) -> Result<Row, DeviceError> {
        Err(DeviceError::operation("rows have no bytes".to_owned()))
    }

    fn to_host(&self, _: &Row) -> Result<HostTensor, DeviceError> {
        Err(DeviceError::operation("rows have no bytes".to_owned()))
    }
}

/// What the pools have told.
#[derive(Default)]
struct Bell {
    rung: Vec<PoolId>,
    expire: BinaryHeap<Reverse<(Instant, PoolId)>>,
}

#[derive(Default)]
struct Bells(Mutex<Bell>);

impl Bells {
    fn with<R>(&self, with: impl FnOnce(&mut Bell) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ring for Bells {
    fn ring(&self, pool: PoolId) {
        self.with(|bell| bell.rung.push(pool));
    }

    fn expire_at(&self, pool: PoolId, at: Instant) {
        self.with(|bell| bell.expire.push(Reverse((at, pool))));
    }
}

/// A batch on its way.
struct Flight {
    pool: PoolId,
    headers: Vec<TaskHeader>,
    replies: Vec<pool::Reply<Row>>,
    forecast: Forecast,
}

pub(crate) struct Skep {
    options: Options,
    clock: Arc<ManualClock>,
    start: Instant,
    passed: Nanos,
    bells: Arc<Bells>,
    runtime: RuntimeId,
    pools: Vec<TaskPool<Rows>>,
    queues: Vec<Arc<dyn Pool<Row>>>,
    selector: Selector,
    tasks: HashMap<u32, (Task, Ticket<Row>)>,
    flights: HashMap<u64, Flight>,
    next_flight: u64,
}

impl Skep {
    pub(super) fn new(workload: &Workload, options: Options) -> Self {
        let (clock, bells, policy) = (ManualClock::new(), Arc::new(Bells::default()), options.policy());
        let timing = Timing {
            just_in_time: options.just_in_time,
            linger: options.linger,
            riders: options.riders,
            ..Timing::default()
        };
        let schema =
            Schema::new(vec![TensorSpec::new("x", DType::U32, [Dim::Batch, Dim::free("elements", 1 << 20)])])
                .unwrap_or_else(|error| panic!("a schema: {error}"));
        let runtime = RuntimeId::next();
        let pools: Vec<_> = (0..workload.models)
            .map(|model| {
                let pool_options = PoolOptions::default()
                    .max_rows(workload.max_rows)
                    .capacity(1 << 30)
                    .answer_in_time(options.objectives);
                let (ops, clock) = (Arc::new(Rows), Arc::clone(&clock) as Arc<dyn Clock>);
                TaskPool::new(
                    format!("model.{model}"),
                    Pass::Forward,
                    ops,
                    schema.clone(),
                    pool_options,
                    clock,
                )
                .unwrap_or_else(|error| panic!("options: {error}"))
            })
            .collect();
        let queues: Vec<_> = pools.iter().map(TaskPool::as_pool).collect();
        for (at, queue) in (0u32..).zip(&queues) {
            let ring = Arc::clone(&bells) as Arc<dyn Ring>;
            let (clock, policy) = (Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&policy));
            queue.claim(runtime);
            queue.attach(Doorbell::new(PoolId::new(at), runtime, Duration::ZERO, clock, policy, ring));
        }
        Self {
            options,
            start: clock.now(),
            passed: 0,
            selector: Selector::new(policy, timing),
            clock,
            bells,
            runtime,
            pools,
            queues,
            tasks: HashMap::new(),
            flights: HashMap::new(),
            next_flight: 0,
        }
    }

    /// Moves the clock, and lets expire what expires.
    fn at(&mut self, now: Nanos) -> Instant {
        if now > self.passed {
            self.clock.advance(Duration::from_nanos(now - self.passed));
            self.passed = now;
        }
        let now = self.instant(now);
        while let Some(pool) = self.bells.with(|bell| {
            let Reverse((at, pool)) = *bell.expire.peek()?;
            (at <= now).then(|| bell.expire.pop()).flatten().map(|_| pool)
        }) {
            let expired = self.queues[pool.index()].expire(self.runtime, now);
            Settled::deliver_all(&mut { expired.settled });
            if let Some(next) = expired.next {
                self.bells.expire_at(pool, next);
            }
        }
        now
    }

    fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from_nanos(at)
    }

    fn nanos(&self, at: Instant) -> Nanos {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Rule for Skep {
    fn arrive(&mut self, task: &Task, now: Nanos) -> bool {
        self.at(now);
        let mut request = Request::new(vec![Row { id: task.id, elements: task.elements }])
            .priority(Priority(task.priority))
            .flow(Flow(task.flow));
        if self.options.objectives {
            request = request.deadline(Duration::from_nanos(task.objective));
        }
        match self.pools[task.model as usize].try_submit(request) {
            Ok(ticket) => {
                self.tasks.insert(task.id, (*task, ticket));
                true
            }
            Err(_) => false,
        }
    }

    fn next(&mut self, now: Nanos, _: bool) -> Act {
        let instant = self.at(now);
        for pool in self.bells.with(|bell| std::mem::take(&mut bell.rung)) {
            let look = self.queues[pool.index()].look(instant, usize::MAX);
            self.selector.note(pool, look);
        }
        while let Some(pool) = self.selector.next_fallen() {
            let look = self.queues[pool.index()].look_again(instant, usize::MAX);
            self.selector.note(pool, look);
        }
        while let Some((_, pool)) = self.selector.next_look().filter(|(time, _)| *time <= instant) {
            let look = self.queues[pool.index()].look(instant, usize::MAX);
            self.selector.note_looked_at(pool, look, instant);
        }
        loop {
            let choice = match self.selector.next(instant, |_| usize::MAX) {
                Next::Cut(choice) => choice,
                next => {
                    if let Some(pool) = self.selector.waits_for()
                        && let Some(rows) = self.selector.take_wanted(pool)
                    {
                        self.queues[pool.index()].wake_at(rows);
                    }
                    let until = if let Next::Wait(until) = next { Some(until) } else { None };
                    let look = self.selector.next_look().map(|(time, _)| time);
                    let at = until.into_iter().chain(look).min();
                    return at.map_or(Act::Wait, |at| Act::At(self.nanos(at)));
                }
            };
            let mut look = Look::Idle;
            let batch = self.queues[choice.pool.index()].cut_if(choice.rank, &choice.terms, &mut look);
            let Some(batch) = batch else {
                self.selector.note(choice.pool, look);
                continue;
            };
            let headers: Vec<_> = batch.tasks.iter().map(|task| task.header).collect();
            let forecast = self.selector.was_cut(&choice, &headers, look, false);
            let rows = batch.columns.into_iter().next().unwrap_or_default();
            let tasks: Vec<Task> =
                rows.iter().filter_map(|row: &Row| self.tasks.get(&row.id).map(|(task, _)| *task)).collect();
            assert_eq!(tasks.len(), headers.len(), "each task once");
            self.next_flight += 1;
            let replies = batch.tasks.into_iter().map(|task| task.reply).collect();
            self.flights.insert(self.next_flight, Flight { pool: choice.pool, headers, replies, forecast });
            let model = u32::try_from(choice.pool.index()).unwrap_or(0);
            return Act::Cut(Batch { model, tasks, note: self.next_flight });
        }
    }

    fn began(&mut self, batch: &Batch, now: Nanos) {
        let instant = self.at(now);
        if let Some(flight) = self.flights.get(&batch.note)
            && let Some(price) = flight.forecast.price
        {
            self.selector.gathered(flight.pool, flight.headers.len(), Duration::ZERO);
            self.selector.is_due(flight.headers.len(), price);
            self.selector.began(flight.pool, flight.headers.len(), price, instant);
        }
    }

    fn ended(&mut self, batch: &mut Batch, time: Nanos, now: Nanos) {
        let instant = self.at(now);
        let Some(flight) = self.flights.remove(&batch.note) else { return };
        let device = Duration::from_nanos(time);
        let forecast = &flight.forecast;
        let ran = Ran::new(flight.pool, &flight.headers, forecast.per_row, device, instant)
            .elements(forecast.elements);
        self.selector.ended(&ran, &flight.forecast, true);
        for (reply, task) in flight.replies.into_iter().zip(&batch.tasks) {
            reply.answer(Ok(Vec::new()));
            let answered = self.tasks.remove(&task.id);
            assert!(
                answered.is_some_and(|(_, ticket)| ticket.is_done()),
                "task {} was not answered",
                task.id
            );
        }
        if flight.forecast.price.is_some() {
            self.selector.answered(flight.pool, flight.headers.len(), instant);
        }
        if self.flights.is_empty() {
            self.selector.idle();
        }
    }

    fn check(&self) {
        let open = self.tasks.values().filter(|(_, ticket)| !ticket.is_done()).count();
        assert_eq!(open, 0, "tasks were lost");
    }
}
