//! The world: devices, a virtual clock, and for each device a rule that says what runs next.

use crate::device::Cost;
use crate::result::Outcome;
use crate::task::{Nanos, Task};
use crate::workload::Workload;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tasks that run together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) model: u32,
    pub(crate) tasks: Vec<Task>,
    /// What the rule remembers of it.
    pub(crate) note: u64,
}

impl Batch {
    pub(crate) fn elements(&self) -> u32 {
        self.tasks.iter().map(|task| task.elements).max().unwrap_or(0)
    }

    pub(crate) fn time(&self, cost: &Cost) -> Nanos {
        cost.of(self.tasks.len(), self.elements())
    }
}

/// What a rule wants.
pub(crate) enum Act {
    /// This batch is the next one on the device. Asked of a device that is busy, it is gathered meanwhile.
    Cut(Batch),
    /// To be asked again then.
    At(Nanos),
    /// To be asked again when something has happened.
    Wait,
}

/// A rule by which tasks are batched and ordered.
pub(crate) trait Rule {
    /// A task arrives. Returns false if it is refused.
    fn arrive(&mut self, task: &Task, now: Nanos) -> bool;

    /// What to do now. `busy` is true while a batch runs and none is gathered: what is cut then runs next.
    fn next(&mut self, now: Nanos, busy: bool) -> Act;

    /// A batch begins on the device.
    fn began(&mut self, _batch: &Batch, _now: Nanos) {}

    /// A batch is over, after so long on the device.
    fn ended(&mut self, _batch: &mut Batch, _time: Nanos, _now: Nanos) {}

    /// Called when everything has ended.
    fn check(&self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The batch on a device is over.
    Done(usize),
    /// The rule of a device wants to be asked.
    Ask(usize),
    /// A caller sends a task.
    Caller(u32),
}

/// What is to happen, in order.
#[derive(Default)]
struct Events {
    heap: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    number: u64,
}

impl Events {
    fn plan(&mut self, at: Nanos, event: Event) {
        self.number += 1;
        self.heap.push(Reverse((at, self.number, event)));
    }

    fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop(&mut self, now: Nanos) -> Option<Event> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse((.., event))| event)
    }
}

/// A device with a rule of its own.
struct Site<'a> {
    rule: &'a mut dyn Rule,
    running: Option<(Batch, Nanos)>,
    ahead: Option<Batch>,
    asked: Option<Nanos>,
}

impl Site<'_> {
    fn begin(&mut self, at: usize, batch: Batch, now: Nanos, cost: &Cost, events: &mut Events) {
        self.rule.began(&batch, now);
        events.plan(now + batch.time(cost), Event::Done(at));
        self.running = Some((batch, now));
    }

    /// The device takes what is gathered, and the rule is asked for as long as there is room.
    fn work(&mut self, at: usize, now: Nanos, cost: &Cost, events: &mut Events) {
        loop {
            if self.running.is_none()
                && let Some(batch) = self.ahead.take()
            {
                self.begin(at, batch, now, cost, events);
            }
            if self.running.is_some() && self.ahead.is_some() {
                return;
            }
            match self.rule.next(now, self.running.is_some()) {
                Act::Cut(batch) if self.running.is_some() => self.ahead = Some(batch),
                Act::Cut(batch) => self.begin(at, batch, now, cost, events),
                Act::At(time) => {
                    if self.asked.is_none_or(|asked| time < asked) {
                        self.asked = Some(time);
                        events.plan(time.max(now + 1), Event::Ask(at));
                    }
                    return;
                }
                Act::Wait => return,
            }
        }
    }
}

/// Runs a workload on as many devices as there are rules, one for each. Tasks go to the devices in turn.
pub(crate) fn run(workload: &Workload, rules: &mut [Box<dyn Rule>]) -> Outcome {
    let cost = workload.cost;
    let mut outcome = Outcome::new(workload);
    let mut events = Events::default();
    for (caller, at) in (0u32..).zip(workload.callers.iter().map(|caller| caller.from)) {
        events.plan(at, Event::Caller(caller));
    }
    let mut sites: Vec<Site<'_>> = rules
        .iter_mut()
        .map(|rule| Site { rule: &mut **rule, running: None, ahead: None, asked: None })
        .collect();
    let devices = sites.len();
    let mut turn = 0;
    let mut arrive = |sites: &mut [Site<'_>], outcome: &mut Outcome, task: &Task, now: Nanos| {
        outcome.arrived(task);
        if !sites[turn % devices].rule.arrive(task, now) {
            outcome.refused(task);
        }
        turn += 1;
    };
    let mut arrivals = workload.tasks.iter().peekable();
    let mut next_id = u32::try_from(workload.tasks.len()).unwrap_or(u32::MAX);
    let mut now = 0;
    loop {
        let arrival = arrivals.peek().map(|task| task.arrived);
        now = match (arrival, events.next()) {
            (None, None) => break,
            (Some(at), None) | (None, Some(at)) => at,
            (Some(one), Some(other)) => one.min(other),
        };
        let mut answered = Vec::new();
        while let Some(event) = events.pop(now) {
            match event {
                Event::Done(at) => {
                    if let Some((mut batch, since)) = sites[at].running.take() {
                        sites[at].rule.ended(&mut batch, now - since, now);
                        outcome.ran(&batch, now - since, now);
                        answered.extend(batch.tasks.iter().filter_map(|task| task.caller));
                    }
                }
                Event::Ask(at) => sites[at].asked = None,
                Event::Caller(at) if now < workload.end => {
                    let caller = &workload.callers[at as usize];
                    let task = Task {
                        id: next_id,
                        model: caller.model,
                        flow: caller.flow,
                        priority: caller.priority,
                        elements: caller.elements,
                        arrived: now,
                        objective: Nanos::MAX / 4,
                        caller: Some(at),
                    };
                    next_id += 1;
                    arrive(&mut sites, &mut outcome, &task, now);
                }
                Event::Caller(_) => {}
            }
        }
        while let Some(task) = arrivals.next_if(|task| task.arrived <= now) {
            arrive(&mut sites, &mut outcome, task, now);
        }
        for caller in answered {
            events.plan(now + workload.callers[caller as usize].thinks, Event::Caller(caller));
        }
        for (at, site) in sites.iter_mut().enumerate() {
            site.work(at, now, &cost, &mut events);
        }
    }
    for site in &sites {
        site.rule.check();
    }
    outcome.over(now);
    outcome
}
