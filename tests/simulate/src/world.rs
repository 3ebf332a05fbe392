//! The world: one device, a virtual clock, and a rule that says what runs next.

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
    /// The batch on the device is over.
    Done,
    /// The rule wants to be asked.
    Ask,
    /// A caller sends a task.
    Caller(u32),
}

/// Runs a workload by a rule.
pub(crate) fn run(workload: &Workload, rule: &mut dyn Rule) -> Outcome {
    let cost = workload.cost;
    let mut outcome = Outcome::new(workload);
    let mut events: BinaryHeap<Reverse<(Nanos, u64, Event)>> = BinaryHeap::new();
    let mut number = 0;
    let mut plan = |events: &mut BinaryHeap<_>, at: Nanos, event: Event| {
        number += 1;
        events.push(Reverse((at, number, event)));
    };
    for (caller, at) in (0u32..).zip(workload.callers.iter().map(|caller| caller.from)) {
        plan(&mut events, at, Event::Caller(caller));
    }
    let mut arrivals = workload.tasks.iter().peekable();
    let (mut running, mut ahead): (Option<(Batch, Nanos)>, Option<Batch>) = (None, None);
    let mut asked = None;
    let mut next_id = u32::try_from(workload.tasks.len()).unwrap_or(u32::MAX);
    let mut now = 0;
    loop {
        let arrival = arrivals.peek().map(|task| task.arrived);
        let event = events.peek().map(|Reverse((at, ..))| *at);
        now = match (arrival, event) {
            (None, None) => break,
            (Some(at), None) | (None, Some(at)) => at,
            (Some(one), Some(other)) => one.min(other),
        };
        let mut answered = Vec::new();
        while let Some(Reverse((_, _, event))) = events.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            events.pop();
            match event {
                Event::Done => {
                    if let Some((mut batch, since)) = running.take() {
                        rule.ended(&mut batch, now - since, now);
                        outcome.ran(&batch, now - since, now);
                        answered.extend(batch.tasks.iter().filter_map(|task| task.caller));
                    }
                }
                Event::Ask => asked = None,
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
                    outcome.arrived(&task);
                    if !rule.arrive(&task, now) {
                        outcome.refused(&task);
                    }
                }
                Event::Caller(_) => {}
            }
        }
        while let Some(task) = arrivals.next_if(|task| task.arrived <= now) {
            outcome.arrived(task);
            if !rule.arrive(task, now) {
                outcome.refused(task);
            }
        }
        for caller in answered {
            plan(&mut events, now + workload.callers[caller as usize].thinks, Event::Caller(caller));
        }
        // The device takes what is gathered, and the rule is asked for as long as there is room.
        loop {
            if running.is_none()
                && let Some(batch) = ahead.take()
            {
                begin(rule, batch, now, cost, &mut running, &mut events, &mut plan);
            }
            if running.is_some() && ahead.is_some() {
                break;
            }
            match rule.next(now, running.is_some()) {
                Act::Cut(batch) if running.is_some() => ahead = Some(batch),
                Act::Cut(batch) => begin(rule, batch, now, cost, &mut running, &mut events, &mut plan),
                Act::At(at) => {
                    if asked.is_none_or(|asked| at < asked) {
                        asked = Some(at);
                        plan(&mut events, at.max(now + 1), Event::Ask);
                    }
                    break;
                }
                Act::Wait => break,
            }
        }
    }
    rule.check();
    outcome.over(now);
    outcome
}

fn begin(
    rule: &mut dyn Rule,
    batch: Batch,
    now: Nanos,
    cost: Cost,
    running: &mut Option<(Batch, Nanos)>,
    events: &mut BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    plan: &mut impl FnMut(&mut BinaryHeap<Reverse<(Nanos, u64, Event)>>, Nanos, Event),
) {
    rule.began(&batch, now);
    plan(events, now + batch.time(&cost), Event::Done);
    *running = Some((batch, now));
}
