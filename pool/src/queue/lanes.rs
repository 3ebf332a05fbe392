//! Lanes: tasks of a group that a policy whose ranks rise tells apart from others, in the order of submission.
//!
//! Only the first one of a lane has a rank of its own, so what rises with each batch is filed anew once a lane, not once a
//! task.

use super::item::{Key, Place};
use skep_runtime_core::TaskHeader;
use skep_runtime_core::pool::{Doorbell, Lane};
use std::collections::HashMap;

/// So many tasks whose ranks may fall are not looked through.
const FEW: usize = 64;

#[derive(Default)]
pub(crate) struct Lanes {
    /// By group, the number of each lane that is not empty.
    numbers: HashMap<(usize, Lane), u32>,
    /// The other way round.
    by_number: HashMap<(usize, u32), Lane>,
    /// Those the first task of which has left.
    headless: Vec<(usize, u32)>,
    /// Tasks first of their lanes whose ranks may fall.
    falling: Vec<(usize, Key<Place>)>,
    /// So many of them were left when those were last forgotten whose ranks do not fall any more.
    kept: usize,
    next: u32,
}

impl Lanes {
    /// The place of a task that enters a group.
    pub(crate) fn enter(&mut self, at: usize, task: &TaskHeader, bell: &Doorbell) -> Place {
        let key = (at, bell.policy().facts().lane(task));
        if let Some(number) = self.numbers.get(&key) {
            return Place::behind(*number);
        }
        loop {
            // Zero is nobody's.
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !self.by_number.contains_key(&(at, self.next)) {
                break;
            }
        }
        self.numbers.insert(key, self.next);
        self.by_number.insert((at, self.next), key.1);
        Place::first(bell.rank(task))
    }

    /// The first task of its lane has left.
    pub(crate) fn left(&mut self, at: usize, task: &TaskHeader, bell: &Doorbell) {
        if let Some(number) = self.numbers.get(&(at, bell.policy().facts().lane(task))) {
            self.headless.push((at, *number));
        }
    }

    /// A lane that needs a first task.
    pub(crate) fn headless(&mut self) -> Option<(usize, u32)> {
        self.headless.pop()
    }

    /// A task has got a rank that may fall.
    pub(crate) fn may_fall(&mut self, at: usize, key: Key<Place>) {
        self.falling.push((at, key));
    }

    /// Those whose ranks may have fallen. Some may have left, or may have got another place.
    pub(crate) fn take_falling(&mut self) -> Vec<(usize, Key<Place>)> {
        std::mem::take(&mut self.falling)
    }

    /// Returns true if many of them may be out of date.
    pub(crate) fn are_many(&self) -> bool {
        self.falling.len() > 2 * self.kept + FEW
    }

    /// Notes that none of them is out of date.
    pub(crate) fn are_looked_through(&mut self) {
        self.kept = self.falling.len();
    }

    /// There is nobody in a lane.
    pub(crate) fn is_empty(&mut self, at: usize, number: u32) {
        if let Some(lane) = self.by_number.remove(&(at, number)) {
            self.numbers.remove(&(at, lane));
        }
    }
}
