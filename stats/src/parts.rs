//! The tasks of a pool by their class and by their flow: one p99 over urgent and background work says nothing.
//!
//! Most pools have tasks of one class and one flow, and then all that is to be known of it is known of the pool. So nothing
//! is counted twice before a second one comes.

use crate::summary::Distribution;
use skep_runtime_core::{BatchEvent, Flow, Priority, TaskHeader};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most classes, and the most flows, that are told apart. Those that come later are counted together.
pub(crate) const MOST: usize = 256;

/// What is counted of a class or a flow.
#[derive(Clone, Default)]
pub(crate) struct Part {
    pub(crate) rows: u64,
    /// Its share of the device time, by rows.
    pub(crate) device: Duration,
    pub(crate) queue_wait: Distribution,
    pub(crate) end_to_end: Distribution,
}

impl Part {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.device = self.device.saturating_add(other.device);
        self.queue_wait.add(&other.queue_wait);
        self.end_to_end.add(&other.end_to_end);
    }
}

/// Parts by what they are of; `None` stands for all that there was no place for.
pub(crate) type By<K> = BTreeMap<Option<K>, Part>;

/// The classes and flows of a pool.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    /// The class and the flow of all tasks so far.
    only: Option<(Priority, Flow)>,
    /// All of them, once there is more than one of either.
    several: Option<Box<(By<Priority>, By<Flow>)>>,
    /// All tasks count as of one flow.
    one_flow: bool,
}

fn place<K: Ord + Copy>(by: &mut By<K>, key: K) -> &mut Part {
    let known = by.contains_key(&Some(key)) || by.len() < MOST;
    by.entry(known.then_some(key)).or_default()
}

impl Parts {
    /// Parts that are told apart by class, and by flow if these are.
    pub(crate) fn new(flows: bool) -> Self {
        Self { one_flow: !flows, ..Self::default() }
    }

    /// The class and the flow that a task is counted for.
    fn of(&self, task: &TaskHeader) -> (Priority, Flow) {
        (task.priority, if self.one_flow { Flow::default() } else { task.flow })
    }

    /// Returns true if all tasks so far, and those of a batch, are of one class and one flow: there is nothing to count.
    #[inline]
    pub(crate) fn are_of_one(&mut self, event: &BatchEvent<'_>) -> bool {
        let Some(first) = event.tasks.first() else { return true };
        let only = *self.only.get_or_insert(self.of(first));
        self.several.is_none() && event.tasks.iter().all(|task| self.of(task) == only)
    }

    /// Counts a batch. `whole` makes what is known of the pool so far, without this batch.
    pub(crate) fn batch(&mut self, event: &BatchEvent<'_>, whole: impl FnOnce() -> Part) {
        let (Some(only), one_flow) = (self.only, self.one_flow) else { return };
        let (classes, flows) = &mut **self.several.get_or_insert_with(|| {
            let whole = whole();
            let (class, flow) = (Some(only.0), Some(only.1));
            let flows = if one_flow { By::new() } else { By::from([(flow, whole.clone())]) };
            Box::new((By::from([(class, whole)]), flows))
        });
        let per_row = event.device.as_secs_f64() / event.rows.max(1) as f64;
        let ran = event.done.saturating_duration_since(event.cut);
        for task in event.tasks {
            let device = Duration::try_from_secs_f64(per_row * task.rows as f64).unwrap_or_default();
            let waited = task.waited(event.cut);
            let flow = if one_flow { None } else { Some(place(flows, task.flow)) };
            for part in [Some(place(classes, task.priority)), flow].into_iter().flatten() {
                part.rows += task.rows as u64;
                part.device = part.device.saturating_add(device);
                if task.is_first {
                    part.queue_wait.record(waited);
                }
                if task.is_last {
                    part.end_to_end.record(waited.saturating_add(ran));
                }
            }
        }
    }

    /// The classes and the flows of a pool of which `whole` makes what is known; of one with a single one of each, these.
    pub(crate) fn all(&self, whole: impl FnOnce() -> Part) -> (By<Priority>, By<Flow>) {
        match (&self.several, self.only) {
            (Some(several), _) => (**several).clone(),
            (None, Some((class, flow))) => {
                let whole = whole();
                let flows = if self.one_flow { By::new() } else { By::from([(Some(flow), whole.clone())]) };
                (By::from([(Some(class), whole)]), flows)
            }
            (None, None) => Default::default(),
        }
    }

    /// The classes and flows if there is more than one of either.
    pub(crate) fn several(&self) -> Option<(&By<Priority>, &By<Flow>)> {
        self.several.as_deref().map(|(classes, flows)| (classes, flows))
    }

    /// Adds those of another pool. `own` and `others` make what is known of each pool.
    pub(crate) fn add(&mut self, other: &Self, own: impl FnOnce() -> Part, others: impl FnOnce() -> Part) {
        if other.only.is_none() && other.several.is_none() {
            return;
        }
        if self.only.is_none() && self.several.is_none() {
            *self = other.clone();
            return;
        }
        if self.several.is_none() && other.several.is_none() && self.only == other.only {
            return;
        }
        let (mut classes, mut flows) = self.all(own);
        let (other_classes, other_flows) = other.all(others);
        merge(&mut classes, &other_classes);
        merge(&mut flows, &other_flows);
        self.several = Some(Box::new((classes, flows)));
    }
}

fn merge<K: Ord + Copy>(all: &mut By<K>, more: &By<K>) {
    for (key, part) in more {
        match key {
            Some(key) => place(all, *key).add(part),
            None => all.entry(None).or_default().add(part),
        }
    }
}
