//! Turns: how tasks leave whose ranks rise while they wait.

use super::item::{Item, Key, Place};
use super::limit::Limit;
use super::moment::Moment;
use super::riders::Riders;
use super::{Queue, Taken, is_there};
use skep_runtime_core::TaskHeader;
use skep_runtime_core::pool::{Doorbell, Terms};

impl<I: Item<Rank = Place>> Queue<I> {
    /// Takes a batch task by task, because each that leaves raises the ranks of others.
    pub(super) fn take_by_turns(
        &mut self,
        at: usize,
        mut room: Limit,
        terms: &Terms,
        moment: &Moment<'_>,
    ) -> Option<Taken<I>> {
        let bell = moment.rising?;
        let mut run = Vec::new();
        let mut riders = Riders::new(terms);
        while room.rows > 0
            && let Some((key, first)) = self.groups[at].items.first()
        {
            if bell.rank(first.header()) > key.rank.rank() {
                self.raise(at, key, moment);
                continue;
            }
            let is_moot = first.needs_look() && first.is_moot(moment.now);
            let fit = room.rows_of(first);
            let is_too_large = first.rows() > fit;
            if !is_moot
                && !run.is_empty()
                && (is_too_large && (!first.is_divisible() || fit == 0) || !riders.admit(key.rank, first))
            {
                break;
            }
            if !is_moot && run.is_empty() {
                riders.admit(key.rank, first);
            }
            let Some(item) = self.groups[at].items.remove(key) else { break };
            self.count_out(at, key, &item, moment);
            if is_moot {
                self.overdue.push(item);
            } else {
                let part = self.part_of(at, key, item, room, moment);
                room = room.without(&part);
                bell.policy().took(bell.pool(), part.header(), terms.expected(part.header()), run.is_empty());
                run.push(part);
            }
            self.lanes_on(moment);
        }
        self.file(at, moment);
        (!run.is_empty()).then_some(Taken::Some(run))
    }

    /// Gives a task, the rank of which has changed, its new place.
    pub(super) fn raise(&mut self, at: usize, key: Key<Place>, moment: &Moment<'_>) {
        if let (Some(bell), Some(item)) = (moment.rising, self.groups[at].items.remove(key)) {
            let rank = Place::first(bell.rank(item.header()));
            self.note_head(at, Key { rank, ..key }, item.header(), bell);
            self.move_to(at, key, item, rank, moment);
            self.file(at, moment);
        }
    }

    /// Remembers a task first of its lane whose rank may fall.
    pub(super) fn note_head(&mut self, at: usize, key: Key<Place>, task: &TaskHeader, bell: &Doorbell) {
        if key.rank.is_first() && bell.may_fall(task) {
            if self.lanes.are_many() {
                for (at, key) in self.lanes.take_falling() {
                    let item = self.groups.get(at).and_then(|group| group.items.get(key));
                    if item.is_some_and(|item| bell.may_fall(item.header())) {
                        self.lanes.may_fall(at, key);
                    }
                }
                self.lanes.are_looked_through();
            }
            self.lanes.may_fall(at, key);
        }
    }

    /// Gives tasks the ranks that they have now, if these have fallen: a batch is over that took less time than was
    /// expected.
    pub(crate) fn let_fall(&mut self, moment: &Moment<'_>) {
        let Some(bell) = moment.rising else { return };
        for (at, key) in self.lanes.take_falling() {
            let Some(item) = self.groups.get(at).and_then(|group| group.items.get(key)) else { continue };
            if bell.rank(item.header()) < key.rank.rank() {
                // Its new rank may fall again.
                self.raise(at, key, moment);
            } else if bell.may_fall(item.header()) {
                self.lanes.may_fall(at, key);
            }
        }
    }

    /// Lets those be first of their lanes whose first ones have left.
    pub(super) fn lanes_on(&mut self, moment: &Moment<'_>) {
        let Some(bell) = moment.rising else { return };
        while let Some((at, lane)) = self.lanes.headless() {
            let from = Key { rank: Place::behind(lane), seq: 0 };
            let next = self.groups[at].items.first_from(from).map(|(key, _)| key);
            let next = next.filter(|key| key.rank.lane() == lane);
            match next.and_then(|key| Some((key, self.groups[at].items.remove(key)?))) {
                Some((key, item)) => {
                    let rank = Place::first(bell.rank(item.header()));
                    self.note_head(at, Key { rank, ..key }, item.header(), bell);
                    self.move_to(at, key, item, rank, moment);
                }
                None => self.lanes.is_empty(at, lane),
            }
        }
    }

    /// Puts an item that was taken out of its group back at another place.
    fn move_to(&mut self, at: usize, from: Key<Place>, item: I, rank: Place, moment: &Moment<'_>) {
        let key = Key { rank, seq: from.seq };
        self.moved.insert(item.number_at(from), key);
        self.groups[at].left(std::iter::once(&item), moment.options);
        if let Some(deadline) = item.header().deadline {
            let groups = &self.groups;
            self.deadlines.left(1, |place| is_there(groups, place));
            self.deadlines.push(deadline, (at, key));
        }
        self.groups[at].push(key, item, moment.options);
    }

    /// Gives each task the place that the runtime's policy says. Their tickets know the places that they had.
    pub(crate) fn rank_anew(&mut self, moment: &Moment<'_>) {
        for at in 0..self.groups.len() {
            let mut keys: Vec<_> = self.groups[at].items.iter_back().map(|(key, _)| key).collect();
            keys.sort_unstable_by_key(|key| key.seq);
            for key in keys {
                let Some(item) = self.groups[at].items.remove(key) else { continue };
                let place = match moment.rising {
                    Some(bell) => self.lanes.enter(at, item.header(), bell),
                    None => Place::first(moment.rank(item.header())),
                };
                self.move_to(at, key, item, place, moment);
            }
            self.file(at, moment);
        }
    }
}
